"""Bybit's account settings: what cannot work, and what a person should know.

Sources: https://bybit-exchange.github.io/docs/v5/user/apikey-info,
https://bybit-exchange.github.io/docs/v5/account/account-info and
https://bybit-exchange.github.io/docs/v5/position (``positionIdx``).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from worker.domain.market import MarketKind
from worker.exchanges.ccxt.codes import field
from worker.exchanges.findings import AccountFinding, fail, key_exposure, ok

#: ``unifiedMarginStatus`` of an account that is not unified.
_CLASSIC: Final = "1"
_MARGIN_MODES: Final[Mapping[str, str]] = {
    "REGULAR_MARGIN": "cross margin",
    "ISOLATED_MARGIN": "isolated margin",
    "PORTFOLIO_MARGIN": "portfolio margin",
}
#: Any of these rights, (group, right), lets a key trade markets of the kind.
_RIGHTS: Final[Mapping[MarketKind, tuple[tuple[str, str], ...]]] = {
    MarketKind.SPOT: (("Spot", "SpotTrade"),),
    MarketKind.LINEAR: (("ContractTrade", "Order"), ("Derivatives", "DerivativesTrade")),
}


def key_findings(reply: Any, kinds: Collection[MarketKind]) -> Iterator[AccountFinding]:
    """Yield what ``/v5/user/query-api`` says of the key's rights."""
    key = _result(reply)
    said, addresses = key.get("permissions"), key.get("ips")
    rights = said if isinstance(said, dict) else {}
    # An address "*", or none, is any.
    yield from key_exposure(
        may_withdraw="Withdraw" in (rights.get("Wallet") or ()) if rights else None,
        is_bound=bool(addresses) and "*" not in addresses if isinstance(addresses, list) else None,
    )
    if field(key, "readOnly") == "1":
        yield fail("permissions", "the API key is read-only: give it the right to trade")
        return
    if not rights:
        return
    for kind in kinds:
        wanted = _RIGHTS[kind]
        if not any(right in (rights.get(group) or ()) for group, right in wanted):
            names = " or ".join(f"{group}: {right}" for group, right in wanted)
            yield fail("permissions", f"the API key may not trade {kind}: it needs {names}")


def margin_findings(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/v5/account/info`` says of the kind of account and its margin mode."""
    account = _result(reply)
    status = field(account, "unifiedMarginStatus")
    if status == _CLASSIC:
        yield fail(
            "account mode",
            "a classic account has wallets apart: upgrade it to a unified trading account",
        )
    elif status:
        yield ok("account mode", f"unified trading account (unifiedMarginStatus {status})")
    mode = field(account, "marginMode")
    if mode:
        yield ok("margin mode", _MARGIN_MODES.get(mode, mode))


def position_findings(reply: Any, symbol: str) -> Iterator[AccountFinding]:
    """Yield what ``/v5/position/list`` of one symbol says of position mode and leverage."""
    rows = _result(reply).get("list")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if any(field(row, "positionIdx") in {"1", "2"} for row in rows):
        yield fail(
            "position mode",
            f"{symbol} is in hedge mode, which refuses every order without a position side: switch "
            "to one-way mode",
        )
    elif rows:
        yield ok("position mode", f"one-way, by {symbol}")
    for row in rows:
        if str(row.get("isReduceOnly")).lower() == "true":
            yield fail(
                "position mode",
                f"positions in {symbol} may only be reduced, by Bybit's decision: see the account "
                "on the exchange's page",
            )
        if field(row, "leverage"):
            yield ok("leverage", f"{field(row, 'leverage')} on {symbol}")
            return


def _result(reply: Any) -> Mapping[str, Any]:
    result = reply.get("result") if isinstance(reply, dict) else None
    return result if isinstance(result, dict) else {}
