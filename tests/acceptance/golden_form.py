"""What is recorded of a day, with everything replaced that differs from one run to the next.

The list of replacements is complete: ``NUMBERS``, ``PUBLISHED``, ``LOCAL`` and ``_TEXTS`` below,
ids of stream entries, and ids that ``flatten`` makes from the time. Everything else is pinned
literally.
"""

import getpass
import json
import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

#: Durations, ages and delays, by the name of their field: ``<number>``.
NUMBERS: Final = frozenset(
    {
        "age_ms",
        "latency_ms",
        "loop_lag_ms",
        "not_before_ms",
        "oldest_pending_age_ms",
        "oldest_unseen_age_ms",
        "silent_ms",
    }
)
#: Values that depend on when the keeper published last: ``<published>``, also where there is none.
PUBLISHED: Final = frozenset({"compared_age_ms", "mark", "sheet_age_ms", "unrealized_pnl", "used"})
#: Texts that depend on this program's version or this machine, and what stands for them.
LOCAL: Final[Mapping[str, str]] = {
    "version": "<version>", "config_digest": "<digest>", "host": "<host>",
}  # fmt: skip
#: What client order ids are made from (RFC 9562, section 5.5); fixed for all time.
_NAMESPACE: Final = uuid.UUID("6f1f2d7e-90a5-5c57-8a30-3f1c7f2f5b11")
_HOST: Final = re.escape(socket.gethostname())


#: A line of `check` that depends on how this machine's Python was built.
_SLOW_PYTHON: Final = "warn  python"
#: How its line goes on where it is too long for the screen; no other line of the day is.
_CONTINUED: Final = " " * 27


def _user() -> str:
    """Return the user's name, the number where a container has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


_USER: Final = re.escape(_user())
_ENTRY_ID: Final = re.compile(r"(?<![\w.-])(1\d{12}-\d+)(?![\w.-])")
#: Patterns in any text, in this order, and what stands for them.
_TEXTS: Final[tuple[tuple["re.Pattern[str]", str], ...]] = (
    (re.compile(rf"{_HOST}-\d+-[0-9a-f]{{4}}"), "<worker>"),
    (re.compile(rf"{_USER}@{_HOST}"), "<actor>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "<time>"),
    (re.compile(r"(?<![0-9a-zA-Z.])1\d{12}(?![0-9a-zA-Z.])"), "<ms>"),
    (re.compile(r"<ms>-[0-9a-f]{16}(?=-)"), "<ms>-<request>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"unresolved for \d+ s"), "unresolved for <number> s"),
    (re.compile(r"\b(valkey|redis) \d+\.\d+\.\d+"), r"\1 <version>"),
)
_FLATTEN_ID: Final = re.compile(r"flatten-\d+-\d+")


class Answer(NamedTuple):
    """What one run of a command said."""

    command: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


class Form:
    """Replaces what is volatile in the records of one account.

    Args:
        account: the account's id.
        places: for each stream, the ids of its entries in the order they are listed.
        flatten_ids: the signal ids that ``flatten`` made.
    """

    def __init__(
        self, account: str, *, places: Mapping[str, Sequence[str]], flatten_ids: Iterable[str]
    ) -> None:
        self._places = {
            stream: {entry_id: number for number, entry_id in enumerate(ids, start=1)}
            for stream, ids in places.items()
        }
        self._derived = {}
        for signal_id in flatten_ids:
            name = f"{account}/{signal_id}/exit"
            number = signal_id.rpartition("-")[2]
            shown = f"<client order id of {account}/flatten-<ms>-{number}/exit>"
            self._derived[uuid.uuid5(_NAMESPACE, name).hex] = shown

    def value(self, value: Any, stream: str = "signals", name: str = "") -> Any:
        """Return decoded JSON with everything volatile replaced.

        Args:
            value: the JSON.
            stream: whose entries a bare entry id in it names.
            name: of the field that holds it.
        """
        if isinstance(value, dict):
            return self._object(value, stream)
        if isinstance(value, list):
            return [self.value(one, stream, name) for one in value]
        if name in PUBLISHED:
            return "<published>"
        if name in NUMBERS and isinstance(value, int | float):
            return "<number>"
        if isinstance(value, str):
            return LOCAL[name] if name in LOCAL else self.text(value, stream)
        return value

    def _object(self, value: Mapping[str, Any], stream: str) -> dict[str, Any]:
        is_letter = "deliveries" in value
        found = {}
        for key, one in value.items():
            where = stream
            if key == "letter_id" or (key == "id" and is_letter):
                where = "dead"
            elif key == "subject" and value.get("type") == "OperatorAction":
                where = "dead"  # ids of letters are all that operators name
            elif key == "entry_id":  # a letter's own one names the signal, also in `tail`
                where = "signals" if is_letter else str(value.get("stream", "signals"))
            found[self.text(key, stream)] = self.value(one, where, key)
        return found

    def text(self, text: str, stream: str = "signals") -> str:
        """Return a text with everything volatile replaced."""
        for literal, shown in self._derived.items():
            text = text.replace(literal, shown)
        text = _ENTRY_ID.sub(lambda found: self._entry(stream, found[1]), text)
        for pattern, shown in _TEXTS:
            text = pattern.sub(shown, text)
        return text

    def _entry(self, stream: str, entry_id: str) -> str:
        number = self._places.get(stream, {}).get(entry_id)
        return f"<entry-{number}>" if number else "<entry>"

    def answer(self, answer: Answer, stream: str = "signals") -> dict[str, Any]:
        """Return a command with its exit code and output; JSON is decoded, else a list of lines."""
        shown: dict[str, Any] = {
            "command": [self.text(word, stream) for word in answer.command],
            "exit_code": answer.exit_code,
            # Whether the entry that a replay adds is still there at the end depends on the sweep.
            "stdout": self._output(answer.stdout, "" if "replay" in answer.command else stream),
        }
        if answer.stderr:
            shown["stderr"] = [self.text(line, stream) for line in answer.stderr.splitlines()]
        return shown

    def _output(self, output: str, stream: str) -> Any:
        for decode in (_document, _json_lines):
            decoded = decode(output)
            if decoded is not None:
                return self.value(decoded, stream)
        return [
            self.text(line, stream)
            for line in output.splitlines()
            if not line.startswith((_SLOW_PYTHON, _CONTINUED))
        ]


def _document(output: str) -> Any:
    try:
        decoded = json.loads(output)
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict | list) else None


def _json_lines(output: str) -> list[Any] | None:
    lines = output.splitlines()
    if not lines or not all(line.startswith("{") for line in lines):
        return None
    return [json.loads(line) for line in lines]


def in_order(
    entries: Iterable[tuple[str, dict[str, Any]]], sent: Sequence[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Order a stream's entries by the signal they are about, as the signals were sent.

    Entries about one signal keep their order. Signals that are under way together may be written
    in either order; only that freedom is taken away. Entries about no signal keep their places in
    front, and of a worker's regular comparisons of the books only the first one stays.
    """
    rank = {signal_id: number for number, signal_id in enumerate(sent)}
    kept, compared = [], set()
    for entry_id, fields in entries:
        if fields.get("type") == "ReconciliationCompleted":
            worker = json.loads(fields["data"])["worker"]
            if worker in compared:
                continue
            compared.add(worker)
        kept.append((entry_id, fields))
    return sorted(kept, key=lambda entry: _rank(entry[1].get("subject", ""), rank))


def _rank(subject: str, rank: Mapping[str, int]) -> tuple[int, str]:
    if not subject:
        return -1, ""
    return rank.get(subject, len(rank)), "" if subject in rank else subject


def flatten_ids(texts: Iterable[str]) -> set[str]:
    """Return every signal id that ``flatten`` made and that occurs in ``texts``."""
    return {found for text in texts for found in _FLATTEN_ID.findall(text)}
