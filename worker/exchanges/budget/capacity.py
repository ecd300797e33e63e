"""Orders a minute that an exchange's limits allow, computed from the budget's own tables."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderRequest, Role, Side
from worker.domain.signal import OrderType
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Rolling, Scope, Share, counter
from worker.exchanges.budget.tables import LimitTable

#: The interval between requests that an exchange without a table is taken to allow, milliseconds.
_RATE_LIMIT_MS: Final = 100.0
#: A limit by the day says nothing of a minute.
_LONGEST_WINDOW_S: Final = 3_600


class Capacity(msgspec.Struct, frozen=True):
    """Market orders of one symbol a minute, and the limit that allows no more."""

    a_minute: float
    limit: str
    #: Whether workers with keys of their own add to it.
    grows_with_keys: bool


def capacity(
    table: LimitTable, kind: MarketKind, follow_up: Iterable[Charges], workers: int = 1
) -> Capacity:
    """Return what all workers on one key can do together.

    Args:
        table: the exchange's limits, of one tier.
        kind: of market.
        follow_up: what each request after the create request of one order costs.
        workers: how many share the key.
    """
    request = OrderRequest(
        client_order_id="c",
        exchange="x",
        symbol="BTC/USDT",
        role=Role.ENTRY,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=Decimal(1),
    )
    info = _market(kind)
    costs: dict[str, float] = {}
    for charges in (table.order(request, info), *follow_up):
        for name, cost in charges:
            costs[name] = costs.get(name, 0.0) + cost
    limits = table.limits(_RATE_LIMIT_MS)
    found: list[Capacity] = []
    for name, cost in costs.items():
        family = name.partition(":")[0]
        limit = limits[family]
        shares = [Share(workers, rank) for rank in range(workers)]
        a_second = sum(counter(limit, share, 0.0).per_second() for share in shares)
        if isinstance(limit, Rolling):
            if limit.seconds > _LONGEST_WINDOW_S:
                continue
            # Entries do not use the reserve of a window.
            a_second *= (limit.maximum - limit.reserve) / limit.maximum
        grows = limit.scope is Scope.KEY
        found.append(Capacity(a_second / cost * 60, family, grows))
    return min(found, key=lambda one: one.a_minute)


def _market(kind: MarketKind) -> SymbolInfo:
    one = Decimal(1)
    return SymbolInfo(
        symbol="BTC/USDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        kind=kind,
        active=True,
        shortable=kind is MarketKind.LINEAR,
        price_tick=one,
        quantity_step=one,
        min_quantity=one,
        max_quantity=one,
        min_notional=one,
        contract_size=one,
        taker_fee=one,
        maker_fee=one,
    )
