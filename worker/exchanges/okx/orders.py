"""Corrections of ccxt's reading of OKX orders, and refusals that it misses."""

from collections.abc import Mapping
from typing import Any, Final

from worker.exchanges.ccxt.codes import field
from worker.exchanges.ccxt.outcomes import RefusedRowError
from worker.exchanges.ccxt.readings import OWN_REQUEST

#: Whatever a success with one of these says, nothing was done for that row.
_ACCEPTED: Final = frozenset({"", "0"})

#: States that ccxt passes on untranslated, or takes for something else: ``order_failed`` is a
#: conditional order that triggered and whose order was refused.
_STATES: Final[Mapping[str, str]] = {
    "order_failed": "rejected",
    "partially_failed": "open",
    "pause": "open",
}
_ENDED: Final = frozenset({"canceled", "mmp_canceled", "order_failed"})

#: ``cancelSource``: https://www.okx.com/docs-v5/en/#order-book-trading-trade-get-order-details.
CANCEL_SOURCES: Final[Mapping[str, str]] = {
    "0": "cancelled by the exchange",
    "1": OWN_REQUEST,
    "2": "cancelled: too little margin in the position",
    "3": "cancelled: too little margin, liquidation was near",
    "4": "cancelled: borrowing reached its hard limit",
    "6": "cancelled: low margin ratio, liquidation was near",
    "7": "cancelled: the contract was delivered",
    "9": "cancelled: too little balance after funding fees",
    "10": "cancelled: the option expired",
    "13": "cancelled: fill-or-kill, and not all could be filled at once",
    "14": "cancelled: immediate-or-cancel, and the rest could not be filled at once",
    "15": "cancelled: its price is beyond the limit",
    "17": "cancelled: the position was closed already",
    "20": "cancelled: the countdown of cancel-all-after ended",
    "21": "cancelled: a take-profit or stop-loss closed the position",
    "22": "cancelled: reduce-only, and it would not have reduced the position",
    "23": "cancelled: reduce-only, and it would not have reduced the position",
    "27": "cancelled: the counterparties' prices are too far apart",
    "31": "cancelled: post-only, and it would have taken liquidity",
    "32": "cancelled: self-trade prevention",
    "33": "cancelled: too many matches for one taker order",
    "36": "cancelled: the stop-loss beside it was triggered",
    "37": "cancelled: the stop-loss beside it was cancelled",
    "38": "cancelled: market maker protection was cancelled",
    "39": "cancelled: market maker protection was triggered",
    "42": "cancelled: the best price moved away by the most that is allowed",
    "43": "cancelled: its price is on the wrong side of the index",
    "44": "cancelled: too little balance to convert",
}


def corrected(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a ccxt order with id, client id, state and reason as OKX's row has them.

    An ordinary order that a conditional one placed carries that one's ``algoId``, which ccxt takes
    for its id: its trades are listed under ``ordId`` alone.
    """
    row = order.get("info")
    if not isinstance(row, dict):
        return order
    state = field(row, "state")
    known = {**order}
    if "accFillSz" in row and field(row, "ordId"):
        known["id"] = field(row, "ordId")
    known["clientOrderId"] = order.get("clientOrderId") or field(row, "clOrdId", "algoClOrdId")
    if state in _STATES:
        known["status"] = _STATES[state]
    if state in _ENDED:
        known["rejectReason"] = _reason(row)
    return known


def _reason(row: Mapping[str, Any]) -> str:
    source, told = field(row, "cancelSource"), field(row, "cancelSourceReason")
    failure = field(row, "failReason", "failCode")
    if field(row, "state") == "order_failed":
        return f"triggered, and its order was refused: {failure or told or 'no reason given'}"
    meaning = CANCEL_SOURCES.get(source, f"cancelSource {source}" if source else "")
    return ": ".join(part for part in (meaning, told) if part)


def over_rows(base: type[Any]) -> type[Any]:
    """Return the ccxt class ``base``, with refusals inside of successful replies raised.

    Code 0 (and 2, for a batch) says that the request was fine; ``sCode`` says whether its order
    was.
    """

    class OverRows(base):  # type: ignore[misc]
        """The ccxt class with the change."""

        def handle_errors(self, *arguments: Any) -> Any:
            """Raise what ccxt raises, or the first refused row of a POST."""
            result = super().handle_errors(*arguments)
            _, _, _, method, _, _, reply, *_ = arguments
            rows = reply.get("data") if isinstance(reply, dict) else None
            if method == "POST" and isinstance(rows, list):
                for row in rows:
                    if field(row, "sCode") not in _ACCEPTED:
                        raise RefusedRowError(field(row, "sMsg"))
            return result

    OverRows.__name__ = OverRows.__qualname__ = base.__name__
    return OverRows
