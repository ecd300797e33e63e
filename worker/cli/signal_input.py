"""Reading signals from a file or a pipe: one JSON object, a JSON array, or JSON Lines."""

import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from worker.cli import output
from worker.domain.decoding import why_not_json
from worker.runtime.errors import WorkerError

#: Larger input is refused; the client library has no such limit.
MAX_INPUT_BYTES: Final = 268_435_456
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_value = msgspec.json.Decoder(msgspec.Raw).decode


class InputError(WorkerError):
    """The input cannot be read as signals; the message says why."""


class Item(NamedTuple):
    """One signal's payload, and its position in the input in words."""

    place: str
    data: bytes


def read(file: str) -> bytes:
    """Read a file, ``-`` for standard input.

    Raises:
        InputError: it cannot be read, or is too large.
    """
    try:
        if file == "-":
            if sys.stdin.isatty():
                output.complain("reading signals from the terminal; Ctrl-D ends them")
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
            raise InputError(f"the input is not a JSON array: {why_not_json(error)}") from None
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
        return why_not_json(error)
    return ""
