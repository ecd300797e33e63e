"""The simulated exchange as one object: requests in, replies out, plus what a test may do to it."""

import itertools
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from tests.exchange_simulator import errors, futures_account, futures_api, spot_api
from tests.exchange_simulator.auth import NO_WINDOW, Authenticator, Window, in_query, window_of
from tests.exchange_simulator.call import Call, Route
from tests.exchange_simulator.errors import ApiError, Reply
from tests.exchange_simulator.faults import Faults, Rule, Verdict, client_id_of
from tests.exchange_simulator.ledgers import Balance, FuturesLedger, SpotLedger
from tests.exchange_simulator.markets import Market, Venue, build_markets
from tests.exchange_simulator.matching import Engine
from tests.exchange_simulator.meter import Meter
from tests.exchange_simulator.orders import Conditions, Order

_ROUTES = spot_api.ROUTES | futures_api.ROUTES | futures_account.ROUTES
#: what the WebSocket APIs offer, by path and method
_FRAME_ROUTES: dict[tuple[str, str], Route] = {
    ("/ws-api/v3", "order.place"): _ROUTES["POST", "/api/v3/order"],
    ("/ws-fapi/v1", "order.place"): _ROUTES["POST", "/fapi/v1/order"],
    ("/ws-fapi/v1", "algoOrder.place"): _ROUTES["POST", "/fapi/v1/algoOrder"],
}
#: Method and path of what tests ask about by its job, as with the other exchanges' dialects.
_JOBS: dict[str, tuple[str, str]] = {
    "create": ("POST", r"/(order|algoOrder)$"),
    "cancel": ("DELETE", r"/(order|algoOrder)$"),
    "look_up": ("GET", r"/(order|algoOrder)$"),
    "trades": ("GET", r"/(myTrades|userTrades)$"),
    "balance": ("GET", r"/(account|balance)$"),
    "clock": ("GET", r"/time$"),
}
#: Code, text and HTTP status by situation, as the dialects have them.
_WORDS: dict[str, tuple[int, str, int]] = {
    "post_only@spot": (-2010, "Order would immediately match and take.", 400),
    "post_only": (-5022, "Due to the order could not be executed as maker, it is rejected.", 400),
    "duplicate@spot": (-2010, "Duplicate order sent.", 400),
    "duplicate": (-4116, "ClientOrderId is duplicated.", 400),
    "late": (-1021, "Timestamp for this request is outside of the recvWindow.", 400),
    "throttled": (-1015, "Too many new orders; current limit is 50 orders per 10 SECOND.", 429),
    "throttled_until": (-1003, "Too many requests; current limit is 6000 request weight.", 429),
}
_RECENT_REQUESTS = 50_000
_LAST_REQUESTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a simulator starts.

    Args:
        api_key: the account's key.
        secret: its HMAC secret.
        symbols: how many generated markets (C000USDT, …) to add to the default ones.
        seed: of prices and faults.
        quote_balance: spot USDT and futures wallet at the start.
        base_balance: spot balance of every base asset at the start.
        maker_rate: commission of a resting fill, as a fraction.
        taker_rate: commission of a taking fill, as a fraction.
        spread_bps: between bid and ask when a price is set.
        fills_per_order: trades a fill is split into.
        clock_offset_ms: exchange clock minus this machine's.
        weight_limit: per minute and venue, None for no limit.
        order_limit: per 10 s and venue, None for no limit.
        futures_engine_window_code: refusal of a futures order whose window ran out on the way to
            the matching engine: -1021, or -5028 as the futures error page lists it.
    """

    api_key: str = "sim-key"
    secret: str = "sim-secret"
    symbols: int = 0
    seed: int = 0
    quote_balance: Decimal = Decimal(1_000_000_000)
    base_balance: Decimal = Decimal(0)
    maker_rate: Decimal = Decimal("0.001")
    taker_rate: Decimal = Decimal("0.001")
    spread_bps: Decimal = Decimal(2)
    fills_per_order: int = 1
    clock_offset_ms: int = 0
    weight_limit: int | None = None
    order_limit: int | None = None
    futures_engine_window_code: Literal[-1021, -5028] = -1021


@dataclass(slots=True)
class Pending:
    """A request between arrival and reply."""

    method: str
    path: str
    params: dict[str, str]
    verdict: Verdict
    route: Route | None
    arrived_ms: int
    refused: ApiError | None = None
    window: Window = NO_WINDOW
    headers: dict[str, str] = field(default_factory=dict)
    applied: bool = False
    #: the whole frame, if it came over a WebSocket
    frame: dict[str, Any] | None = None

    @property
    def venue(self) -> Venue:
        """Which API it came in on."""
        return "futures" if self.path.startswith(("/fapi", "/ws-fapi")) else "spot"


class Simulator:
    """State and rules of the exchange; thread-bound to the loop that serves it.

    ``now_ms`` is injectable so that simulations can run on virtual time.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings = settings or Settings()
        self._clock_ms = clock_ms
        self.reset()

    def reset(self) -> None:
        """Forget everything: orders, balances, prices, faults, counters, clock offset."""
        chosen = self.settings
        self.clock_offset_ms = chosen.clock_offset_ms
        markets = build_markets(chosen.symbols, chosen.seed, chosen.spread_bps)
        balances = {m.base: chosen.base_balance for m in markets["spot"].values()}
        balances["USDT"] = chosen.quote_balance
        self.engine = Engine(
            markets,
            SpotLedger(balances, chosen.maker_rate, chosen.taker_rate),
            FuturesLedger(chosen.quote_balance, chosen.maker_rate, chosen.taker_rate),
            chosen.fills_per_order,
        )
        self.faults = Faults(chosen.seed)
        self.meter = Meter(chosen.weight_limit, chosen.order_limit)
        self.engine.limits = (chosen.weight_limit, chosen.order_limit)
        self.auth = Authenticator(chosen.api_key, chosen.secret)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.recent: deque[dict[str, Any]] = deque(maxlen=_RECENT_REQUESTS)
        #: the last requests as they came in
        self.last: deque[Pending] = deque(maxlen=_LAST_REQUESTS)
        self._ids = itertools.count(1)

    # ---- what a test may do -----------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the exchange's clock."""
        return self._clock_ms() + self.clock_offset_ms

    def add_fault(self, **rule: Any) -> int:
        """Put a rule in force (fields of ``faults.Rule``); returns its id."""
        return self.faults.add(msgspec.convert(rule, Rule))

    def set_price(
        self,
        symbol: str,
        price: Decimal | str | None = None,
        *,
        market: Literal["spot", "futures", "both"] = "both",
        bid: Decimal | str | None = None,
        ask: Decimal | str | None = None,
        spread_bps: Decimal | str | None = None,
    ) -> None:
        """Move a quote: by middle price and spread, or by bid and ask; fills and triggers follow.

        Raises KeyError for an unknown symbol, ValueError for an impossible quote.
        """
        spread = self.settings.spread_bps if spread_bps is None else Decimal(spread_bps)
        now_ms = self.now_ms()
        self.engine.advance(now_ms)
        venues: tuple[Venue, ...] = ("spot", "futures") if market == "both" else (market,)
        for venue in venues:
            found = self.engine.markets[venue][symbol]
            found.set_quote(
                None if price is None else Decimal(price),
                spread,
                None if bid is None else Decimal(bid),
                None if ask is None else Decimal(ask),
            )
            self.engine.reprice(found, now_ms)

    def set_balances(
        self, spot: dict[str, Decimal | str], futures_wallet: Decimal | str | None = None
    ) -> None:
        """Set free spot balances (others stay) and the futures wallet."""
        for asset, amount in spot.items():
            self.engine.spot.of(asset).free = Decimal(amount)
        if futures_wallet is not None:
            self.engine.futures.wallet = Decimal(futures_wallet)

    def fill(self, client_id: str, quantity: Decimal | str | None = None) -> Order:
        """Fill a resting order at its own price, wholly or by ``quantity``; KeyError if none."""
        for order in reversed(self.engine.accepted):
            if order.client_id == client_id and order.is_open and order.kind == "order":
                amount = order.remaining if quantity is None else Decimal(quantity)
                price = order.price or order.market.last
                self.engine.fill(order, amount, price, self.now_ms(), maker=True)
                return order
        raise KeyError(client_id)

    def orders(self) -> list[Order]:
        """Return every order ever accepted, in order of acceptance: the ground truth."""
        self.engine.advance(self.now_ms())
        return self.engine.accepted

    def duplicates(self) -> dict[str, list[Order]]:
        """Return client ids that were accepted more than once."""
        return self.engine.duplicates()

    def balance(self, asset: str) -> Balance:
        """Return the spot balance of an asset."""
        self.engine.advance(self.now_ms())
        return self.engine.spot.of(asset)

    # ---- markets of a test's own --------------------------------------------------------------

    def symbol_of(self, base: str, quote: str, venue: Venue) -> str:
        """Return the exchange's name of a market."""
        return f"{base}{quote}"

    def add_market(self, base: str, venue: Venue, **rules: Any) -> Market:
        """List a market with these fields of ``Market``; its ``price`` is 100 unless given."""
        price, quote = Decimal(rules.pop("price", "100")), str(rules.pop("quote", "USDT"))
        chosen: dict[str, Any] = {
            "tick": Decimal("0.01"),
            "step": Decimal("0.001"),
            "min_notional": Decimal(5),
            "max_quantity": Decimal(9_000_000),
        }
        market = Market(
            venue=venue,
            symbol=self.symbol_of(base, quote, venue),
            base=base,
            quote=quote,
            **chosen | rules,
        )
        market.set_quote(price, self.settings.spread_bps)
        self.engine.markets[venue][market.symbol] = market
        return market

    # ---- what requests are for ----------------------------------------------------------------

    def rule(self, job: str) -> dict[str, Any]:
        """Return the matcher of a fault rule for requests of a job: see ``dialect.Endpoint``."""
        method, path = _JOBS[job]
        return {"method": method, "path": path}

    def job_of(self, method: str, path: str) -> str:
        """Return what requests of a path are for; empty for what no test asks about."""
        for job, (verb, pattern) in _JOBS.items():
            if verb == method and re.search(pattern, path):
                return job
        return ""

    def scripted(
        self, situation: str, venue: Venue = "spot", wait_s: int = 0
    ) -> dict[str, Any] | None:
        """Return the fields of a fault rule that answers with Binance's words for a situation.

        None where Binance has no words for it. ``wait_s`` goes into words that tell a time.
        """
        found = _WORDS.get(f"{situation}@{venue}") or _WORDS.get(situation)
        if found is None:
            return None
        code, msg, status = found
        headers = {"Retry-After": str(wait_s)} if wait_s else {}
        rule = {"action": "http_status", "status": status, "code": code, "msg": msg}
        return rule | {"headers": headers}

    def oid(self, order: Order) -> str:
        """Return the exchange's id of an order."""
        return str(order.order_id)

    # ---- requests ---------------------------------------------------------------------------

    def take(
        self, method: str, path: str, query: str, body: str, headers: Mapping[str, str]
    ) -> Pending:
        """Take a request in as it came over HTTP; the query and body are raw, as signed."""
        return self.arrive(method, path, query, body, headers.get("X-MBX-APIKEY"))

    def arrive(self, method: str, path: str, query: str, body: str, api_key: str | None) -> Pending:
        """Take a request in: parse, count, match faults, authenticate."""
        params = dict(parse_qsl(query, keep_blank_values=True))
        if body:
            params.update(parse_qsl(body, keep_blank_values=True))
        pending = Pending(
            method,
            path,
            params,
            self.faults.judge(method, path, params),
            _ROUTES.get((method, path)),
            self.now_ms(),
        )

        def authenticate() -> None:
            self.auth.check_key(api_key)
            self.auth.check_signature(query, body)

        return self._take_in(pending, authenticate)

    def arrive_frame(self, path: str, frame: dict[str, Any]) -> Pending:
        """Take a WebSocket request in; it counts as a POST of the API's path and its method."""
        given, method = frame.get("params"), str(frame.get("method", ""))
        params = {name: in_query(value) for name, value in dict(given or {}).items()}
        pending = Pending(
            "POST",
            f"{path}/{method}",
            params,
            self.faults.judge("POST", f"{path}/{method}", params),
            _FRAME_ROUTES.get((path, method)),
            self.now_ms(),
            frame=frame,
        )

        def authenticate() -> None:
            self.auth.check_key(params.get("apiKey"))
            self.auth.check_frame(params)

        return self._take_in(pending, authenticate)

    def connect(self, method: str, path: str) -> Pending:
        """Take the opening of a WebSocket connection in, for the faults to see it."""
        return Pending(method, path, {}, self.faults.judge(method, path, {}), None, self.now_ms())

    def _take_in(self, pending: Pending, authenticate: Callable[[], None]) -> Pending:
        self.last.append(pending)
        try:
            self._admit(pending, authenticate)
        except ApiError as refused:
            pending.refused = refused
        return pending

    def _admit(self, pending: Pending, authenticate: Callable[[], None]) -> None:
        route = pending.route
        if route is None:
            raise ApiError(-5000, f"Path {pending.path}, Method {pending.method} is invalid", 404)
        pending.headers = self.meter.count(
            pending.venue, route.weight, pending.arrived_ms, order=route.places_order
        )
        if route.security == "signed":
            authenticate()
            pending.window = window_of(pending.params)
            pending.window.check(pending.arrived_ms)

    def apply(self, pending: Pending) -> Reply:
        """Carry the request out now; the window is checked once more before the engine."""
        if pending.refused is not None or pending.route is None:
            return self._refusal(pending, pending.refused or errors.order_not_found())
        now_ms, verdict = self.now_ms(), pending.verdict
        self.engine.advance(now_ms)
        conditions = Conditions(
            now_ms,
            pending.window,
            verdict.late_visibility_ms,
            verdict.partial_fill,
            verdict.slow_fill_ms,
            verdict.rule_ids,
        )
        try:
            if pending.route.security == "signed":
                self._check_again(pending, now_ms)
            result = pending.route.handler(
                Call(self.engine, pending.params, conditions, self._new_id)
            )
        except ApiError as refused:
            return self._refusal(pending, refused)
        pending.applied = True
        return Reply(200, msgspec.json.encode(result), headers=pending.headers)

    def _check_again(self, pending: Pending, now_ms: int) -> None:
        try:
            pending.window.check(now_ms)
        except ApiError:
            if pending.venue == "futures" and self.settings.futures_engine_window_code == -5028:
                raise ApiError(
                    -5028,
                    "The requested timestamp is outside the recvWindow of the matching engine",
                ) from None
            raise

    def _refusal(self, pending: Pending, refused: ApiError) -> Reply:
        pending.refused = refused
        headers = pending.headers | refused.headers
        return Reply(refused.status, refused.body(), headers=headers)

    def record(self, pending: Pending, outcome: str) -> None:
        """Note how a request ended."""
        self.counts[f"{pending.method} {pending.path}", outcome] += 1
        self.recent.append(
            {
                "at": pending.arrived_ms,
                "method": pending.method,
                "path": pending.path,
                "symbol": pending.params.get("symbol", ""),
                "client_id": client_id_of(pending.params),
                "request_timestamp": pending.window.timestamp_ms,
                "outcome": outcome,
                "applied": pending.applied,
            }
        )

    def _new_id(self) -> str:
        return f"sim{next(self._ids):019d}"
