"""Exact arithmetic on prices and quantities."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
HUNDRED: Final = Decimal(100)
BPS: Final = Decimal(10_000)

#: Twelve fractional digits are finer than any tick or lot we know of.
_QUANTUM: Final = Decimal("1e-12")
_CONTEXT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_divide, _quantize, _normalize = _CONTEXT.divide, _CONTEXT.quantize, _CONTEXT.normalize
#: The steps that one ``quantize`` rounds to, however they are written (0.1, 0.10).
_DECIMAL_STEPS: Final = {step: step for step in (Decimal(1).scaleb(-n) for n in range(19))}


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """Round down to a multiple of ``step``; a ``step`` of 0 means no grid."""
    if not step:
        return value
    digits = _DECIMAL_STEPS.get(step)
    if digits is not None:
        return value.quantize(digits, ROUND_FLOOR, _CONTEXT)
    return _on_grid(_CONTEXT.subtract(value, _above_grid(value, step)), step)


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """Round up to a multiple of ``step``; a ``step`` of 0 means no grid."""
    if not step:
        return value
    digits = _DECIMAL_STEPS.get(step)
    if digits is not None:
        return value.quantize(digits, ROUND_CEILING, _CONTEXT)
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
    """Divide, rounded half-even to 12 fractional digits."""
    return tidy(_divide(numerator, denominator))


def tidy(value: Decimal) -> Decimal:
    """Round half-even to 12 fractional digits and drop trailing zeros."""
    return _normalize(_quantize(value, _QUANTUM)) or ZERO  # a tiny loss rounds to "-0"


def text(value: Decimal) -> str:
    """Write in plain decimal notation (``0.00001``, ``1000``, never ``1E-5`` or ``1E+3``)."""
    shown = str(value)
    return format(value, "f") if "E" in shown else shown


def maybe_text(value: Decimal | None) -> str | None:
    """Return :func:`text` of a number, None for None."""
    return None if value is None else text(value)
