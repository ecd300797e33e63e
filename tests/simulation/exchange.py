"""A worker's adapter to the simulated venue: the network between them fails on demand."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from tests.simulation.faults import Call, Fault
from tests.simulation.loop import Process
from tests.simulation.network import Broken, Network
from tests.simulation.venue import (
    BALANCE,
    LARGEST_EVERY_S,
    LIMITED,
    MARKETS,
    PRICES,
    VISIBILITY_MS,
    Venue,
)
from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest
from worker.domain.signal import Direction
from worker.exchanges.ccxt.timekeeping import ExchangeTime
from worker.exchanges.errors import ExchangeError, InvalidOrderError, Outcome, RateLimitError
from worker.exchanges.ports import ClockOffset, ExchangeAdapter, Resend, SendWindow
from worker.runtime.clock import Clock

T = TypeVar("T")

TYPICAL_S: Final = 0.02


class SimulatedExchange(ExchangeAdapter):
    """What one worker sees of the venue.

    Args:
        venue: the exchange.
        network: the way there.
        process: the worker's.
        clock: the worker's.
        recv_window_ms: how long each create request stays valid.
        on_send: told of every create request the moment the worker decides to send it.
    """

    name = "sim"
    resend = Resend.AFTER_DEADLINE
    visibility_ms = VISIBILITY_MS

    def __init__(
        self,
        *,
        venue: Venue,
        network: Network,
        process: Process,
        clock: Clock,
        recv_window_ms: int,
        on_send: Callable[[str, OrderRequest], None],
    ) -> None:
        self._venue = venue
        self._network = network
        self._process = process
        self._recv_window_ms = recv_window_ms
        self._on_send = on_send
        self._exchange_time = ExchangeTime(clock, grain_ms=1.0)
        self.clock_offset = ClockOffset()

    async def _call(self, name: str, subject: str, execute: Callable[[], T]) -> T:
        call = Call(place="exchange", name=name, worker=self._process.name, subject=subject)
        try:
            return await self._network.call(self._process, call, execute, typical_s=TYPICAL_S)
        except Broken as broken:
            raise _error(broken) from None

    async def start(self) -> None:
        """Measure the clock."""
        await self.measure_clock()

    async def close(self) -> None:
        """Nothing to give back."""

    async def measure_clock(self) -> ClockOffset:
        """As the real adapters do."""
        self.clock_offset = await self._exchange_time.measure(self._ask_time)
        return self.clock_offset

    async def _ask_time(self) -> float:
        return await self._call("time", "", lambda: float(self._venue.clock_ms()))

    def now_ms(self) -> int:
        """As the real adapters do."""
        return self._exchange_time.now_ms()

    def open_window(self) -> SendWindow:
        """As the real adapters do."""
        return self._exchange_time.window(self._recv_window_ms)

    async def place_order(self, request: OrderRequest, window: SendWindow) -> OrderReport:
        """One request to the venue."""
        self._on_send(self._process.name, request)
        return await self._call(
            "place",
            request.client_order_id,
            lambda: self._venue.place(
                request, window.timestamp_ms, window.valid_ms, self._process.name
            ),
        )

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """One request to the venue."""
        await self._call("cancel", request.client_order_id, lambda: self._venue.cancel(request))

    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """One request to the venue."""
        return await self._call(
            "get", request.client_order_id, lambda: self._venue.find(request, exchange_order_id)
        )

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Nothing needs it here."""
        return []

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """One request to the venue."""
        return await self._call(
            "trades",
            request.client_order_id,
            lambda: self._venue.trades(request, report.exchange_order_id),
        )

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """A constant."""
        return await self._call(
            "balance", "", lambda: {"USDT": Balance(free=BALANCE, total=BALANCE)}
        )

    async def get_positions(self) -> list[ExchangePosition]:
        """The net of all fills."""
        return await self._call("positions", "", self._positions)

    def _positions(self) -> list[ExchangePosition]:
        found = []
        for symbol, price in PRICES.items():
            net = self._venue.net(symbol)
            if net:
                found.append(
                    ExchangePosition(
                        symbol=symbol,
                        direction=Direction.LONG if net > 0 else Direction.SHORT,
                        quantity=abs(net),
                        entry_price=price,
                    )
                )
        return found

    async def get_ticker(self, symbol: str) -> Ticker:
        """A constant price."""
        return await self._call("ticker", symbol, lambda: _ticker(symbol))

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Constant prices, in one call."""
        wanted = list(symbols)
        return await self._call(
            "ticker", "", lambda: {symbol: _ticker(symbol) for symbol in wanted}
        )

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """One of four perpetuals; two of them limit market orders half of the time."""
        limited = self._venue._now_s() % LARGEST_EVERY_S > LARGEST_EVERY_S / 2
        return (LIMITED if limited else MARKETS).get(symbol)

    def symbols(self) -> Iterable[str]:
        """The four."""
        return MARKETS


def _ticker(symbol: str) -> Ticker:
    price = PRICES[symbol]
    return Ticker(symbol=symbol, bid=price, ask=price, last=price, at_ms=0)


def _error(broken: Broken) -> ExchangeError:
    """What an adapter makes of a failed call, by what is really known."""
    fault, text = broken.strike.fault, str(broken)
    details: dict[str, Any] = {"outcome": Outcome.UNKNOWN, "code": fault.value}
    if fault is Fault.NOT_SENT:
        return ExchangeError(text, **details | {"outcome": Outcome.NOT_SENT})
    if fault is Fault.THROTTLED:
        return RateLimitError(
            text, outcome=Outcome.THROTTLED, retry_after_s=min(broken.strike.seconds, 1.0)
        )
    if fault is Fault.BUSY:
        return ExchangeError(text, **details | {"outcome": Outcome.REFUSED}, transient=True)
    if fault is Fault.REFUSED:
        return InvalidOrderError(text, **details | {"outcome": Outcome.REFUSED})
    return ExchangeError(text, **details)
