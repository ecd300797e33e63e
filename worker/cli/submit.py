"""``submit``: put signals from a file or a pipe on the stream.

Three forms are accepted: one JSON object, a JSON array, JSON Lines. Only a document in none of
these forms is refused. A signal that is malformed is submitted with a warning, because the
worker accounts for it as a dead letter; so is a line of JSON Lines that is not JSON.
"""

import argparse
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from worker.cli import output, session, signing
from worker.cli.environment import configuration
from worker.domain.signal import MalformedSignalError, decode_signal
from worker.ledger.streams import SubmissionError
from worker.operator.reader import AccountReader
from worker.runtime.errors import WorkerError

#: Larger input is refused; the client library has no such limit.
MAX_INPUT_BYTES: Final = 268_435_456
MAX_WARNINGS: Final = 10
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_value = msgspec.json.Decoder(msgspec.Raw).decode


class InputError(WorkerError):
    """The input cannot be read as signals; the message says why."""


class Item(NamedTuple):
    """One signal's payload, and its position in the input in words."""

    place: str
    data: bytes


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Put signals on the stream and print their entry ids, one a line. FILE holds a JSON "
        "object, a JSON array or JSON Lines. A signal that is malformed is submitted with a "
        "warning and becomes a dead letter."
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="- is standard input")
    parser.add_argument(
        "--key", help="message group of all of them; by default each one's exchange and symbol"
    )
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="submit nothing if the worker would refuse the form of any signal",
    )
    signing.configure(parser)


def run(options: Namespace) -> int:
    """Submit, print the entry ids, and warn of malformed signals."""
    config = configuration(options)
    reader = AccountReader(config)
    signer = signing.signer(options, config)
    items = parse(_read(options.file))
    problems = [f"{item.place}: {problem}" for item in items if (problem := _problem(item))]
    _warn(problems, strict=options.strict)
    if problems and options.strict:
        return 1
    group = {"key": options.key.encode()} if options.key else {}
    entries = [signer.sign({"data": item.data, **group}) for item in items]
    return session.run(_submit(reader, entries))


async def _submit(reader: AccountReader, entries: Sequence[Mapping[str, bytes]]) -> int:
    async with reader:
        try:
            ids = await reader.submit(entries)
        except SubmissionError as error:
            _print(error.ids)
            raise
    _print(ids)
    return 0


def _print(ids: list[str]) -> None:
    output.say(*ids)


def _read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    if len(data) > MAX_INPUT_BYTES:
        raise InputError(f"the input is larger than {MAX_INPUT_BYTES} bytes")
    return data


def parse(document: bytes) -> list[Item]:
    """Split a document into signals, in order.

    Lines are kept byte for byte, without the white space around them; the elements of an array, and
    an object that spans lines, are written compactly, numbers as they were spelt.

    Raises:
        InputError: the document is neither one JSON value nor JSON Lines.
    """
    text = document.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise InputError("the input is empty: a JSON object, an array or JSON Lines is expected")
    if text.startswith(b"["):
        try:
            elements = _decode_array(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"the input is not a JSON array: {error}") from None
        return [Item(f"element {n}", _compact(bytes(raw))) for n, raw in enumerate(elements, 1)]
    if b"\n" in text and _is_json(text):
        return [Item("the object", _compact(text))]
    lines = [
        Item(f"line {number}", stripped)
        for number, line in enumerate(document.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
        if (stripped := line.strip())
    ]
    if not any(line.data.startswith(b"{") and _is_json(line.data) for line in lines):
        raise InputError(
            "the input is not JSON Lines: no line of it is a JSON object"
            + (f" ({problem})" if (problem := _json_problem(text)) else "")
        )
    return lines


def _compact(raw: bytes) -> bytes:
    return msgspec.json.format(raw, indent=-1)


def _is_json(data: bytes) -> bool:
    return not _json_problem(data)


def _json_problem(data: bytes) -> str:
    try:
        _decode_value(data)
    except (msgspec.DecodeError, RecursionError) as error:
        return str(error)
    return ""


def _problem(item: Item) -> str:
    """Return the reason why the signal is malformed; empty if it is not."""
    try:
        decode_signal(item.data)
    except MalformedSignalError as error:
        return str(error)
    return ""


def _warn(problems: list[str], *, strict: bool) -> None:
    what = "not submitted" if strict else "submitted all the same, will be a dead letter"
    output.complain(*(f"{problem} ({what})" for problem in problems[:MAX_WARNINGS]))
    if len(problems) > MAX_WARNINGS:
        more = len(problems) - MAX_WARNINGS
        output.complain(f"and {more} more like these ({what})")
