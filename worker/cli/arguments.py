"""How numbers on the command line are read; what cannot be right is wrong usage."""

from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Final

#: Amounts have no more digits than this on either side of the point.
MAX_DIGITS: Final = 18
#: No command waits for longer, seconds.
LONGEST_S: Final = 3_600.0


def amount(written: str) -> Decimal:
    """A decimal number of 0 or more."""
    try:
        found = Decimal(written)
    except InvalidOperation:
        raise ArgumentTypeError(f"{written!r} is not a decimal number") from None
    if not found.is_finite() or found < 0:
        raise ArgumentTypeError(f"{written} is not an amount of 0 or more")
    if found.adjusted() >= MAX_DIGITS or int(found.as_tuple().exponent) < -MAX_DIGITS:
        raise ArgumentTypeError(f"{written} has more than {MAX_DIGITS} digits on a side")
    return found


def some(written: str) -> Decimal:
    """A decimal number of more than 0."""
    found = amount(written)
    if not found:
        raise ArgumentTypeError(f"{written} is not more than 0")
    return found


def count(written: str) -> int:
    """A whole number of 1 or more."""
    if not (written.isascii() and written.isdecimal() and int(written)):
        raise ArgumentTypeError(f"{written!r} is not a whole number of 1 or more")
    return int(written)


def seconds(written: str) -> float:
    """A time of more than 0, an hour at most."""
    try:
        found = float(written)
    except ValueError:
        raise ArgumentTypeError(f"{written!r} is not a number of seconds") from None
    if not 0 < found <= LONGEST_S:
        raise ArgumentTypeError(f"{written} is not more than 0 and at most {LONGEST_S:g}")
    return found


def reason(written: str) -> str:
    """Words that say why."""
    if not written.strip():
        raise ArgumentTypeError("it is empty: say why, for whoever looks next")
    return written
