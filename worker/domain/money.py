"""Exact arithmetic on prices and quantities."""

import math
from decimal import (
    ROUND_05UP,
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DefaultContext,
    getcontext,
)
from typing import Final

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
HUNDRED: Final = Decimal(100)
PERCENT: Final = Decimal("0.01")
BPS: Final = Decimal(10_000)

#: Significant digits that no sum or product of prices and quantities reaches: a number of a signal
#: has up to 40, an exchange's about 30.
PRECISION: Final = 120
#: Significant digits of a quotient; a product of one with any quantity is exact still.
QUOTIENT_DIGITS: Final = 50
#: The finest digit of a computed amount that is shown: coins have up to 18 decimals.
SHOWN_QUANTUM: Final = Decimal("1e-18")
#: A text as short as this has at most 18 fractional digits: ``0.`` and these.
_SHORT: Final = 20
_CONTEXT: Final = Context(prec=PRECISION, rounding=ROUND_HALF_EVEN)
_quantize, _normalize = _CONTEXT.quantize, _CONTEXT.normalize
_floor: Final = Context(prec=PRECISION, rounding=ROUND_FLOOR).quantize
_ceil: Final = Context(prec=PRECISION, rounding=ROUND_CEILING).quantize
_divide: Final = Context(prec=QUOTIENT_DIGITS, rounding=ROUND_HALF_EVEN).divide
#: Rounded so that rounding the quotient once more is as if it were done once.
_divide_once: Final = Context(prec=QUOTIENT_DIGITS, rounding=ROUND_05UP).divide
#: The steps that one ``quantize`` rounds to, however they are written (0.1, 0.10).
_DECIMAL_STEPS: Final = {step: step for step in (Decimal(1).scaleb(-n) for n in range(19))}


def use_exact_arithmetic() -> None:
    """Let ``+``, ``-`` and ``*`` of Decimals be exact in this thread, its tasks and new threads.

    Python's own 28 digits are too few for a large quantity times a small price. Whoever starts a
    worker or a command calls this once; importing the package changes nothing for its host.
    """
    for context in (DefaultContext, getcontext()):
        context.prec = max(context.prec, PRECISION)


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """Round down to a multiple of ``step``; a ``step`` of 0 means no grid."""
    if not step:
        return value
    digits = _DECIMAL_STEPS.get(step)
    if digits is not None:
        return _floor(value, digits)
    return _on_grid(_CONTEXT.subtract(value, _above_grid(value, step)), step)


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """Round up to a multiple of ``step``; a ``step`` of 0 means no grid."""
    if not step:
        return value
    digits = _DECIMAL_STEPS.get(step)
    if digits is not None:
        return _ceil(value, digits)
    above = _above_grid(value, step)
    below = _CONTEXT.subtract(value, above)
    return _on_grid(_CONTEXT.add(below, step) if above else below, step)


def _on_grid(value: Decimal, step: Decimal) -> Decimal:
    """Write a multiple of ``step`` with the digits ``step`` has."""
    return _quantize(value, step)


def _above_grid(value: Decimal, step: Decimal) -> Decimal:
    """Return the distance of ``value`` above the next multiple of ``step``, in [0, step)."""
    rest = _CONTEXT.remainder(value, step)
    return rest if rest >= 0 else _CONTEXT.add(rest, step)


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Divide, rounded half-even to ``QUOTIENT_DIGITS`` significant digits."""
    return tidy(_divide(numerator, denominator))


def shown(value: Decimal) -> Decimal:
    """Round a computed amount half-even to the 18 fractional digits that are shown."""
    return _normalize(_quantize(value, SHOWN_QUANTUM)) or ZERO if value else ZERO


def shown_ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Divide, rounded half-even to the 18 fractional digits that are shown."""
    return _normalize(_quantize(_divide_once(numerator, denominator), SHOWN_QUANTUM)) or ZERO


def tidy(value: Decimal) -> Decimal:
    """Drop trailing zeros; every other digit stays."""
    return _normalize(value) or ZERO  # never "-0"


def text(value: Decimal) -> str:
    """Write in plain decimal notation (``0.00001``, ``1000``, never ``1E-5`` or ``1E+3``)."""
    shown = str(value)
    return format(value, "f") if "E" in shown else shown


def maybe_text(value: Decimal | None) -> str | None:
    """Return :func:`text` of a number, None for None."""
    return None if value is None else text(value)


def rounded_text(value: Decimal) -> str:
    """Write a computed amount as :func:`text` does, rounded half-even to 18 fractional digits."""
    shown = str(value)
    if len(shown) <= _SHORT and "E" not in shown:
        return shown
    shown = text(_quantize(value, SHOWN_QUANTUM)).rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def maybe_rounded_text(value: Decimal | None) -> str | None:
    """Return :func:`rounded_text` of a number, None for None."""
    return None if value is None else rounded_text(value)


#: The largest number the ledger's scripts count exactly: Lua numbers are doubles.
MAX_MILLIONTHS: Final = 2**53
_MILLION: Final = Decimal(1_000_000)


def millionths(amount: Decimal) -> int:
    """Convert an amount to the ledger's millionths, rounded up, at most ``MAX_MILLIONTHS``."""
    count = math.ceil(amount * _MILLION)
    return count if count < MAX_MILLIONTHS else MAX_MILLIONTHS


def millionths_signed(amount: Decimal) -> int:
    """Convert a profit or loss to the ledger's millionths, rounded down (against the account)."""
    count = math.floor(amount * _MILLION)
    if count < -MAX_MILLIONTHS:
        return -MAX_MILLIONTHS
    return count if count < MAX_MILLIONTHS else MAX_MILLIONTHS
