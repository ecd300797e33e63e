"""Binance's account settings: what cannot work, and what a person should know.

Sources:
https://developers.binance.com/docs/derivatives/usds-margined-futures/account/rest-api (position
mode, account configuration, symbol configuration),
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/account-endpoints and
https://developers.binance.com/docs/wallet/account/api-key-permission.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from worker.domain.market import MarketKind
from worker.exchanges.ccxt.codes import field
from worker.exchanges.findings import AccountFinding, fail, key_exposure, ok, warn

_MODE = "position mode"


def position_mode(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/fapi/v1/positionSide/dual`` says."""
    dual = _flag(reply, "dualSidePosition")
    if dual:
        yield fail(
            _MODE,
            "futures are in hedge mode, which refuses every order without a position side (-4061): "
            "switch to one-way mode",
        )
    elif dual is None:
        yield warn(
            _MODE, "the reply does not tell it; in hedge mode every order is refused (-4061)"
        )
    else:
        yield ok(_MODE, "one-way")


def futures_account(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/fapi/v1/accountConfig`` says of the right to trade and of the margin."""
    if _flag(reply, "canTrade") is False:
        yield fail("permissions", "the futures account may not trade (canTrade is false)")
    if _flag(reply, "multiAssetsMargin"):
        yield warn(
            "margin mode",
            "multi-assets mode: all currencies of the futures wallet back all positions, while "
            "sizes are reckoned from the balance of each market's own currency",
        )


def symbol_settings(reply: Any, ids: Collection[str]) -> Iterator[AccountFinding]:
    """Yield margin modes and leverages of ``/fapi/v1/symbolConfig``, for markets with ``ids``."""
    rows = reply if isinstance(reply, list) else []
    rows = [row for row in rows if isinstance(row, dict) and row.get("symbol") in ids]
    if not rows:
        return
    modes = Counter(field(row, "marginType").lower() or "unknown" for row in rows)
    yield ok(
        "margin mode", ", ".join(f"{mode} on {count}" for mode, count in sorted(modes.items()))
    )
    leverages = sorted({int(text) for row in rows if (text := field(row, "leverage")).isdigit()})
    if leverages:
        span = f"{leverages[0]}x" if len(leverages) == 1 else f"{leverages[0]}x to {leverages[-1]}x"
        yield ok("leverage", span)
    if 0 in leverages:
        yield fail("leverage", "a market has leverage 0: set it on the exchange")


def spot_account(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/api/v3/account`` says of the right to trade."""
    if _flag(reply, "canTrade") is False:
        yield fail("permissions", "the spot account may not trade (canTrade is false)")


def key_rights(reply: Any, kinds: Collection[MarketKind]) -> Iterator[AccountFinding]:
    """Yield what ``/sapi/v1/account/apiRestrictions`` says of the key."""
    if MarketKind.SPOT in kinds and _flag(reply, "enableSpotAndMarginTrading") is False:
        yield fail("permissions", "the API key may not trade spot: enable spot trading for it")
    if MarketKind.LINEAR in kinds and _flag(reply, "enableFutures") is False:
        yield fail("permissions", "the API key may not trade futures: enable futures for it")
    yield from key_exposure(
        may_withdraw=_flag(reply, "enableWithdrawals"), is_bound=_flag(reply, "ipRestrict")
    )


def _flag(reply: Any, name: str) -> bool | None:
    value = reply.get(name) if isinstance(reply, dict) else None
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None
