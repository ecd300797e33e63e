"""Symbols: the currency that prices and limits are counted in."""

import pytest

from worker.domain.market import quote_currency


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC/USDT:USDT", "BTC/USDT:BTC"])
def test_the_quote_currency_stands_after_the_slash(symbol: str) -> None:
    """Whatever a contract is settled in, its price is in the quote currency."""
    assert quote_currency(symbol) == "USDT"


@pytest.mark.parametrize("symbol", ["BTC", "BTC/", "BTC/:USDT", ""])
def test_a_symbol_without_a_quote_currency_is_refused(symbol: str) -> None:
    """Nothing is guessed: amounts would be booked under no currency."""
    with pytest.raises(ValueError, match="is not a market's symbol"):
        quote_currency(symbol)
