"""Sentences for JSON that cannot be decoded: which field, what it is, what it must be.

The library's own texts speak of Python types and regular expressions; nobody but this module
shows or reads them.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from worker.domain.nearest import hint

#: More of a wrong value is not shown.
MAX_SHOWN: Final = 60
MAX_NAME_SHOWN: Final = 64
_AT_BYTE: Final = re.compile(r"^JSON is malformed: (.*) \(byte (\d+)\)$")
_FIELD: Final = re.compile(r"^\.([^.\[]*)")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$")
_PLAIN_RULES: Final[Mapping[type[inspect.Type], str]] = {
    inspect.BoolType: "true or false",
    inspect.DateTimeType: "a date and time with its zone, as 2026-01-31T12:00:00Z",
    inspect.DecimalType: "a decimal number",
}
#: What a JSON value is by its first byte.
_KINDS: Final[Mapping[bytes, str]] = {
    b"[": "a list", b'"': "text", b"t": "true", b"f": "false", b"n": "null",
}  # fmt: skip


def why_not_json(error: Exception) -> str:
    """Return in words why a text is not JSON."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if found := _AT_BYTE.match(str(error)):
        return f"{found[1]} at byte {found[2]}"
    return "it ends too early" if "truncated" in str(error) else str(error)


def complaint(
    error: msgspec.ValidationError,
    data: bytes,
    struct: type[msgspec.Struct],
    rules: Mapping[str, str] | None = None,
) -> str:
    """Return what is wrong with a JSON object, beginning with the name of the field.

    Args:
        error: the library's, for the first thing it found wrong.
        data: the object as it was given.
        struct: what it was to be.
        rules: words for fields whose rule a type does not say well.
    """
    problem, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    known = rules_of(struct) | dict(rules or {})
    if not path and (found := _UNKNOWN.match(problem)):
        name = found[1][:MAX_NAME_SHOWN]
        return f"{name}: there is no such field{hint(name, known)}"
    if not path and (found := _MISSING.match(problem)):
        return f"{found[1]}: it is missing, and must be {known.get(found[1], 'given')}"
    field = _FIELD.match(path)
    if field is None:
        kind = _KINDS.get(data.lstrip()[:1], "a number")
        return f"data: not a JSON object: it is {kind}"
    name = field[1]
    shown = _shown(name, data)
    return f"{name}: {shown + ' is ' if shown else ''}not {known.get(name, 'as it must be')}"


def _shown(name: str, data: bytes) -> str:
    """Return a field's value as it was written, shortened; empty where it cannot be found."""
    try:
        pairs: list[tuple[str, Any]] = json.loads(data, object_pairs_hook=list)
        if sum(other == name for other, _ in pairs) != 1:
            return ""
        written = msgspec.json.decode(data, type=dict[str, msgspec.Raw])[name]
    except (ValueError, KeyError, RecursionError, msgspec.MsgspecError):
        return ""
    text = " ".join(bytes(written).decode(errors="backslashreplace").split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


@cache
def rules_of(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return for each field of a struct what it must be, as the end of a sentence "must be ..."."""
    about = inspect.type_info(struct)
    assert isinstance(about, inspect.StructType)  # noqa: S101 (by the parameter's type)
    return {field.encode_name: _rule(field.type) for field in about.fields}


def _rule(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=types):
            return _rule(next(t for t in types if not isinstance(t, inspect.NoneType)))
        case inspect.Metadata(type=inner):
            return _rule(inner)
        case inspect.StrType(pattern=pattern, min_length=least, max_length=most):
            if pattern or most is None:
                return f"text of the form {pattern}" if pattern else "text"
            return f"text of {f'{least} to' if least else 'at most'} {most} characters"
        case inspect.FloatType(ge=least, le=most) | inspect.IntType(ge=least, le=most):
            bounds = f" from {least:g} to {most:g}" if None not in {least, most} else ""
            return f"a number{bounds}"
        case inspect.EnumType(cls=cls):
            return f"one of {', '.join(str(member.value) for member in cls)}"
    return _PLAIN_RULES.get(type(kind), "a JSON object")
