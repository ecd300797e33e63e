"""The part of a signal's canonical log line that says what was traded, or was to be."""

from worker.domain.money import maybe_text, text
from worker.domain.order import Side
from worker.domain.signal import LONG, OPEN, Signal
from worker.pipeline.flow import AdmittedOrder
from worker.runtime.logger import PlainFields


def traded(order: AdmittedOrder, price: str | None) -> PlainFields:
    """Return exchange, symbol, side, quantity and price of an order.

    Args:
        order: the order.
        price: its average price, None where nothing was traded; then its limit is shown.
    """
    signal, request = order.signal, order.request
    return {
        "exchange": signal.exchange,
        "symbol": signal.symbol,
        "side": str(request.side),
        "quantity": text(request.quantity),
        "price": price or maybe_text(request.price),
    }


def asked_for(signal: Signal) -> PlainFields:
    """Return the same of a signal that has no order; None where it does not say."""
    side = None
    if signal.action is OPEN and signal.direction is not None:
        side = str(Side.BUY if signal.direction is LONG else Side.SELL)
    return {
        "exchange": signal.exchange,
        "symbol": signal.symbol,
        "side": side,
        "quantity": maybe_text(signal.quantity),
        "price": maybe_text(signal.entry_price),
    }
