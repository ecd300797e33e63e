"""The exchanges the cards run on: a simulator each, and how a worker is configured for it."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.exchange_simulator.bybit import Bybit
from tests.exchange_simulator.coinbase import Coinbase
from tests.exchange_simulator.kraken import Kraken
from tests.exchange_simulator.markets import Venue as Space
from tests.exchange_simulator.okx import PASSPHRASE, Okx
from tests.exchange_simulator.simulator import Settings, Simulator
from tests.integration.venues import now_ms
from worker.config.keys import ExchangeConfig, Secret
from worker.domain.market import MarketKind

SPOT, LINEAR = MarketKind.SPOT, MarketKind.LINEAR
SPACES: Final[Mapping[MarketKind, Space]] = {SPOT: "spot", LINEAR: "futures"}
KEY, SECRET = "sim-key-0123456789", "sim-secret-9876543210"
RECV_WINDOW_MS: Final = 800
_CDP_KEY: Final = "organizations/0000/apiKeys/1111"


class Venue(NamedTuple):
    """One exchange: its kinds of markets, its simulator, the configuration of its adapter.

    ``halted`` is its word for a market that does not trade, ``deadline_ms`` how long a request of
    its adapter may be accepted, and ``no_trades`` the body of an empty list of trades.
    """

    name: str
    kinds: tuple[MarketKind, ...]
    build: type[Simulator]
    credentials: Mapping[str, str]
    halted: str
    no_trades: str
    deadline_ms: int = 800

    def simulator(self, clock_ms: Callable[[], int] = now_ms) -> Simulator:
        """Build the simulator, listing no market, on a clock of Unix milliseconds."""
        settings = Settings(
            api_key=self.credentials["api_key"],
            secret=self.credentials["secret"],
            quote_balance=Decimal(10_000_000),
        )
        return self.build(settings, clock_ms=clock_ms)

    def config(self, url: str) -> ExchangeConfig:
        """Return the exchange's section of a worker's configuration."""
        secrets = {name: Secret(text) for name, text in self.credentials.items()}
        return ExchangeConfig(
            adapter="ccxt",
            ccxt_id=self.name,
            api_key=secrets["api_key"],
            secret=secrets["secret"],
            password=secrets.get("password", Secret("")),
            base_url=url,
            market_types=self.kinds,
            recv_window_ms=RECV_WINDOW_MS,
            timeout_ms=1_500,
        )


def new_pem() -> str:
    """Make a key as Coinbase gives one: EC on P-256, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()


_PLAIN: Final = {"api_key": KEY, "secret": SECRET}
_KRAKEN: Final = {"api_key": KEY, "secret": "c2VjcmV0LXNlY3JldC1zZWNyZXQ="}
VENUES: Final[Mapping[str, Venue]] = {
    venue.name: venue
    for venue in (
        Venue("binance", (SPOT, LINEAR), Simulator, _PLAIN, "BREAK", "[]"),
        Venue(
            "bybit",
            (SPOT, LINEAR),
            Bybit,
            _PLAIN,
            "Closed",
            '{"retCode": 0, "retMsg": "OK", "result": {"list": [], "nextPageCursor": ""}}',
        ),
        Venue(
            "okx",
            (SPOT, LINEAR),
            Okx,
            {**_PLAIN, "password": PASSPHRASE},
            "suspend",
            '{"code": "0", "msg": "", "data": []}',
        ),
        Venue(
            "kraken",
            (SPOT,),
            Kraken,
            _KRAKEN,
            "cancel_only",
            '{"error": [], "result": {}}',
            3_500,  # 2 s at least, the grain of its clock, the request's travel
        ),
        Venue(
            "coinbase",
            (SPOT,),
            Coinbase,
            {"api_key": _CDP_KEY, "secret": new_pem()},
            "cancel_only",
            '{"fills": [], "cursor": ""}',
        ),
    )
}


def list_market(
    venue: Venue, simulator: Simulator, base: str, kind: MarketKind, **rules: Any
) -> None:
    """List a market of its own for a card."""
    if rules.get("halted"):
        rules["halted"] = venue.halted
    simulator.add_market(base, SPACES[kind], **rules)
