"""OKX's account configuration: what orders must say, and what cannot work at all.

Source: https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-account-configuration and the
table of ``tdMode`` by account mode in
https://www.okx.com/docs-v5/en/#order-book-trading-trade-post-place-order.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from worker.domain.market import MarketKind
from worker.exchanges.ccxt.codes import field
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.findings import AccountFinding, fail, key_exposure, ok, warn

#: ``acctLv``.
_LEVELS: Final[Mapping[str, str]] = {
    "1": "spot mode",
    "2": "futures mode",
    "3": "multi-currency margin mode",
    "4": "portfolio margin mode",
}
#: The account modes in which a spot order is paid from the margin account: ``tdMode`` "cross". In
#: futures mode that would be a margin trade with borrowed money.
_CROSS_SPOT: Final = frozenset({"3", "4"})
_ONE_WAY: Final = "net_mode"
_TRUE: Final = frozenset({"true", "True", "1"})


class OkxAccount(msgspec.Struct, frozen=True):
    """``/account/config``: account level, position mode, and the key's permissions.

    Empty fields are not known; an order then says what borrows nothing.
    """

    level: str = ""
    position_mode: str = ""
    permissions: str = ""
    #: The addresses that the key is bound to, ``""`` if to none; None if that is not known.
    addresses: str | None = None
    borrows: bool = False

    def trade_mode(self, kind: MarketKind) -> str:
        """Return ``tdMode`` of every order, conditional or not, in markets of ``kind``."""
        if kind is MarketKind.LINEAR or self.level in _CROSS_SPOT:
            return "cross"
        return "cash"

    def findings(self, kinds: Collection[MarketKind]) -> Iterator[AccountFinding]:
        """Yield what the settings mean for orders in markets of ``kinds``."""
        yield self._level(kinds)
        if MarketKind.LINEAR in kinds:
            yield self._position_mode()
        if MarketKind.SPOT in kinds:
            mode = self.trade_mode(MarketKind.SPOT)
            if self.borrows:
                yield warn(
                    "borrowing",
                    f"spot orders go out as {mode} and may borrow: switch automatic borrowing off",
                )
            else:
                yield ok("margin mode", f"spot orders go out as {mode}, and borrow nothing")
        if MarketKind.LINEAR in kinds:
            yield ok("margin mode", "perpetuals are traded with cross margin")
        granted = {name.strip() for name in self.permissions.split(",")}
        if self.permissions:
            yield self._permissions(granted)
        yield from key_exposure(
            may_withdraw="withdraw" in granted if self.permissions else None,
            is_bound=None if self.addresses is None else bool(self.addresses),
        )

    def _level(self, kinds: Collection[MarketKind]) -> AccountFinding:
        named = _LEVELS.get(self.level)
        if named is None:
            return fail(
                "account mode",
                f"acctLv {self.level or 'missing'} is unknown, so that tdMode is too: choose one "
                "of spot, futures, multi-currency and portfolio margin mode",
            )
        if self.level == "1" and MarketKind.LINEAR in kinds:
            return fail(
                "account mode",
                "spot mode (acctLv 1) has no perpetuals: switch the account to futures mode, or "
                'take "linear" out of market_types',
            )
        return ok("account mode", f"{named} (acctLv {self.level})")

    def _position_mode(self) -> AccountFinding:
        if self.position_mode == _ONE_WAY:
            return ok("position mode", "one-way (net_mode)")
        if self.position_mode == "long_short_mode":
            return fail(
                "position mode",
                "hedge mode (long_short_mode) refuses every order without a position side: switch "
                "the account to net_mode",
            )
        return fail(
            "position mode",
            f"posMode {self.position_mode or 'missing'} is unknown: switch the account to net_mode",
        )

    def _permissions(self, granted: Collection[str]) -> AccountFinding:
        if "trade" in granted:
            return ok("permissions", self.permissions)
        return fail(
            "permissions",
            f"the API key has {self.permissions} only: give it the permission to trade",
        )


def read_account(reply: Any) -> OkxAccount:
    """Return the configuration in a reply to ``/account/config``.

    Raises:
        IncompleteReplyError: there is none.
    """
    rows = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        raise IncompleteReplyError("the reply holds no account configuration")
    row = rows[0]
    level = field(row, "acctLv")
    # Spot mode borrows by one switch, the modes with a margin account by another.
    switch = "enableSpotBorrow" if level == "1" else "autoLoan"
    return OkxAccount(
        level=level,
        position_mode=field(row, "posMode"),
        permissions=field(row, "perm"),
        addresses=field(row, "ip") if "ip" in row else None,
        borrows=level in {"1", *_CROSS_SPOT} and field(row, switch) in _TRUE,
    )
