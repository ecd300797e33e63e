"""Exact arithmetic on prices and quantities."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)
HUNDRED = Decimal(100)
BPS = Decimal(10_000)

#: Twelve fractional digits are finer than any tick or lot we know of.
_QUANTUM = Decimal("1e-12")
_CONTEXT = Context(prec=60)


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of ``step`` that is not above ``value``; ``step`` 0 means no grid."""
    return _on_grid(value, step, ROUND_FLOOR)


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of ``step`` that is not below ``value``; ``step`` 0 means no grid."""
    return _on_grid(value, step, ROUND_CEILING)


def _on_grid(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    if not step:
        return value
    steps = _CONTEXT.divide(value, step).to_integral_value(rounding=rounding)
    return _CONTEXT.multiply(steps, step)


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """``numerator / denominator`` rounded half-even to 12 fractional digits."""
    return tidy(_CONTEXT.divide(numerator, denominator))


def tidy(value: Decimal) -> Decimal:
    """Round half-even to 12 fractional digits and drop trailing zeros; never an exponent form."""
    if not value:
        return ZERO
    value = value.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN, context=_CONTEXT).normalize(_CONTEXT)
    return value if value.as_tuple().exponent <= 0 else value.quantize(ONE, context=_CONTEXT)  # type: ignore[operator]


def text(value: Decimal) -> str:
    """Plain decimal notation (``0.00001``, never ``1E-5``), as every event carries it."""
    return format(value, "f")
