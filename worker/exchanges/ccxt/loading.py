"""Imports one ccxt exchange without importing all of them.

``ccxt/__init__`` and ``ccxt/async_support/__init__`` import every exchange there is: seconds of
start-up and 40 MB a process. While one exchange's module is imported, bare packages that only
know where to look stand in for them; they are taken away afterwards, so that a later plain
``import ccxt`` still gives the whole library, with the same classes. The same for ``ccxt.pro``,
which adds WebSocket methods to the asynchronous classes.
"""

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any, Final

from worker.domain.plausibility import MAX_MAGNITUDE, MAX_NUMBER_CHARS, ImplausibleError
from worker.domain.plausibility import number as plausible_number
from worker.exchanges.ccxt.call import keeping_failure
from worker.exchanges.ccxt.outcomes import IncompleteReplyError, is_complete_json
from worker.runtime.logger import get_logger

_log = get_logger()
#: Markets that were left out and logged, each once for a reason.
_left_out: set[tuple[str, str, str]] = set()

#: The most markets that are logged as left out: a list of nothing else would fill the log.
MOST_LEFT_OUT: Final = 1_000

#: ccxt.SIGNIFICANT_DIGITS
_SIGNIFICANT_DIGITS: Final = 3
_PACKAGES: Final = ("ccxt", "ccxt.async_support", "ccxt.pro")


class _Bare(ModuleType):
    """A package whose ``__init__`` was not run; the base classes are found where they live."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for module in ("ccxt.base.errors", "ccxt.base.exchange"):
            value = getattr(importlib.import_module(module), name, None)
            if value is not None:
                return value
        raise AttributeError(f"{self.__name__} has no {name}")


def exchange_class(ccxt_id: str, *, pro: bool = False) -> type[Any]:
    """Return the asynchronous ccxt class ``ccxt_id``, with WebSocket methods if ``pro``.

    Raises:
        KeyError: if ccxt has no such exchange.
    """
    if not ccxt_id.isidentifier() or ccxt_id == "base":
        raise KeyError(ccxt_id)
    rest, name = f"ccxt.async_support.{ccxt_id}", f"ccxt.pro.{ccxt_id}"
    if not pro:
        name = rest
    try:
        module = sys.modules.get(name) or _import_alone(name, ccxt_id, rest)
    except ModuleNotFoundError as error:
        if error.name not in {name, rest}:
            raise
        raise KeyError(ccxt_id) from None
    exchange: type[Any] = getattr(module, ccxt_id)
    return exchange


def _import_alone(name: str, ccxt_id: str, rest: str) -> ModuleType:
    if any(package in sys.modules for package in _PACKAGES):
        return importlib.import_module(name)  # all of ccxt is imported already
    spec = importlib.util.find_spec("ccxt")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("ccxt is not installed", name="ccxt")
    (root,) = spec.submodule_search_locations
    bare = {package: _Bare(package) for package in _PACKAGES}
    for package, stand_in in bare.items():
        stand_in.__path__ = [root + package.removeprefix("ccxt").replace(".", "/")]
    sys.modules.update(bare)
    try:
        module = importlib.import_module(rest)
        if name == rest:
            return module
        # A class of ccxt.pro finds its base as ``ccxt.async_support.<ccxt_id>``.
        vars(bare["ccxt"])["async_support"] = bare["ccxt.async_support"]
        vars(bare["ccxt.async_support"])[ccxt_id] = getattr(module, ccxt_id)
        return importlib.import_module(name)
    finally:
        for package in _PACKAGES:
            del sys.modules[package]


#: Waits until a request may be sent: its section of the API, method, path, parameters, ccxt's cost.
Enter = Callable[[str, str, str, Mapping[str, Any], float], Awaitable[None]]
#: Reads what a reply says of the exchange itself: its section of the API, path, the reply.
Learn = Callable[[str, str, Any], None]


def _leave_out(exchange: str, market: str, reason: str) -> None:
    key = (exchange, market, reason)
    if key not in _left_out and len(_left_out) < MOST_LEFT_OUT:
        _left_out.add(key)
        _log.warning("market_left_out", exchange=exchange, market=market, reason=reason[:200])


def _name_of(market: Any) -> str:
    if isinstance(market, dict):
        for name in ("symbol", "instId", "product_id", "id"):
            if market.get(name):
                return str(market[name])[:60]
    return repr(market)[:60]


def _is_named(exchange: str, market: Any) -> bool:
    names = ("id", "symbol", "base", "quote")
    if isinstance(market, dict) and all(
        isinstance(market.get(name), str) and market[name] for name in names
    ):
        return True
    _leave_out(exchange, _name_of(market), "it has no id, symbol, base or quote")
    return False


def _parsed(reply: str) -> Any:
    """Parse a JSON object or array with Python's own parser; None if it is none.

    Raises:
        IncompleteReplyError: it is one, with a number of more digits than can be read.
    """
    if reply.lstrip()[:1] in {"{", "["}:
        with contextlib.suppress(ValueError):
            return json.loads(reply)
        if is_complete_json(reply.encode()):
            raise IncompleteReplyError("a number in the reply has too many digits")
    return None


def _few_decimals(precision: Any) -> Any:
    if abs(plausible_number(precision)) > MAX_MAGNITUDE:
        raise ImplausibleError(f"a precision is {precision} decimals")
    return precision


def _guard_numbers() -> None:
    """Let ccxt compute with no number that would take it for ever: ``1e999999999``, say.

    It counts in whole numbers with as many digits as the exponent says. Its methods take what an
    exchange sends to such numbers in hundreds of places, all of which make a ``Precise`` of it.
    """
    precise = importlib.import_module("ccxt.base.precise").Precise
    made = precise.__init__
    if getattr(made, "is_guarded", False):
        return

    def guarded(self: Any, number: Any, decimals: Any = None) -> None:
        if decimals is None and (len(number) > MAX_NUMBER_CHARS or "e" in number or "E" in number):
            plausible_number(number)
        made(self, number, decimals)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    precise.__init__ = guarded


def _section(api: Any) -> str:
    return api if isinstance(api, str) else ".".join(api)


def _named(params: Any) -> Mapping[str, Any]:
    return params if isinstance(params, dict) else {}


def exact(base: type[Any], now_ms: Callable[[], int], enter: Enter, learn: Learn) -> type[Any]:
    """Return ``base`` changed to exact numbers, our clock and budget, and markets that fail alone.

    ccxt's default number is ``float``; ``str`` keeps every digit. What an order is sent with is on
    the market's grid already (:mod:`worker.exchanges.ccxt.rounding`), so ccxt does not round it
    again: its own rounding takes ticks as floats, rounds half up, and fails for a quantity of over
    28 digits of its step. Its ``milliseconds()`` is what requests are stamped with. A market
    that it cannot parse, or index, fails all of them. Every request waits for ``enter`` before it
    is signed, for signatures and nonces grow old.
    """

    class Exact(base):  # type: ignore[misc]
        """The ccxt class with these changes."""

        number = str

        def parse_json(self, http_response: str) -> Any:
            """Parse a reply; ccxt's parser gives up on numbers like 1e999, and then says nothing.

            What is no JSON stays text, as in ccxt; JSON that cannot be read is an error.
            """
            reply = super().parse_json(http_response)
            return _parsed(http_response) if reply is None else reply

        def parse_precision(self, precision: Any) -> Any:
            """Parse a number of decimals; None, which leaves the market out, if it is none."""
            with contextlib.suppress(ValueError, OverflowError):
                return super().parse_precision(_few_decimals(precision))
            return None

        def parse_market(self, market: Any) -> Any:
            """Parse one market; None, which is left out, if that fails."""
            try:
                return super().parse_market(market)
            except Exception as error:  # whatever a row makes of ccxt's code
                _leave_out(self.id, _name_of(market), f"{type(error).__name__}: {error}")
                return None

        def set_markets(self, markets: Any, currencies: Any = None) -> Any:
            """Index the markets that have names; ccxt cannot sort the others."""
            named = [market for market in markets if _is_named(self.id, market)]
            return super().set_markets(named, currencies)

        def amount_to_precision(self, symbol: str, amount: Any) -> str:
            """Return the amount as it is; on markets of significant digits as ccxt rounds it."""
            if self.precisionMode == _SIGNIFICANT_DIGITS:
                return str(super().amount_to_precision(symbol, amount))
            return str(amount)

        def price_to_precision(self, symbol: str, price: Any) -> str:
            """Return the price as it is; on markets of significant digits as ccxt rounds it."""
            if self.precisionMode == _SIGNIFICANT_DIGITS:
                return str(super().price_to_precision(symbol, price))
            return str(price)

        def milliseconds(self) -> int:
            """The exchange's time, Unix milliseconds."""
            return now_ms()

        async def fetch2(
            self,
            path: str,
            api: Any = "public",
            method: str = "GET",
            params: Any = None,
            config: Any = None,
        ) -> Any:
            """Send one request, once it may be sent."""
            section, params, config = _section(api), params or {}, config or {}
            cost = self.calculate_rate_limiter_cost(api, method, path, params, config)
            await enter(section, method, path, _named(params), float(cost))
            with keeping_failure():
                reply = await super().fetch2(path, api, method, params, config)
            learn(section, path, reply)
            return reply

    _guard_numbers()
    Exact.__name__ = Exact.__qualname__ = base.__name__
    return Exact
