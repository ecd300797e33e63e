"""One interface to every exchange, and errors grouped by what may be done next."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest
from worker.runtime.errors import WorkerError


class Outcome(StrEnum):
    """What is known about a submission that did not return a report.

    The fifth outcome, accepted, is the report itself.
    """

    REFUSED = "refused"  # a definitive no: it is not there and will not be
    NOT_SENT = "not_sent"  # it provably never reached the exchange
    THROTTLED = "throttled"  # refused for rate, not processed
    UNKNOWN = "unknown"  # it may have been accepted


class Resend(StrEnum):
    """When an order whose outcome is unknown, and that is not found, may be sent again."""

    AFTER_DEADLINE = "after_deadline"  # the exchange enforces each request's deadline
    IDEMPOTENT = "idempotent"  # a repeated client order id returns the first order
    NEVER = "never"  # neither: it stays unresolved until a person decides


class SendWindow(msgspec.Struct, frozen=True, gc=False):
    """The time in which an exchange may accept one request, fixed before the lease is checked.

    ``timestamp_ms`` is in the exchange's clock; ``expires_mono_ms`` is the local monotonic time
    after which no request carrying this window can be accepted, the clock offset's uncertainty
    included.
    """

    timestamp_ms: int
    valid_ms: int
    expires_mono_ms: float


class ExchangeClock(msgspec.Struct, frozen=True):
    """The exchange's clock minus ours: ``offset_ms`` ± ``uncertainty_ms``."""

    offset_ms: float = 0.0
    uncertainty_ms: float = 0.0


class ExchangeError(WorkerError):
    """Anything an exchange call can fail with.

    Attributes:
        outcome: what is known about the request.
        code: the exchange's own code (``-2010``), or the name of the transport failure.
        transient: for REFUSED: whether the same order may succeed a moment later.
        retry_after_s: for THROTTLED: how long the exchange said to wait, in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome = Outcome.UNKNOWN,
        code: str = "",
        transient: bool = False,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.code = code
        self.transient = transient
        self.retry_after_s = retry_after_s


class RateLimitError(ExchangeError):
    """Refused for rate (429, 418, -1003, -1015 ...): not processed."""


class InsufficientBalanceError(ExchangeError):
    """Refused for lack of funds."""


class InvalidOrderError(ExchangeError):
    """Refused for the order's own parameters."""


class CredentialsError(ExchangeError):
    """Refused for the API key, its signature or its rights."""


class ClockSkewError(ExchangeError):
    """Refused because the request's timestamp was outside its window (-1021 and its like)."""


class OrderNotFoundError(ExchangeError):
    """The exchange knows no such order (now)."""


class ExchangeAdapter(ABC):
    """One exchange, one account on it.

    Every method that talks to the exchange raises only :class:`ExchangeError`. Quantities are in
    base units, prices in quote units, times in Unix milliseconds unless the name says otherwise.
    """

    #: The exchange's name in configuration and in signals.
    name: str
    resend: Resend
    #: How long an accepted order may be invisible to look-ups, milliseconds.
    visibility_ms: int = 2_000
    clock: ExchangeClock
    #: Kinds of market that are paid for from a wallet of their own; the first pays for all others.
    wallets: tuple[MarketKind, ...] = (MarketKind.SPOT,)
    #: Whether orders are only simulated.
    simulated: bool = False
    #: Whether ``last_price`` answers from memory, so that there is nothing to keep fresh.
    prices_in_memory: bool = False

    @abstractmethod
    async def start(self) -> None:
        """Load markets, measure the clock, check the credentials."""

    @abstractmethod
    async def close(self) -> None:
        """Give back every connection; idempotent."""

    @property
    def obstacle(self) -> str:
        """What keeps orders from being sent at this moment, for a person; empty if nothing does."""
        return ""

    def take_turn(self, within_ms: float) -> float:
        """Take this process's next turn to send an order, where its orders are limited in number.

        To be waited for before :meth:`open_window`: between the window and the sending nothing may
        wait, or the last look at halt, expiry and lease is not the last.

        Returns:
            Milliseconds until the turn, 0 for now; more than ``within_ms`` if it was not taken.
        """
        return 0.0

    @abstractmethod
    def now_ms(self) -> int:
        """The exchange's time, as far as it is known."""

    @abstractmethod
    def open_window(self) -> SendWindow:
        """Fix the time in which the exchange may accept the next create request."""

    @abstractmethod
    async def place_order(self, request: OrderRequest, window: SendWindow) -> OrderReport:
        """Send ``request`` once and now, carrying ``window``; never retried inside.

        Returns:
            The exchange's report; ``state`` may be any state an exchange can report. Where the
            create response holds only ids, ``state`` is SUBMITTED.

        Raises:
            ExchangeError: its ``outcome`` says what is known.
        """

    @abstractmethod
    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """Ask for cancellation by client id (or exchange id where only that works).

        Raises:
            OrderNotFoundError: there is no such open order (it may just have filled).
        """

    @abstractmethod
    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """Look one order up by its client id, or by the exchange's id where given and better.

        Raises:
            OrderNotFoundError: the exchange answered that it knows no such order.
        """

    async def refresh_markets(self) -> None:  # noqa: B027
        """Load the markets anew: some are new, some are gone. Where that fails all stays as it is.

        A market that is gone stays known, as one that does not trade: orders and positions of it
        may still have to be looked after.
        """

    @abstractmethod
    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """All open orders of the account, or of one symbol."""

    @abstractmethod
    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """The fills of one order with their fees, oldest first."""

    @abstractmethod
    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """Holdings by currency in the wallet that pays for ``kind``, see ``wallets``."""

    @abstractmethod
    async def get_positions(self) -> list[ExchangePosition]:
        """Open derivative positions; spot holdings are balances, not positions."""

    @abstractmethod
    async def get_ticker(self, symbol: str) -> Ticker:
        """The market's price now."""

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Prices of several symbols, in as few calls as the exchange allows.

        A symbol without a price is left out; it does not keep the others' prices back.

        Raises:
            ExchangeError: not one price could be had.
        """
        return {symbol: await self.get_ticker(symbol) for symbol in symbols}

    @abstractmethod
    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """The market's rules from memory, or None for an unknown symbol."""

    @abstractmethod
    def symbols(self) -> Iterable[str]:
        """Every symbol the exchange lists."""

    async def measure_clock(self) -> ExchangeClock:
        """Measure the exchange's clock against ours and remember it."""
        return self.clock

    @property
    def takes_signals_prices(self) -> bool:
        """Whether its market's price is what a signal states: nothing can be judged by it."""
        return self.simulated and self.prices_in_memory

    def last_price(self, symbol: str) -> Decimal | None:
        """The last price, where ``prices_in_memory``; None where none is known."""
        return None

    def assume_price(self, symbol: str, price: Decimal) -> None:  # noqa: B027
        """Take the price a signal assumes as the market's; only a simulated exchange does."""
