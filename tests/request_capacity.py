"""The table of docs/requests.md: what the exchanges' limits allow."""

from typing import Final

import msgspec

from worker.domain.market import MarketKind
from worker.exchanges.binance.limits import BinanceLimits
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.capacity import capacity
from worker.exchanges.budget.tables import Endpoint, LimitTable
from worker.exchanges.bybit.limits import BybitLimits
from worker.exchanges.coinbase.limits import CoinbaseLimits
from worker.exchanges.kraken.limits import KrakenLimits
from worker.exchanges.okx.limits import OkxLimits

SPOT, LINEAR = MarketKind.SPOT, MarketKind.LINEAR


class Case(msgspec.Struct, frozen=True):
    """One row: a tier, a market, and what follows a market order that fills at once."""

    exchange: str
    table: LimitTable
    kind: MarketKind
    follow_up: tuple[Charges, ...]


def _get(table: LimitTable, api: str, path: str, **params: str) -> Charges:
    return table.charges(Endpoint(api, "GET", path, params))


def _cases() -> list[Case]:
    binance, okx, coinbase = BinanceLimits(), OkxLimits(), CoinbaseLimits()
    fills = _get(binance, "fapiPrivate", "userTrades", symbol="X")
    cases = [
        Case("Binance", binance, SPOT, ()),  # the reply has the fills
        Case("Binance", binance, LINEAR, (fills,)),
    ]
    for tier in BybitLimits.tiers:
        table = BybitLimits(tier)
        after = tuple(
            _get(table, "private", path)
            for path in ("v5/order/realtime", "v5/order/history", "v5/execution/list")
        )
        cases += [Case("Bybit", table, kind, after) for kind in (SPOT, LINEAR)]
    after = (_get(okx, "private", "trade/order", instId="X"), _get(okx, "private", "trade/fills"))
    cases += [Case("OKX", okx, kind, after) for kind in (SPOT, LINEAR)]
    after = (_get(coinbase, "v3.private", "x"),) * 2
    cases.append(Case("Coinbase", coinbase, SPOT, after))
    for tier in KrakenLimits.tiers:
        kraken = KrakenLimits(tier)
        after = tuple(_get(kraken, "private", path) for path in ("QueryOrders", "QueryTrades"))
        cases.append(Case("Kraken", kraken, SPOT, after))
    return cases


CASES: Final = _cases()


def capacity_table() -> str:
    """Return the table in Markdown."""
    rows = [
        "| exchange | tier | market | orders a minute, one key | the limit that allows no more "
        "| a second key adds as much |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        found = capacity(case.table, case.kind, case.follow_up)
        rows.append(
            f"| {case.exchange} | {case.table.tier or 'all'} | {case.kind} | {found.a_minute:.0f} "
            f"| `{found.limit}` | {'yes' if found.grows_with_keys else 'no: by address'} |"
        )
    return "\n".join(rows) + "\n"
