"""Argument types that several commands share; a value they refuse is wrong usage."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from worker.domain.verdict import MAX_DIGITS

#: The longest time a command may wait, seconds.
LONGEST_S: Final = 3_600.0
_AGE: Final = re.compile(r"(\d{1,6})([smhd])")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def amount(written: str) -> Decimal:
    """Read a decimal number of 0 or more."""
    try:
        number = Decimal(written)
    except InvalidOperation:
        raise ArgumentTypeError(f"{written!r} is not a decimal number") from None
    if not number.is_finite() or number < 0:
        raise ArgumentTypeError(f"{written} is not an amount of 0 or more")
    if number.adjusted() >= MAX_DIGITS or int(number.as_tuple().exponent) < -MAX_DIGITS:
        raise ArgumentTypeError(f"{written} has more than {MAX_DIGITS} digits on a side")
    return number


def positive_amount(written: str) -> Decimal:
    """Read a decimal number of more than 0."""
    number = amount(written)
    if not number:
        raise ArgumentTypeError(f"{written} is not more than 0")
    return number


def count(written: str) -> int:
    """Read a whole number of 1 or more."""
    if not (written.isascii() and written.isdecimal() and int(written)):
        raise ArgumentTypeError(f"{written!r} is not a whole number of 1 or more")
    return int(written)


def seconds(written: str) -> float:
    """Read a time in seconds, more than 0 and at most an hour."""
    try:
        number = float(written)
    except ValueError:
        raise ArgumentTypeError(f"{written!r} is not a number of seconds") from None
    if not 0 < number <= LONGEST_S:
        raise ArgumentTypeError(f"{written} is not more than 0 and at most {LONGEST_S:g}")
    return number


def moment(written: str) -> Callable[[int], int]:
    """Read a time with its zone (RFC 3339), or an age as 10m.

    Returns:
        A function of the present (Unix milliseconds) that returns the time in the same unit.
    """
    age = _AGE.fullmatch(written)
    if age is not None:
        age_ms = int(age[1]) * _UNIT_MS[age[2]]
        return lambda now_ms: now_ms - age_ms
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ArgumentTypeError(
            f"{written!r} is neither a time with its zone, as 2026-01-31T12:00:00Z, "
            "nor an age, as 10m"
        )
    at_ms = int(at.timestamp() * 1000)
    return lambda _now_ms: at_ms


def duration(written: str) -> int:
    """Read a time span as ``90s``, ``10m``, ``2h`` or ``1d``; returns milliseconds."""
    found = _AGE.fullmatch(written)
    if found is None or not int(found[1]):
        raise ArgumentTypeError(f"{written!r} is not a time span, as 90s, 10m, 2h or 1d is")
    return int(found[1]) * _UNIT_MS[found[2]]


def name(written: str) -> str:
    """Read an id or a name, which must not be blank."""
    if not written.strip():
        raise ArgumentTypeError("it is empty")
    return written


def reason(written: str) -> str:
    """Read a reason, which must not be blank."""
    if not written.strip():
        raise ArgumentTypeError("it is empty: say why, for the record")
    return written


def add_reason(parser: ArgumentParser, help_text: str) -> None:
    """Add the required option ``--reason``."""
    parser.add_argument("--reason", type=reason, required=True, help=help_text)
