"""OKX's refusals: https://www.okx.com/docs-v5/en/#error-code."""

from typing import Final

#: Refusals of the request itself; all others stand in the order's row.
OF_THE_REQUEST: Final = frozenset({"51603", "50011", "50013", "50102", "50111", "50113", "50105"})
#: Code, text and HTTP status by situation.
WORDS: Final[dict[str, tuple[str, str, int]]] = {
    "unknown_symbol": (
        "51001",
        "Instrument ID, Instrument ID code, or Spread ID doesn't exist.",
        200,
    ),
    "malformed": ("51000", "Parameter sz error", 200),
    "insufficient": ("51008", "Order failed. Insufficient USDT balance in account.", 200),
    "duplicate": ("51016", "Client order ID already exists.", 200),
    "too_small": ("51020", "Your order should meet or exceed the minimum order amount.", 200),
    "quantity": ("51121", "Order quantity must be a multiple of the lot size.", 200),
    "price": ("51000", "Parameter px error", 200),
    "triggered": ("51280", "SL trigger price must be less than the last price", 200),
    "reduce_only": (
        "51169",
        "Order failed because you don't have any positions in this direction for this "
        "contract to reduce or close.",
        200,
    ),
    "closed": ("51024", "Instrument is suspended", 200),
    "cancel_not_found": (
        "51400",
        "Cancellation failed as the order has been filled, canceled or does not exist.",
        200,
    ),
    "not_found": ("51603", "Order does not exist", 200),
    "late": (
        "50036",
        "The expTime can't be earlier than the current system time. Please adjust the expTime "
        "and try again.",
        200,
    ),
    "throttled": ("50011", "Too Many Requests", 429),
    "outage": ("50026", "System error. Try again later.", 500),
}
