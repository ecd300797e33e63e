"""One exchange's ccxt object: opening and closing it, its markets, its clock, its errors.

ccxt knows every exchange's dialect (symbols, signatures, parsers). What it must not decide is set
here: which session and which clock it uses, that it retries nothing, and what its errors mean.
"""

import contextlib
import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

import aiohttp
import certifi

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.plausibility import moment_ms
from worker.exchanges.budget.classes import RequestClass, wished
from worker.exchanges.budget.requests import BUDGET_CODE, RequestGate
from worker.exchanges.budget.sharing import budget_key
from worker.exchanges.budget.tables import LONGEST_HOLD_S, Endpoint, LimitTable
from worker.exchanges.ccxt import listing, readings
from worker.exchanges.ccxt.call import Call, current_call
from worker.exchanges.ccxt.codes import ANY_CODES, CodeTable
from worker.exchanges.ccxt.http_session import open_session, target
from worker.exchanges.ccxt.loading import exact, exchange_class
from worker.exchanges.ccxt.outcomes import (
    IncompleteReplyError,
    LocalRefusalError,
    map_exceptions,
    redactor,
)
from worker.exchanges.ccxt.timekeeping import ExchangeTime
from worker.exchanges.errors import ExchangeError, Outcome, RateLimitError
from worker.exchanges.ports import ClockOffset, Markets, SendWindow, Time
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError
from worker.runtime.logger import get_logger

#: An RSA signature costs 29 ms of the event loop; ccxt takes longer keys than this for RSA.
_RSA_KEY_CHARS: Final = 120
#: The interval between requests that an exchange without a table of limits is taken to allow, ms.
_RATE_LIMIT_MS: Final = 100.0
#: After HTTP 418 or 429 nothing is sent for this long at least, milliseconds.
_AT_LEAST_MS: Final = 1_000.0

_log = get_logger()


class CCXTConnection(Markets, Time):
    """The part of an adapter that owns the ccxt object and its HTTP session.

    Args:
        name: the exchange's name in configuration and in signals.
        config: where it is and who we are; without ``api_key`` only public data can be had.
        clock: this machine's clocks.
    """

    #: The unit of the exchange's own clock as ``_fetch_time`` tells it.
    clock_grain_ms: ClassVar[float] = 1.0
    #: What the exchange's error codes mean.
    _codes: ClassVar[CodeTable] = ANY_CODES
    #: The exchange's limits of requests.
    _limits: ClassVar[type[LimitTable]] = LimitTable

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        self.name = name
        self.clock_offset = ClockOffset()
        self.ccxt_id = config.ccxt_id or name
        self._config = config
        self._clock = clock
        self._exchange_time = ExchangeTime(clock, self.clock_grain_ms)
        self._rest = target(f"exchanges.{name}.base_url", config.base_url)
        self._websocket = target(f"exchanges.{name}.ws_base_url", config.ws_base_url)
        self._redact = redactor(
            config.api_key.reveal(), config.secret.reveal(), config.password.reveal()
        )
        self.table = self._table(config.rate_tier)
        self._gate = RequestGate(
            name,
            self.table.limits(_RATE_LIMIT_MS),
            clock,
            orders_per_second=config.max_orders_per_second,
            key=budget_key(name, config.api_key.reveal()),
            bans_addresses=self.table.bans_addresses,
        )
        self._last_refusal: ExchangeError | None = None
        self._session: aiohttp.ClientSession | None = None
        self._ccxt: Any = None
        self._infos: dict[str, SymbolInfo] = {}

    def __repr__(self) -> str:
        state = "closed" if self._ccxt is None else f"{len(self._infos)} markets"
        return f"<{type(self).__name__} {self.name}: {self.ccxt_id}, {state}>"

    @property
    def request_gate(self) -> RequestGate:
        """The budget that every request passes."""
        return self._gate

    def _table(self, tier: str) -> LimitTable:
        tiers = self._limits.tiers
        if tier and tier not in tiers:
            known = ", ".join(tiers) or "none: its limits are the same for everybody"
            raise ConfigError(
                f"exchanges.{self.name}.rate_tier",
                f"{self.ccxt_id} has no {tier!r}; it has {known}",
            )
        return self._limits(tier)

    async def close(self) -> None:
        """Close the ccxt object and its HTTP session; idempotent."""
        await self.request_gate.close()
        exchange, self._ccxt = self._ccxt, None
        session, self._session = self._session, None
        if exchange is not None:
            with contextlib.suppress(Exception):
                await exchange.close()
        if session is not None:
            await session.close()

    def _open(self) -> None:
        config, key = self._config, f"exchanges.{self.name}"
        try:
            base = self._ccxt_class()
        except KeyError:
            raise ConfigError(f"{key}.ccxt_id", f"ccxt has no {self.ccxt_id!r}") from None
        secret = config.secret.reveal()
        if "PRIVATE KEY" in secret and len(secret) > _RSA_KEY_CHARS and "EC " not in secret:
            _log.warning("rsa_key_blocks_loop", exchange=self.name, advice="use Ed25519 or HMAC")
        trust = ssl.create_default_context(cafile=certifi.where())
        session = open_session(self._rest, self._websocket, trust)
        self._session = session
        self._ccxt = exact(base, self._exchange_ms, self._enter, self._learn_limits)(
            {
                "apiKey": config.api_key.reveal() or None,
                "secret": secret or None,
                "password": config.password.reveal() or None,
                "session": session,
                "ssl_context": trust,
                "timeout": config.timeout_ms,
                "enableRateLimit": False,  # 200 ms an order; the budget is ours
                "timeout_on_exit": 0,
                "maxRetriesOnFailure": 0,
                "enableLastHttpResponse": False,
                "enableLastJsonResponse": False,
                "enableLastResponseHeaders": False,
                "options": {"maxRetriesOnFailure": 0} | self._options(),
            }
        )
        # At DEBUG ccxt logs every request with its key and signature.
        self._ccxt.logger.setLevel(logging.INFO)
        # Nothing here needs currencies, and some exchanges want a signed call for them.
        self._ccxt.has["fetchCurrencies"] = False
        if config.sandbox:
            try:
                self._use_sandbox()
            except Exception as error:
                raise ConfigError(f"{key}.sandbox", f"not there: {type(error).__name__}") from None

    def _ccxt_class(self) -> type[Any]:
        """Return the ccxt class that talks to the exchange."""
        return exchange_class(self.ccxt_id)

    def _options(self) -> dict[str, Any]:
        """Return the ccxt ``options`` of the exchange."""
        return {}

    def _use_sandbox(self) -> None:
        self._ccxt.set_sandbox_mode(True)

    # ---- markets ----------------------------------------------------------------------------

    async def _load_markets(self) -> None:
        with self._boundary("load_markets"):
            await self._ccxt.load_markets()
            self._infos = listing.read(self._ccxt, self._config.market_types, self._symbol_info)

    def _symbol_info(
        self, market: Mapping[str, Any], kind: MarketKind, precision_mode: int
    ) -> SymbolInfo:
        """Return a ccxt market's rules, with what ccxt leaves in the exchange's own row."""
        info = readings.symbol_info(market, kind, precision_mode)
        return self._restrict(info, market.get("info") or {})

    async def refresh_markets(self) -> bool:
        """Load the markets again; on failure everything stays as it was."""
        with self._boundary("load_markets"):
            exchange, before = self._ccxt, self._infos
            kinds = self._config.market_types
            infos = await listing.reload(exchange, kinds, before, self._symbol_info)
            if exchange is not self._ccxt:
                return False  # closed meanwhile
            self._infos = infos
        if changed := listing.changes(before, infos):
            _log.info("markets_changed", exchange=self.name, **changed)
        return True

    def _restrict(self, info: SymbolInfo, listed: Mapping[str, Any]) -> SymbolInfo:
        """Return ``info`` with the market's trading mode, as the exchange ``listed`` it."""
        return info

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """Return the market's rules from memory, or None for an unknown symbol."""
        return self._infos.get(symbol)

    def symbols(self) -> Iterable[str]:
        """Return every symbol of the configured market types."""
        return self._infos.keys()

    def _info(self, symbol: str) -> SymbolInfo:
        info = self._infos.get(symbol)
        if info is None:
            raise LocalRefusalError(f"{self.name} has no market {symbol}")
        return info

    # ---- time -------------------------------------------------------------------------------

    async def measure_clock(self) -> ClockOffset:
        """Measure the exchange's clock against ours and remember the offset."""
        self.clock_offset = await self._exchange_time.measure(self._ask_time)
        return self.clock_offset

    async def _ask_time(self) -> float:
        with self._boundary("fetch_time"):
            told = await self._fetch_time()
            if not moment_ms(told, "the exchange's time"):
                raise IncompleteReplyError("the reply holds no time")
            return float(readings.decimal(told))

    async def _fetch_time(self) -> Any:
        """Return the exchange's time, Unix milliseconds."""
        return await self._ccxt.fetch_time()

    def now_ms(self) -> int:
        """Return the exchange's time by the last measurement."""
        return self._exchange_time.now_ms()

    def _exchange_ms(self) -> int:
        """Return the time to stamp requests with: the window's for a create request, else now."""
        call = current_call.get()
        if call is not None and call.stamp_ms is not None:
            return call.stamp_ms
        return self._exchange_time.now_ms()

    # ---- errors -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _boundary(
        self,
        operation: str,
        request_class: RequestClass = RequestClass.REST,
        *,
        creating: bool = False,
        window: SendWindow | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[Call]:
        """Run one operation: its requests pass the budget, its errors become ours.

        Inside another operation its requests are of the more urgent class of both.
        """
        if self._ccxt is None:
            raise ExchangeError(
                f"{self.name} {operation}: not started", outcome=Outcome.NOT_SENT, code="closed"
            )
        outer = current_call.get()
        if outer is not None:
            request_class = min(request_class, outer.request_class)
        call = Call(
            operation,
            creating=creating,
            headers=headers or {},
            request_class=request_class,
            on_reply=self._note_reply,
            exchange_ms=self._exchange_time.now_ms,
        )
        if window is not None:
            call.stamp_ms, call.expires_mono_ms = window.timestamp_ms, window.expires_mono_ms
        try:
            with map_exceptions(self.name, self._codes, call, self._redact):
                yield call
        except RateLimitError as error:
            self._note_refusal(error, call)
            raise
        except ExchangeError as error:
            if call.retry_after_s and call.status >= 400 and error is not self._last_refusal:
                self._last_refusal = error
                # As RFC 9110 says of 503, too; a probe finds out whether it still holds.
                self.request_gate.refused(min(call.retry_after_s, LONGEST_HOLD_S))
            else:
                self._note_end(call)
            raise
        except BaseException:
            self._note_end(call)  # cancelled: it may have been the probe
            raise
        else:
            self._note_end(call)

    # ---- budget -----------------------------------------------------------------------------

    async def _enter(
        self,
        section: str,
        method: str,
        path: str,
        params: Mapping[str, Any],
        cost: float,
        times: int = 1,
    ) -> None:
        """Wait until a request may be sent, by the budget and the class of the running call."""
        call = current_call.get()
        if call is not None and call.prepaid:
            call.prepaid -= 1
            return
        request_class = call.request_class if call is not None else RequestClass.REST
        within_s = 0.0 if call is not None and call.creating else None
        wish = wished()
        if wish is not None:
            request_class = min(wish.request_class, request_class)
            within_s = wish.within_s if within_s is None else within_s
        charges = self.table.charges(Endpoint(section, method, path, params, cost))
        charges = tuple((name, each * times) for name, each in charges)
        operation = call.operation if call is not None else ""
        await self.request_gate.enter(
            request_class, charges, within_s=within_s, operation=operation
        )
        if call is not None:
            call.has_entered = True
            if call.operation == "fetch_time":
                self._exchange_time.sent_ms = self._clock.monotonic_ms()

    def _learn_limits(self, section: str, path: str, reply: Any) -> None:
        """Take the limits that the exchange itself announces in place of the documented ones."""
        limits = self.table.announced(section, path, reply)
        if limits:
            self.request_gate.relimit(limits)

    def _note_reply(self, path: str, status: int, headers: Mapping[str, str]) -> None:
        """Note what a reply's headers tell of limits; a refusal for rate stops all others now."""
        now_ms = self._exchange_time.now_ms()
        for told in self.table.told(path, headers, now_ms):
            self.request_gate.told(told)
        call = current_call.get()
        if call is not None:
            call.resets_s = self.table.resets_in_s(headers, now_ms)
        if status in {418, 429}:
            self.request_gate.hold(_AT_LEAST_MS)  # until its text has been read

    def _note_refusal(self, error: RateLimitError, call: Call) -> None:
        """Hold all requests after a refusal for rate, for as long as the exchange wants."""
        if error.code == BUDGET_CODE or error is self._last_refusal:
            return
        self._last_refusal = error
        for_s = error.retry_after_s
        if not for_s:
            times, now_ms = self.request_gate.holds.refusals_before(), self._exchange_time.now_ms()
            for_s = self.table.hold_for(error.code, call.status, times, now_ms)
        self.request_gate.refused(for_s)

    def _note_end(self, call: Call) -> None:
        if call.status:
            self.request_gate.answered()
        elif call.requests or call.has_entered:
            self.request_gate.failed()
