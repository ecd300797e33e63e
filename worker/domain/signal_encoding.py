"""Encoding signals as JSON, checked as the worker will check them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from worker.domain.signal import MalformedSignalError, Signal, decode_signal

_encode = msgspec.json.Encoder().encode


def encode_signals(signals: Sequence[Signal | Mapping[str, Any]]) -> list[bytes]:
    """Encode and check several signals; of more than one the sentence says which is wrong.

    Raises:
        MalformedSignalError: names the field and the rule it breaks.
    """
    payloads = []
    for number, signal in enumerate(signals, 1):
        try:
            payloads.append(encode_signal(signal))
        except MalformedSignalError as error:
            if len(signals) == 1:
                raise
            raise MalformedSignalError(f"signal {number} of {len(signals)}: {error}") from None
    return payloads


def encode_signal(signal: object) -> bytes:
    """Encode a signal, and check it: msgspec does not check what Python puts into a struct.

    Args:
        signal: a :class:`Signal`, of which fields at their default are left out, or a mapping.

    Raises:
        MalformedSignalError: names the field and the rule it breaks, also of what is neither.
    """
    if isinstance(signal, Signal):
        fields: Mapping[str, Any] = {
            entry.name: value
            for entry in msgspec.structs.fields(signal)
            if (value := getattr(signal, entry.name)) is not entry.default
        }
    elif isinstance(signal, Mapping):
        fields = dict(signal)
    else:
        what = type(signal).__name__
        raise MalformedSignalError(f"data: a signal is a mapping or a Signal, not {what}")
    data = encode_fields(fields)
    decode_signal(data)
    return data


def encode_fields(fields: Mapping[str, Any]) -> bytes:
    """Encode the fields of a signal by name.

    Raises:
        MalformedSignalError: a value has no JSON form, or one that is another value: a float that
            is no number would be written as null, and a stop so be lost.
    """
    for name, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise MalformedSignalError(f"{name}: {value} is not a finite number")
    try:
        return _encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError):
        name = next((name for name, value in fields.items() if not _has_form(name, value)), "data")
        what = type(fields.get(name, fields)).__name__
        raise MalformedSignalError(
            f"{name}: a value of type {what} cannot be written as JSON"
        ) from None


def _has_form(name: str, value: Any) -> bool:
    try:
        _encode({name: value})
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True
