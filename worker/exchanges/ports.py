"""The interface to every exchange: small protocols by purpose, and the adapter that has all.

Every method that talks to the exchange raises only :class:`~worker.exchanges.errors.ExchangeError`.
Quantities are in base units, prices in quote units, times in Unix milliseconds unless the name says
otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest
from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.findings import AccountFinding


class Resend(StrEnum):
    """The rule for sending an order again whose outcome is unknown and that is not found."""

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


class ClockOffset(msgspec.Struct, frozen=True):
    """The exchange's clock minus ours: ``offset_ms`` ± ``uncertainty_ms``."""

    offset_ms: float = 0.0
    uncertainty_ms: float = 0.0


class Orders(Protocol):
    """Sending, cancelling and looking up orders."""

    resend: Resend
    #: How long an accepted order may be invisible to look-ups, milliseconds.
    visibility_ms: int = 2_000
    #: Whether orders go over a connection made beforehand, which may be an ``obstacle``.
    keeps_order_connection: bool = False

    def resend_rule(self, request: OrderRequest) -> Resend:
        """Return the rule for sending ``request`` again: ``resend``, unless its kind differs."""
        return self.resend

    @property
    def obstacle(self) -> str:
        """Why no order can be sent at this moment, in a sentence; empty if orders can be sent."""
        return ""

    def take_turn(self, within_ms: float, request: OrderRequest | None = None) -> float:
        """Take an order's turn to be sent, where the exchange limits the rate of requests.

        Call it, and wait for the turn, before :meth:`open_window`: between the window and the
        sending only a connection may be waited for, at most 250 ms: the last check of halt, expiry
        and lease has to be the last.

        Args:
            within_ms: how long the order may wait, milliseconds.
            request: the order; closing and protective ones go before entries.

        Returns:
            0 if the turn is taken; else nothing is, and it is to be asked for again after so many
            milliseconds. The order keeps its place in line, unless that is more than ``within_ms``.
        """
        return 0.0

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

    @abstractmethod
    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Return all open orders of the account, or of one symbol."""

    @abstractmethod
    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """Return the fills of one order with their fees, oldest first."""


class Account(Protocol):
    """Balances and positions of the account."""

    #: Kinds of market that are paid for from a wallet of their own; the first pays for all others.
    wallets: tuple[MarketKind, ...] = (MarketKind.SPOT,)
    #: Whether the base currency of a spot position shows in the balances.
    balances_show_spot_positions: bool = True
    #: What the exchange said of the account's settings: position mode, margin mode, leverage,
    #: permissions. A failed one keeps the exchange from starting.
    findings: tuple[AccountFinding, ...] = ()

    async def refresh_findings(self) -> tuple[AccountFinding, ...]:
        """Read the account's settings again, and return ``findings``; a failed one only shows."""
        return self.findings

    @abstractmethod
    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """Return the holdings by currency in the wallet that pays for ``kind``, see ``wallets``."""

    @abstractmethod
    async def get_positions(self) -> list[ExchangePosition]:
        """Return the open derivative positions; spot holdings are balances, not positions."""


class Markets(Protocol):
    """The markets an exchange lists, and their rules."""

    @abstractmethod
    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """Return the market's rules from memory, or None for an unknown symbol."""

    @abstractmethod
    def symbols(self) -> Iterable[str]:
        """Return every symbol the exchange lists."""

    async def refresh_markets(self) -> bool:
        """Load the markets again; on failure everything stays as it was.

        A market that is gone stays known, as one that does not trade: orders and positions of it
        may still have to be looked after.

        Returns:
            True if the markets were replaced; False where there is nothing to load.
        """
        return False


class Prices(Protocol):
    """The markets' prices."""

    @abstractmethod
    async def get_ticker(self, symbol: str) -> Ticker:
        """Return the market's price now."""

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return the prices of several symbols, in as few calls as the exchange allows.

        A symbol without a price is left out; it does not keep the others' prices back.

        Raises:
            ExchangeError: not one price could be had.
        """
        return {symbol: await self.get_ticker(symbol) for symbol in symbols}


class Time(Protocol):
    """The exchange's clock."""

    #: The last measurement.
    clock_offset: ClockOffset
    #: Whether the exchange's clock is another than this machine's, so that it must be measured.
    has_own_clock: bool = True

    @abstractmethod
    def now_ms(self) -> int:
        """Return the exchange's time by the last measurement."""

    async def measure_clock(self) -> ClockOffset:
        """Measure the exchange's clock against ours and remember the offset."""
        return self.clock_offset


class ExchangeAdapter(Orders, Account, Markets, Prices, Time, ABC):
    """One exchange, one account on it."""

    #: The exchange's name in configuration and in signals.
    name: str
    #: How many workers may use one API key at the same time; 0 for any number.
    workers_per_key: int = 0
    #: What a person should know of the configuration though it may work, in sentences.
    advice: tuple[str, ...] = ()

    def take_seat(self, seat: int) -> None:
        """Use the API key, under the number ``seat`` among the workers that share it.

        Called before :meth:`start` and whenever the seat changes, where ``workers_per_key`` is set.
        """

    def lose_seat(self, reason: str) -> None:
        """Send nothing more with the API key, for ``reason``, until there is a seat again."""

    @property
    def request_gate(self) -> RequestGate | None:
        """The budget that every request passes; None where nothing is limited."""
        return None

    @abstractmethod
    async def start(self) -> None:
        """Load markets, measure the clock, check the credentials."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection; idempotent."""
