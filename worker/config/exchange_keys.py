"""The keys of one exchange account, and of the simulated exchange."""

from decimal import Decimal
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from worker.config.section import Section, decimal, doc, integer, real
from worker.domain.market import MarketKind
from worker.runtime.secret import Secret

#: Names a signal may use when nothing is configured: all simulated.
DEFAULT_EXCHANGES: Final = ("binance", "bybit", "coinbase", "kraken", "okx", "paper")
SYMBOL_PATTERN: Final = r"^[A-Z0-9]{1,20}/[A-Z0-9]{1,20}(:[A-Z0-9]{1,20})?$"
#: A symbol and a price above 0, as in `BTC/USDT=50000`.
MIDDLE_PATTERN: Final = (
    r"^[A-Z0-9]{1,20}/[A-Z0-9]{1,20}(:[A-Z0-9]{1,20})?"
    r"=(0\.0{0,11}[1-9][0-9]{0,9}|[1-9][0-9]{0,11}(\.[0-9]{1,12})?)$"
)


class PaperConfig(Section, kw_only=True, frozen=True):
    """The behaviour of the simulated exchange."""

    balance: Annotated[
        Decimal,
        decimal("free amount of every quote currency at the start", ge="0", le="1e15"),
    ] = Decimal(100_000)
    fee_pct: Annotated[Decimal, decimal("fee, percent of the value, in quote", ge="0", le="50")] = (
        Decimal("0.1")
    )
    spread_bps: Annotated[
        Decimal, decimal("bid to ask, basis points of the assumed price", ge="0", le="5000")
    ] = Decimal(1)
    slippage_bps: Annotated[
        Decimal, decimal("what a taker pays on top of half the spread, bps", ge="0", le="5000")
    ] = Decimal(1)
    partial_fill_rate: Annotated[
        float, real("fraction of orders that fill only in part", ge=0, le=1)
    ] = 0.0
    reject_rate: Annotated[float, real("fraction of orders refused", ge=0, le=1)] = 0.0
    latency_ms: Annotated[
        float, real("how long an answer takes, milliseconds", ge=0, le=60_000)
    ] = 0.0
    prices: Annotated[
        Literal["signal", "live", "walk"],
        doc(
            "`signal` takes the signal's own price as the market's, `live` asks the exchange, "
            "`walk` follows a path that the seed decides"
        ),
    ] = "signal"
    seed: Annotated[
        int, doc("seed of which orders are refused or filled in part, and of the path of `walk`")
    ] = 0
    walk_middle: Annotated[
        Decimal, decimal("price that a path stays around, quote units", gt="0", le="1e12")
    ] = Decimal(100)
    walk_middles: Annotated[
        tuple[Annotated[str, Meta(pattern=MIDDLE_PATTERN)], ...],
        doc("the same of single symbols, `BASE/QUOTE=PRICE`"),
    ] = ()
    walk_swing_pct: Annotated[
        Decimal, decimal("how far a path goes from its middle at most, percent", gt="0", le="90")
    ] = Decimal(5)
    symbols: Annotated[
        tuple[Annotated[str, Meta(pattern=SYMBOL_PATTERN)], ...],
        doc("markets listed beside the built-in ones, `BASE/QUOTE` or `BASE/QUOTE:QUOTE`"),
    ] = ()


class ExchangeConfig(Section, kw_only=True, frozen=True):
    """One exchange account."""

    adapter: Annotated[
        Literal["paper", "ccxt"], doc("`paper` simulates, `ccxt` talks to the exchange")
    ] = "paper"
    ccxt_id: Annotated[str, doc("ccxt's name of the exchange; `<name>` if empty")] = ""
    api_key: Annotated[Secret, doc("API key")] = Secret("")
    secret: Annotated[Secret, doc("API secret")] = Secret("")
    password: Annotated[Secret, doc("API passphrase, where the exchange has one")] = Secret("")
    sandbox: Annotated[bool, doc("use the exchange's test network")] = False
    base_url: Annotated[
        str, doc("where REST requests really go (scheme, host, port; paths kept)")
    ] = ""
    ws_base_url: Annotated[str, doc("the same for WebSocket connections")] = ""
    order_transport: Annotated[
        Literal["rest", "websocket"],
        doc("what orders are created over; `websocket` on Binance only"),
    ] = "rest"
    market_types: Annotated[
        tuple[MarketKind, ...], Meta(min_length=1, description="which markets are loaded")
    ] = (MarketKind.SPOT,)
    recv_window_ms: Annotated[
        int, integer(100, 60_000, "how long the exchange may accept a request, milliseconds")
    ] = 5_000
    timeout_ms: Annotated[
        int, integer(100, 60_000, "how long to wait for an answer, milliseconds")
    ] = 10_000
    balance_refresh_seconds: Annotated[
        float, real("how often balances are read, seconds", gt=0, le=300)
    ] = 2.0
    ticker_refresh_seconds: Annotated[
        float, real("how often prices are read, seconds", gt=0, le=300)
    ] = 1.0
    market_refresh_seconds: Annotated[
        float, real("how often the list of markets is read, seconds", gt=0, le=86_400)
    ] = 3_600.0
    nonce_window: Annotated[
        int,
        integer(
            0,
            10**15,
            "the nonce window that the API key has at Kraken (best 10000 or more), with which "
            "several workers can share it; 0 = none: one worker at a time uses the key",
        ),
    ] = 0
    max_orders_per_second: Annotated[
        float, real("orders each worker may send a second; 0 = no limit", ge=0, le=10_000)
    ] = 0.0
    rate_tier: Annotated[
        str,
        doc(
            "the account's class in the exchange's limits of requests (Kraken `starter`, "
            "`intermediate`, `pro`; Bybit `default`, `vip1` to `vip3`); the lowest if empty"
        ),
    ] = ""
    paper: PaperConfig = field(default_factory=PaperConfig)


def default_exchanges() -> dict[str, ExchangeConfig]:
    """Build the exchanges of a configuration that names none."""
    return {name: ExchangeConfig(ccxt_id=name) for name in DEFAULT_EXCHANGES}
