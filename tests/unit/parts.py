"""Parts the unit tests are put together from: a clock, signals, markets, a ledger, an exchange."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import msgspec

from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.position import Position
from worker.domain.signal import Direction, OrderType, Signal, decode_signal
from worker.domain.trading_state import TradingState
from worker.exchanges.budget.classes import RequestClass
from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome
from worker.exchanges.ports import ClockOffset, ExchangeAdapter, Resend, SendWindow
from worker.ledger.items import AdmitItem
from worker.ledger.ports import Ledger
from worker.ledger.replies import Admission, Admitted, Authorization
from worker.market.data import MarketData, MarketView
from worker.pipeline.custody import Custody
from worker.pipeline.flow import AdmittedOrder, Arrival, Lifetime, NeverSent, Permission, Plan

D = Decimal
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
ENTRY_ID = f"{START_MS - 40}-0"
SYMBOL = "BTC/USDT"

SPOT = SymbolInfo(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    settle="USDT",
    price_tick=D("0.01"),
    quantity_step=D("0.0001"),
    min_quantity=D("0.0001"),
    max_quantity=D(1000),
    min_notional=D(5),
)
PERPETUAL = msgspec.structs.replace(
    SPOT, symbol="BTC/USDT:USDT", kind=MarketKind.LINEAR, shortable=True
)


class ManualClock:
    """A clock that moves only when somebody sleeps on it, or when a test moves it."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return START_MS + int(self.ms)

    def monotonic_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += seconds * 1000
        await asyncio.sleep(0)


def document(**fields: Any) -> dict[str, Any]:
    """A valid long market entry as JSON-ready fields; a field given as None is left out."""
    whole: dict[str, Any] = {
        "signal_id": "s-1",
        "created_at": START.isoformat(),
        "exchange": "paper",
        "symbol": SYMBOL,
        "action": "open",
        "direction": "long",
        "strength": 0.8,
        "confluence_score": 7.5,
    }
    return {name: value for name, value in (whole | fields).items() if value is not None}


def payload(**fields: Any) -> bytes:
    """The document as the stream carries it."""
    return json.dumps(document(**fields)).encode()


def signal(**fields: Any) -> Signal:
    """The document, decoded."""
    return decode_signal(payload(**fields))


def ticker(price: str | Decimal = "100", symbol: str = SYMBOL) -> Ticker:
    """A market at one price, without a spread."""
    return Ticker(symbol=symbol, bid=D(price), ask=D(price), last=D(price), at_ms=START_MS)


def fill(
    quantity: str | Decimal,
    price: str | Decimal,
    fee: str | Decimal = "0",
    currency: str = "USDT",
    trade_id: str = "t",
    at_ms: int = START_MS,
) -> Fill:
    """One trade."""
    return Fill(
        trade_id=trade_id,
        quantity=D(quantity),
        price=D(price),
        fee=D(fee),
        fee_currency=currency,
        at_ms=at_ms,
    )


def position(
    quantity: str | Decimal = "1", entry_price: str | Decimal = "100", **fields: Any
) -> Position:
    """An open position, as one entry made it: long 1 BTC at 100 USDT unless said otherwise."""
    whole: dict[str, Any] = {
        "position_id": "p-1",
        "exchange": "paper",
        "symbol": SYMBOL,
        "direction": Direction.LONG,
        "quantity": D(quantity),
        "entry_quantity": D(quantity),
        "entry_value": D(quantity) * D(entry_price),
        "opened_at": START,
        "signal_id": "s-0",
    }
    return Position(**(whole | fields))


def custody(expires_mono_ms: float = 15_000.0, token: int = 1) -> Custody:
    """A grant of the one entry these tests know."""
    return Custody(ENTRY_ID, token, expires_mono_ms)


class ScriptedExchange(ExchangeAdapter):
    """An exchange that answers from lists; an answer may be a report, an error, or a function.

    The last answer of a list is given for ever.
    """

    resend = Resend.AFTER_DEADLINE

    def __init__(self, clock: ManualClock, *, window_ms: int = 5_000) -> None:
        self.name = "paper"
        self.clock_offset = ClockOffset()
        self.time = clock
        self.window_ms = window_ms
        self.placing: list[Any] = []
        self.looking: list[Any] = []
        self.trades: list[Any] = []
        self.cancelling: list[Any] = [None]
        #: What the account holds, and its coins; asked without a request.
        self.holding: list[Any] = [[]]
        self.wallet: list[Any] = [{}]
        #: What was asked of the exchange, in order: (method, time on the clock in ms).
        self.calls: list[tuple[str, float]] = []
        self.requests: list[OrderRequest] = []
        self.markets: dict[str, SymbolInfo] = {SYMBOL: SPOT, PERPETUAL.symbol: PERPETUAL}
        self.budget = RequestGate("paper", {}, clock)

    def times(self, method: str) -> list[float]:
        """When ``method`` was called."""
        return [at for name, at in self.calls if name == method]

    async def _answer(
        self, method: str, answers: list[Any], request: OrderRequest | None = None
    ) -> Any:
        self.calls.append((method, self.time.ms))
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def start(self) -> None:
        self.calls.append(("start", self.time.ms))

    async def close(self) -> None:
        self.calls.append(("close", self.time.ms))

    def take_turn(self, within_ms: float, request: OrderRequest | None = None) -> float:
        key = request.client_order_id if request is not None else ""
        wait_ms = self.budget.take_turn(key, RequestClass.ENTRY, (), within_ms)
        if request is not None and not wait_ms:
            self.budget.send_order(key, RequestClass.ENTRY, ())
        return wait_ms

    def now_ms(self) -> int:
        return self.time.now_ms() + int(self.clock_offset.offset_ms)

    def open_window(self) -> SendWindow:
        return SendWindow(self.now_ms(), self.window_ms, self.time.ms + self.window_ms)

    async def place_order(self, request: OrderRequest, window: SendWindow) -> OrderReport:
        self.requests.append(request)
        return cast("OrderReport", await self._answer("place", self.placing, request))

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        await self._answer("cancel", self.cancelling, request)

    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        return cast("OrderReport", await self._answer("look", self.looking, request))

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        return []

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        return cast("tuple[Fill, ...]", await self._answer("trades", self.trades, request))

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        return cast("Mapping[str, Balance]", await self._answer("balance", self.wallet))

    async def get_positions(self) -> list[ExchangePosition]:
        return cast("list[ExchangePosition]", await self._answer("positions", self.holding))

    async def get_ticker(self, symbol: str) -> Ticker:
        return ticker(symbol=symbol)

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        return self.markets.get(symbol)

    def symbols(self) -> Iterable[str]:
        return self.markets

    async def measure_clock(self) -> ClockOffset:
        self.calls.append(("clock", self.time.ms))
        return self.clock_offset


def report(
    state: OrderState = OrderState.FILLED, *fills: Fill, **fields: Any
) -> Callable[[OrderRequest], OrderReport]:
    """An answer about whichever order is asked for; filled whole at 100 unless said otherwise."""

    def answer(request: OrderRequest) -> OrderReport:
        traded = fills
        if not fills and state is OrderState.FILLED and "filled_quantity" not in fields:
            traded = (fill(request.quantity, "100"),)
        filled = sum((one.quantity for one in traded), D(0))
        whole: dict[str, Any] = {
            "client_order_id": request.client_order_id,
            "exchange_order_id": "X1",
            "symbol": request.symbol,
            "state": state,
            "filled_quantity": filled,
            "average_price": D(100) if filled else None,
            "fills": traded,
            "created_ms": START_MS,
        }
        return OrderReport(**(whole | fields))

    return answer


def not_found() -> OrderNotFoundError:
    """The exchange knows no such order."""
    return OrderNotFoundError("no such order", outcome=Outcome.REFUSED, code="-2013")


def trouble(outcome: Outcome, **fields: Any) -> ExchangeError:
    """A create request that brought no report."""
    return ExchangeError(f"it was {outcome}", outcome=outcome, code="T", **fields)


class FakeLedger:
    """The few calls the stages make, answered from lists as the exchange's are."""

    def __init__(self) -> None:
        self.admissions: list[Admission | Exception] = [Admitted(b"", 0.0)]
        self.authorizations: list[Authorization | Exception] = [
            Authorization(held=True, trading_state=TradingState.ACTIVE, pause_ms=0.0)
        ]
        self.admitted: list[AdmitItem] = []
        self.authorized = 0
        self.throttled: list[tuple[str, int]] = []

    def as_ledger(self) -> Ledger:
        """Itself, under the type the stages ask for."""
        return cast("Ledger", self)

    async def admit(self, items: Sequence[AdmitItem]) -> list[Admission]:
        return [self._admit(item) for item in items]

    def _admit(self, item: AdmitItem) -> Admission:
        self.admitted.append(item)
        answer = self.admissions.pop(0) if len(self.admissions) > 1 else self.admissions[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def authorize(self, entry_id: str, token: int, exchange: str) -> Authorization:
        self.authorized += 1
        answers = self.authorizations
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def throttle(self, exchange: str, pause_ms: int) -> int:
        self.throttled.append((exchange, pause_ms))
        return pause_ms


def expires_ms(one: Signal) -> float:
    """When a signal may no longer be sent, by the default age, Unix milliseconds."""
    return one.expires_ms(one.created_ms, 30_000)


def arrival(
    one: Signal,
    *,
    info: SymbolInfo | None = SPOT,
    price: str | None = "100",
    free: str | None = "10000",
    suspect_until_mono_ms: float | None = None,
    is_quoted: bool = True,
) -> Arrival:
    """A signal with what is known of its market: None for what is not known."""
    balance = None if free is None else Balance(free=D(free), total=D(free))
    quote = None if price is None else ticker(price)
    view = MarketView(one.exchange, one.symbol, info, quote, balance, is_quoted=is_quoted)
    return Arrival(
        signal=one,
        written=one.written(),
        digest=one.digest(),
        view=view,
        lifetime=Lifetime(one.created_ms, expires_ms(one)),
        seen_ms=START_MS,
        suspect_until_mono_ms=suspect_until_mono_ms,
    )


async def market_view(
    market: MarketData, exchange: str, symbol: str, *, ask: bool = True
) -> MarketView:
    """What is known of a market; what memory lacks is asked for, unless told otherwise."""
    view = market.known(exchange, symbol)
    return await market.complete(view) if ask and market.is_lacking(view) else view


def order_request(**fields: Any) -> OrderRequest:
    """A market order that buys 2 BTC to open a position, unless said otherwise."""
    whole: dict[str, Any] = {
        "client_order_id": "c1",
        "exchange": "paper",
        "symbol": SYMBOL,
        "role": Role.ENTRY,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "quantity": D(2),
    }
    return OrderRequest(**(whole | fields))


def admitted_order(
    request: OrderRequest,
    *,
    reference: str | None = "100",
    reserved: int = 0,
    **fields: Any,
) -> AdmittedOrder:
    """An order admitted at the clock's start, that may be sent and has not been."""
    one: Signal = fields.pop("signal", None) or signal()
    plan = Plan(
        request=request,
        reference=None if reference is None else D(reference),
        reserved=reserved,
        not_before_ms=START_MS,
    )
    whole: dict[str, Any] = {
        "signal": one,
        "digest": one.digest(),
        "lifetime": Lifetime(one.created_ms, expires_ms(one)),
        "info": SPOT,
        "request": request,
        "position": None,
        "plan": plan,
        "admitted_at": 0,
        "sent_before": NeverSent(),
        "permission": Permission(0.0),
    }
    return AdmittedOrder(**(whole | fields))
