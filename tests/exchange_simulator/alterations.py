"""Changes of one place in the JSON of a reply: what stands there is replaced, or taken out."""

import json
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
_MARK = "@@what is put there@@"


def places(body: bytes) -> list[tuple[Path, Any]]:
    """Return every place of a reply and what stands there; none if it is no JSON."""
    try:
        return list(_places(json.loads(body), ()))
    except ValueError:
        return []


def _places(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:3]):
            yield from _places(inner, (*path, number))


def altered(body: bytes, path: Path, text: str | None) -> bytes:
    """Return the reply with ``text`` at a place, whatever it is; None takes the place out."""
    told = json.loads(body)
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    if text is None:
        del inner[path[-1]]
        return json.dumps(told).encode()
    inner[path[-1]] = _MARK
    return json.dumps(told).replace(json.dumps(_MARK), text).encode()


def renamed(body: bytes, fields: dict[str, Any]) -> bytes:
    """Return the reply with new values for the given names, wherever these stand."""
    return json.dumps(_renamed(json.loads(body), fields)).encode()


def _renamed(value: Any, fields: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_renamed(one, fields) for one in value]
    if isinstance(value, dict):
        return {name: fields.get(name, _renamed(one, fields)) for name, one in value.items()}
    return value
