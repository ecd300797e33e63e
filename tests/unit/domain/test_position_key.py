"""Position keys: the form the ledger and the message groups share."""

from worker.domain.position_key import position_key


def test_a_key_is_the_exchange_and_the_symbol_with_a_colon_between() -> None:
    """A perpetual's own colon stays: the first one ends the exchange's name."""
    assert position_key("paper", "BTC/USDT") == "paper:BTC/USDT"
    assert position_key("bybit", "BTC/USDT:USDT").partition(":") == ("bybit", ":", "BTC/USDT:USDT")
