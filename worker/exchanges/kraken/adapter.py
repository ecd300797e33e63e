"""Kraken spot.

A create request carries ``deadline``, after which the matching engine refuses it, between 2 and
60 s ahead (https://docs.kraken.com/api-reference/trading/add-order). Every private request needs a
nonce above the key's last one, so they go out one by one (``turns.py``), and one worker at a time
uses a key that has no nonce window
(https://support.kraken.com/articles/360001148023-what-is-a-nonce-window-).
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.classes import RequestClass
from worker.exchanges.ccxt.call import current_call
from worker.exchanges.ccxt.rounding import WireOrder
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.findings import AccountFinding
from worker.exchanges.kraken.account import key_findings
from worker.exchanges.kraken.client import SEATS, Nonces, in_turn
from worker.exchanges.kraken.codes import KrakenCodes
from worker.exchanges.kraken.limits import KrakenLimits
from worker.exchanges.kraken.look_ups import KrakenLookUps, remember
from worker.exchanges.kraken.turns import ARRIVED_S, RequestTurns
from worker.exchanges.ports import Resend, SendWindow
from worker.runtime.clock import Clock, rfc3339
from worker.runtime.errors import ConfigError

MIN_DEADLINE_MS: Final = 2_000
#: Added to the shortest deadline for the request's travel.
_TRAVEL_MS: Final = 500
#: A pair's modes in which it takes no order of ours, in words
#: (https://docs.kraken.com/api-reference/market-data/get-tradable-asset-pairs).
_CLOSED_MODES: Final = {
    "cancel_only": "Kraken has the pair in cancel_only mode: orders can only be cancelled",
    "post_only": "Kraken has the pair in post_only mode: only post-only orders are taken",
    "reduce_only": "Kraken has the pair in reduce_only mode: only margin positions can be reduced",
}


#: What one worker need not mind, and several must.
_ONE_WORKER: Final = (
    "exchanges.{0}.nonce_window is 0, so one worker at a time uses this API key: for several "
    "workers give each a key of its own, or give the key a nonce window at Kraken (settings of the "
    "API key) and state it in exchanges.{0}.nonce_window"
)


class KrakenCCXTAdapter(KrakenLookUps):
    """Kraken; look-ups go through the lists of open, then of closed orders."""

    resend = Resend.AFTER_DEADLINE
    _codes = KrakenCodes()
    _balances_at = (("result",),)
    _limits = KrakenLimits
    clock_grain_ms: ClassVar[float] = 1_000.0  # the time endpoint has whole seconds

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        if MarketKind.LINEAR in config.market_types:
            raise ConfigError(f"exchanges.{name}.market_types", "kraken here means spot only")
        shortest = MIN_DEADLINE_MS + int(self.clock_grain_ms) + _TRAVEL_MS
        if config.recv_window_ms < shortest:
            config = msgspec.structs.replace(config, recv_window_ms=shortest)
        super().__init__(name, config, clock)
        has_window = config.nonce_window > 0
        self.workers_per_key = SEATS if has_window else 1
        self._turns = RequestTurns(clock, 0.0 if has_window else ARRIVED_S)
        self._nonces = Nonces(self._exchange_time.now_ms, self.workers_per_key)
        if config.api_key and not has_window:
            self.advice = (_ONE_WORKER.format(name),)
        #: Why this worker must not use the key now; empty if it may.
        self._key_refused = ""
        #: When this process sent an order, by client order id: cancelling a young one costs more.
        self._sent_ms: dict[str, float] = {}

    def _ccxt_class(self) -> type[Any]:
        return in_turn(super()._ccxt_class(), self._turns, self._nonces, self._check_private)

    # ---- the key ----------------------------------------------------------------------------

    @property
    def obstacle(self) -> str:
        """Why no order can be sent at this moment, in a sentence; empty if orders can be sent."""
        return self._key_refused

    def take_seat(self, seat: int) -> None:
        """Use the API key, under the number ``seat`` among the workers that share it."""
        self._nonces.seat = seat
        self._key_refused = ""

    def lose_seat(self, reason: str) -> None:
        """Send nothing more with the API key, for ``reason``, until there is a seat again."""
        self._key_refused = reason

    def _check_private(self) -> None:
        """Check, just before a private request is signed, that it may still be sent.

        Raises:
            ExchangeError: it may not; nothing was sent.
        """
        call = current_call.get()
        operation = call.operation if call is not None else "request"
        if self._key_refused:
            raise ExchangeError(
                f"{self.name} {operation}: {self._key_refused}",
                outcome=Outcome.NOT_SENT,
                code="api_key_in_use",
            )
        expires = call.expires_mono_ms if call is not None else None
        if expires is not None and self._clock.monotonic_ms() >= expires:
            raise ExchangeError(
                f"{self.name} {operation}: the send window is over",
                outcome=Outcome.NOT_SENT,
                code="window_over",
            )

    def take_turn(self, within_ms: float, request: OrderRequest | None = None) -> float:
        """Take an order's turn: in the budget first, then a place in the line of orders.

        Waiting in line happens here, before the window is fixed and the ledger asked, as far as
        its length can be known.
        """
        wait_ms = super().take_turn(within_ms, request)
        if wait_ms:
            return wait_ms
        return self._turns.reserve(within_ms, request.client_order_id if request else "")

    async def _read_account(self) -> AsyncIterator[AccountFinding]:
        reply = await self._setting("permissions", self._ccxt.privatePostGetApiKeyInfo)
        for finding in [reply] if isinstance(reply, AccountFinding) else key_findings(reply):
            yield finding

    # ---- markets ----------------------------------------------------------------------------

    def _restrict(self, info: SymbolInfo, listed: Mapping[str, Any]) -> SymbolInfo:
        mode = str(listed.get("status") or "")
        if mode == "limit_only":
            reason = "Kraken has the pair in limit_only mode"
            return msgspec.structs.replace(info, active=True, limit_only=True, restriction=reason)
        reason = _CLOSED_MODES.get(mode, "")
        if mode and mode != "online" and not reason:
            reason = f"Kraken has the pair in {mode} mode"
        return msgspec.structs.replace(info, active=False, restriction=reason) if reason else info

    # ---- orders -----------------------------------------------------------------------------

    def _deadline_params(self, window: SendWindow) -> dict[str, Any]:
        return {"deadline": rfc3339(window.timestamp_ms + window.valid_ms)}

    async def _create(
        self, request: OrderRequest, order: WireOrder, params: dict[str, Any]
    ) -> Mapping[str, Any]:
        remember(self._sent_ms, request.client_order_id, self._clock.monotonic_ms())
        return await super()._create(request, order, params)

    async def _cancel(self, request: OrderRequest, exchange_order_id: str) -> None:
        sent_ms = self._sent_ms.get(request.client_order_id)
        age_s = None if sent_ms is None else (self._clock.monotonic_ms() - sent_ms) / 1000
        charges = KrakenLimits(self.table.tier).cancel(request.symbol, age_s)
        await self.request_gate.enter(RequestClass.CLOSING, charges)
        await super()._cancel(request, exchange_order_id)


ADAPTER: Final = KrakenCCXTAdapter
