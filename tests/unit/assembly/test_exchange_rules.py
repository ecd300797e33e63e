"""Rules between a section of the configuration and what its exchange can do."""

import pytest

from worker.assembly.exchange_rules import check_exchange_rules
from worker.config.loading import load_config
from worker.runtime.errors import ConfigError


def check(**environ: str) -> None:
    check_exchange_rules(
        load_config(None, {f"WORKER_EXCHANGES__{name}": value for name, value in environ.items()})
    )


@pytest.mark.parametrize(
    ("environ", "key", "parts"),
    [
        (
            {"OKX__ORDER_TRANSPORT": "websocket"},
            "exchanges.okx.order_transport",
            [
                'is "websocket", which only Binance has here',
                'this exchange is "okx"',
                'set it to "rest"',
            ],
        ),
        (
            {"BINANCE__ORDER_TRANSPORT": "websocket", "BINANCE__CCXT_ID": "okx"},
            "exchanges.binance.order_transport",
            ['this exchange is "okx"'],
        ),
        (
            {"ELSEWHERE__ORDER_TRANSPORT": "websocket"},
            "exchanges.elsewhere.order_transport",
            ['this exchange is "elsewhere"'],
        ),
    ],
)
def test_orders_over_a_websocket_need_an_exchange_that_has_them(
    environ: dict[str, str], key: str, parts: list[str]
) -> None:
    """The exchange is known by its ccxt_id, not by its name."""
    with pytest.raises(ConfigError) as caught:
        check(**environ)
    assert caught.value.key == key
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("adapter", ["paper", "ccxt"])
def test_the_exchange_that_has_them_may_have_any_name(adapter: str) -> None:
    """In both modes; and REST is always there."""
    check(
        HEDGE__ORDER_TRANSPORT="websocket",
        HEDGE__CCXT_ID="binance",
        HEDGE__ADAPTER=adapter,
        OKX__ORDER_TRANSPORT="rest",
    )


def test_a_nonce_window_is_stated_only_where_keys_have_one() -> None:
    """Kraken, under any name."""
    check(HEDGE__NONCE_WINDOW="10000", HEDGE__CCXT_ID="kraken", KRAKEN__NONCE_WINDOW="10000")
    for environ in (
        {"BINANCE__NONCE_WINDOW": "10000"},
        {"KRAKEN__NONCE_WINDOW": "1", "KRAKEN__CCXT_ID": "okx"},
    ):
        with pytest.raises(ConfigError, match="only API keys of Kraken have a nonce window"):
            check(**environ)
