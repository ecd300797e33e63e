"""The golden files of one account: what its streams, keys and commands showed in the day."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from tests.acceptance.golden_desk import GROUP, OUTPUT_STREAMS, Desk
from tests.acceptance.golden_form import Answer, Form, flatten_ids, in_order

#: The account's own streams and hash that other programs read (contract, section 1).
PUBLIC_KEYS: Final = frozenset({"signals", "orders", "positions", "system", "dead", "control"})


def record(desk: Desk) -> dict[str, Any]:
    """Return the content of an account's golden files, by the file's name without its account."""
    desk.until_dead(0)
    raw = {
        stream: list(desk.redis.xrange(desk.key(stream))) for stream in (*OUTPUT_STREAMS, "dead")
    }
    flattened = sorted(flatten_ids(one["subject"] for _, one in raw["orders"]), key=len)
    sent = [*desk.sent, *sorted(flattened)]
    listed: dict[str, list[tuple[str, dict[str, str]]]] = {
        "orders": in_order(raw["orders"], sent),
        "positions": in_order(raw["positions"], sent),
        "system": in_order(raw["system"], sent),
        "dead": raw["dead"],
    }
    places = {stream: [entry_id for entry_id, _ in one] for stream, one in listed.items()}
    places["dead"] = desk.dead_ids
    places["signals"] = [entry_id for entry_id, _ in desk.redis.xrange(desk.key("signals"))]
    form = Form(desk.account, places=places, flatten_ids=flattened)
    files: dict[str, Any] = {
        f"stream-{stream}": [_entry(fields, form) for _, fields in entries]
        for stream, entries in listed.items()
        if entries
    }
    files["keys"] = _keys(desk, raw, form)
    if desk.http:
        files["http"] = desk.http
    if desk.actions:
        files["commands-that-act"] = [
            form.answer(one, "dead" if one.command[0] == "dead" else "signals")
            for one in desk.actions
        ]
    for name, answers in desk.answers.items():
        files[name] = {label: _answer(name, one, form, places) for label, one in answers.items()}
    return files


def _entry(fields: dict[str, str], form: Form) -> dict[str, Any]:
    """Show a stream entry: all its fields; ``data`` decoded where it is a JSON object."""
    shown: dict[str, Any] = {name: form.text(value) for name, value in fields.items()}
    if "type" in fields and "id" in fields:
        shown["data"] = form.value(json.loads(fields["data"]))
    return shown


def _answer(name: str, answer: Answer, form: Form, places: dict[str, list[str]]) -> Any:
    if name == "command-tail":
        answer = _sorted_tail(answer, places)
    return form.answer(answer, "dead" if name == "command-dead" else "signals")


def _sorted_tail(answer: Answer, places: dict[str, list[str]]) -> Answer:
    """List what ``tail --json`` said stream by stream, each as its golden file lists it."""
    by_stream: dict[str, dict[str, str]] = {}
    for line in answer.stdout.splitlines():
        shown = json.loads(line)
        by_stream.setdefault(shown["stream"], {})[shown["entry_id"]] = line
    kept = []
    for stream, lines in sorted(by_stream.items()):
        # A dead letter shows the id of its signal's entry in place of its own.
        ids = lines if stream == "dead" else places[stream]
        kept += [lines[entry_id] for entry_id in ids if entry_id in lines]
    return answer._replace(stdout="".join(f"{line}\n" for line in kept))


#: Names of keys that are there only while somebody works, or an order rests.
PASSING: Final = re.compile(
    r"(agenda|turns|turn-token|entries|leases|live|exchange-ids|resting-markets)$"
    r"|(applied|order|resting):"
).match


def _keys(desk: Desk, raw: dict[str, Any], form: Form) -> dict[str, Any]:
    """Show every key with its type; of the public ones, which fields they have."""
    prefix = desk.key("")
    types = {
        name: kind
        for key, kind in desk.keys.items()
        if not PASSING(name := key.removeprefix(prefix))
    }
    public: dict[str, Any] = {}
    for name in sorted(PUBLIC_KEYS & types.keys()):
        shown: dict[str, Any] = {"type": types[name]}
        public[desk.key(name)] = shown
        if name == "control":
            control = desk.redis.hgetall(desk.key(name))
            shown["fields"] = {field: form.text(value) for field, value in control.items()}
        elif name != "signals":
            shown["fields"] = _field_names(fields for _, fields in raw[name])
    groups = [group["name"] for group in desk.redis.xinfo_groups(desk.key("signals"))]
    assert groups == [GROUP]
    internal = {
        _key_pattern(name, form): kind for name, kind in types.items() if name not in PUBLIC_KEYS
    }
    return {"public": public, "groups of signals": groups, "internal": internal}


def _field_names(entries: Iterable[dict[str, str]]) -> list[str]:
    """Return every set of field names, in the order the fields stand in an entry."""
    return sorted({", ".join(fields) for fields in entries})


def _key_pattern(name: str, form: Form) -> str:
    kind, _, rest = name.partition(":")
    if kind == "day":
        return f"{kind}:<number>"
    if kind == "replayed":
        return f"{kind}:<entry>"
    if kind == "corrected":
        return f"{kind}:<request>"
    return f"{kind}:{form.text(rest)}" if rest else kind
