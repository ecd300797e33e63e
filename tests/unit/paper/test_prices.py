"""Prices that signals state: where they are taken, and where they are not."""

import pytest

from tests.unit.parts import PERPETUAL, SYMBOL, D, ManualClock, ScriptedExchange, market_view
from worker.config.keys import ExchangeConfig
from worker.exchanges.ports import ExchangeAdapter
from worker.market.data import MarketData
from worker.market.prices import PriceSource
from worker.paper.exchange import PaperExchange
from worker.paper.prices import SignalPrices


def market_of(
    adapter: ExchangeAdapter, prices: PriceSource | None = None, *, started: bool = True
) -> MarketData:
    return MarketData(
        {"paper": adapter},
        clock=ManualClock(),
        max_price_age_ms=5_000,
        max_balance_age_ms=30_000,
        on_error=lambda _name, error: pytest.fail(str(error)),
        prices={} if prices is None else {"paper": prices},
        starting=() if started else {"paper"},
    )


def paper() -> PaperExchange:
    return PaperExchange("paper", ExchangeConfig(), ManualClock())


async def test_a_market_stands_where_the_last_signal_says() -> None:
    """No order can be judged by that price, and none is there before the first signal."""
    exchange = paper()
    market = market_of(exchange, SignalPrices(exchange))
    assert (await market_view(market, "paper", SYMBOL)).ticker is None
    for price in (D(90), D(100)):
        market.assume_price("paper", SYMBOL, price)
    view = await market_view(market, "paper", SYMBOL)
    assert view.ticker is not None
    assert (view.ticker.bid, view.ticker.last, view.ticker.ask) == (D(100), D(100), D(100))
    assert not view.is_quoted
    assert not market.is_quoted("paper")
    await market.follow_prices("paper", 1.0)  # ends: nothing grows old
    stated = market.known("paper", SYMBOL, D(80)).ticker
    assert stated is not None
    assert stated.last == exchange.last_price(SYMBOL) == D(80)


@pytest.mark.parametrize(
    ("exchange_name", "symbol", "started"),
    [("nowhere", SYMBOL, True), ("paper", "NO/SUCH", True), ("paper", SYMBOL, False)],
)
async def test_a_price_for_nothing_that_is_known_is_forgotten(
    exchange_name: str, symbol: str, started: bool
) -> None:
    """An unknown exchange or market, and an exchange that has not started."""
    exchange = paper()
    market = market_of(exchange, SignalPrices(exchange), started=started)
    market.assume_price(exchange_name, symbol, D(100))
    assert market.known(exchange_name, symbol, D(100)).ticker is None
    assert exchange.last_price(symbol) is None


async def test_an_exchange_with_quotes_takes_no_signals_price() -> None:
    """What it quotes itself counts."""
    market = market_of(ScriptedExchange(ManualClock()))
    market.assume_price("paper", PERPETUAL.symbol, D(7))
    market.known("paper", PERPETUAL.symbol, D(7))
    view = await market_view(market, "paper", PERPETUAL.symbol)
    assert view.ticker is not None
    assert view.ticker.last == D(100)
    assert view.is_quoted
    assert market.is_quoted("paper")
