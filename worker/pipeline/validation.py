"""The validation stage: checks form, quality, age and market of a signal."""

from collections.abc import Callable, Iterable
from decimal import Decimal

from worker.config.keys import ValidationConfig
from worker.domain.market import SymbolInfo, largest_order
from worker.domain.money import HUNDRED, ratio, rounded_text, text
from worker.domain.refusal import Code, Refusal, Stage
from worker.domain.signal import (
    CLOSE,
    FOK,
    GTD,
    IOC,
    LIMIT,
    LONG,
    MARKET,
    OPEN,
    SHORT,
    STOP,
    Signal,
)
from worker.pipeline.flow import Arrival, Failed, Lifetime, ValidSignal
from worker.runtime.clock import utc


class ValidationHandler:
    """The first stage: a plain function of a signal and its market.

    Every rule has a code and a sentence.

    Args:
        config: the ``validation`` section.
        exchanges: the names a signal may use.
        max_size_pct: ``risk.max_position_size_pct``, checked here because it needs no balance.
        hint: the end of a sentence about a symbol that an exchange does not list.
    """

    def __init__(
        self,
        config: ValidationConfig,
        *,
        exchanges: Iterable[str],
        max_size_pct: Decimal,
        hint: Callable[[str, str], str] = lambda _exchange, _symbol: "",
    ) -> None:
        self._config = config
        self._hint = hint
        self._exchanges = frozenset(exchanges)
        self._max_size_pct = max_size_pct
        self._max_age_ms = config.max_signal_age_seconds * 1000
        self._max_lifetime_ms = config.max_signal_lifetime_seconds * 1000
        self._max_ahead_ms = config.max_clock_ahead_seconds * 1000
        self._min_strength = config.min_signal_strength
        self._min_confluence = config.min_confluence_score

    def check(self, arrival: Arrival) -> ValidSignal | Failed:
        """Check one signal against every rule; the first breach ends it."""
        signal, view = arrival.signal, arrival.view
        refusal = self.check_alone(signal, arrival.lifetime, arrival.seen_ms)
        if refusal is None and (view.info is None):
            refusal = _refuse(
                Code.UNKNOWN_SYMBOL,
                f"symbol: {signal.exchange} lists no market {signal.symbol!r}"
                f"{self._hint(signal.exchange, signal.symbol)}",
            )
        if refusal is not None or view.info is None:
            assert refusal is not None  # noqa: S101 (an absent market was refused above)
            return Failed(refusal=refusal, signal=signal, digest=arrival.digest)
        market = view.ticker.last if view.ticker is not None else None
        reference, refusal = self._reference(signal, market, is_quoted=view.is_quoted)
        refusal = refusal or self._check_market(signal, view.info, reference, market)
        if refusal is None and market is not None and view.is_quoted:
            refusal = _check_trigger(signal, market)
        if refusal is not None:
            return Failed(refusal=refusal, signal=signal, digest=arrival.digest)
        return ValidSignal(arrival=arrival, info=view.info, reference=reference)

    def check_alone(self, signal: Signal, lifetime: Lifetime, now_ms: int) -> Refusal | None:
        """Check what needs no market: time, form, quality and the exchange's name."""
        refusal = (
            self._check_time(signal, lifetime, now_ms)
            or self._check_form(signal)
            or self._check_quality(signal)
        )
        if refusal is None and signal.exchange not in self._exchanges:
            refusal = _refuse(
                Code.UNKNOWN_EXCHANGE,
                f"exchange: {signal.exchange!r} is not one of validation.valid_exchanges "
                f"({', '.join(sorted(self._exchanges))})",
            )
        return refusal

    def lifetime(self, signal: Signal) -> Lifetime:
        """Return when the signal was made and when it may no longer be sent."""
        created_ms = signal.created_ms
        return Lifetime(created_ms, signal.expires_ms(created_ms, self._max_age_ms))

    def _check_time(self, signal: Signal, lifetime: Lifetime, now_ms: int) -> Refusal | None:
        if now_ms >= lifetime.expires_ms:
            return _refuse(
                Code.SIGNAL_EXPIRED,
                f"{self._bound(signal)}: the signal of {signal.created_at.isoformat()} expired at "
                f"{self._expiry(signal)}, it is {utc(now_ms).isoformat()}",
            )
        if lifetime.created_ms - now_ms > self._max_ahead_ms:
            return _refuse(
                Code.SIGNAL_FROM_FUTURE,
                f"created_at: {signal.created_at.isoformat()} is over "
                f"{self._config.max_clock_ahead_seconds:g} s ahead of our clock: "
                f"{utc(now_ms).isoformat()}",
            )
        if lifetime.expires_ms - lifetime.created_ms > self._max_lifetime_ms:
            return _refuse(
                Code.LIFETIME_TOO_LONG,
                f"expires_at: {self._expiry(signal)} is more than "
                f"validation.max_signal_lifetime_seconds "
                f"({self._config.max_signal_lifetime_seconds:g} s) after created_at, "
                f"{signal.created_at.isoformat()}",
            )
        return None

    def _expiry(self, signal: Signal) -> str:
        if signal.good_till is not None and self._bound(signal) == "good_till":
            return signal.good_till.isoformat()
        if signal.expires_at is not None:
            return signal.expires_at.isoformat()
        return f"the age of {self._config.max_signal_age_seconds:g} s"

    def _bound(self, signal: Signal) -> str:
        """Return the field that says until when the signal may be sent."""
        if signal.good_till is None:
            return "expires_at"
        otherwise_ms = signal.own_expiry_ms() or signal.created_ms + self._max_age_ms
        return "good_till" if signal.good_till_ms() < otherwise_ms else "expires_at"

    def _check_form(self, signal: Signal) -> Refusal | None:
        """Check the fields that only some kinds of signal need, or may have."""
        missing = _missing(signal)
        if missing is not None:
            return _refuse(
                Code.MISSING_FIELD,
                f"{missing}: required for action {signal.action.value!r} with order_type "
                f"{signal.order_type.value!r}",
            )
        if signal.stop_price is not None and not signal.order_type.needs_stop_price:
            return _refuse(
                Code.FIELD_NOT_ALLOWED,
                f"stop_price: order_type {signal.order_type.value!r} has no trigger",
            )
        if signal.time_in_force in _IMMEDIATE and signal.order_type.needs_stop_price:
            return _refuse(
                Code.FIELD_NOT_ALLOWED,
                f"time_in_force: {signal.time_in_force} contradicts a {signal.order_type.value} "
                "order, which waits for its trigger",
            )
        if signal.good_till is not None or signal.time_in_force is GTD or signal.post_only:
            refusal = _check_rest(signal)
            if refusal is not None:
                return refusal
        if signal.size_pct is not None and signal.action is CLOSE:
            return _refuse(
                Code.FIELD_NOT_ALLOWED,
                "size_pct: a close is of the whole position, or of quantity base units",
            )
        if signal.quantity is not None and signal.size_pct is not None:
            return _refuse(
                Code.FIELD_NOT_ALLOWED, "size_pct: give either quantity or size_pct, not both"
            )
        return None

    def _check_quality(self, signal: Signal) -> Refusal | None:
        if signal.action is CLOSE:
            return None
        if signal.strength is not None and signal.strength < self._min_strength:
            return _refuse(
                Code.STRENGTH_TOO_LOW,
                f"strength: {signal.strength:g} is under validation.min_signal_strength "
                f"({self._min_strength:g})",
            )
        if signal.confluence_score is not None and signal.confluence_score < self._min_confluence:
            return _refuse(
                Code.CONFLUENCE_TOO_LOW,
                f"confluence_score: {signal.confluence_score:g} is under "
                f"validation.min_confluence_score ({self._min_confluence:g})",
            )
        if signal.size_pct is not None and signal.size_pct > self._max_size_pct:
            return _refuse(
                Code.SIZE_OUT_OF_RANGE,
                f"size_pct: {signal.size_pct} is more than risk.max_position_size_pct "
                f"({self._max_size_pct})",
            )
        return None

    def _reference(
        self, signal: Signal, market: Decimal | None, *, is_quoted: bool
    ) -> tuple[Decimal | None, Refusal | None]:
        """Return the price to size and judge by, or why the market refutes it."""
        if signal.action is CLOSE:  # closing must not fail for want of a price
            return signal.entry_price or signal.stop_price or market, None
        if market is None and not is_quoted:
            return None, _refuse(
                Code.NO_REFERENCE_PRICE,
                f"entry_price: {signal.exchange} is simulated and has no price of {signal.symbol} "
                "until a signal states one",
            )
        if market is None:
            return None, _refuse(
                Code.NO_REFERENCE_PRICE,
                f"symbol: {signal.exchange} gave no price for {signal.symbol} in the last "
                f"{self._config.max_price_age_seconds:g} s",
            )
        if signal.entry_price is None:
            return signal.stop_price or market, None
        deviation = abs(signal.entry_price - market) * HUNDRED
        if deviation > self._config.max_price_deviation_pct * market:
            return None, _refuse(
                Code.PRICE_DEVIATION,
                f"entry_price: {text(signal.entry_price)} is "
                f"{rounded_text(ratio(deviation, market))}% off the market's {text(market)}; "
                "validation.max_price_deviation_pct is "
                f"{self._config.max_price_deviation_pct}%",
            )
        return signal.entry_price, None

    def _check_market(
        self,
        signal: Signal,
        info: SymbolInfo,
        reference: Decimal | None,
        market: Decimal | None,
    ) -> Refusal | None:
        if not info.active:
            why = f": {info.restriction}" if info.restriction else ""
            return _refuse(Code.MARKET_CLOSED, f"symbol: {info.symbol} does not trade now{why}")
        if info.limit_only and not signal.order_type.needs_price:
            return _refuse(
                Code.MARKET_CLOSED,
                f"order_type: {info.symbol} takes no {signal.order_type} orders now "
                f"({info.restriction}); one with a limit price would be taken",
            )
        # A close is of what is held, in as many orders as that takes: see sizing.check_exit.
        if signal.quantity is not None and signal.action is OPEN:
            refusal = _check_quantity(signal, signal.quantity, info, reference or market)
            if refusal is not None:
                return refusal
        if signal.action is CLOSE or reference is None or market is None:
            return None
        if signal.direction is SHORT and not info.shortable:
            return _refuse(
                Code.SHORT_NOT_SUPPORTED,
                f"direction: {info.symbol} is a spot market and cannot be sold short; "
                "a linear perpetual can",
            )
        return _check_protection(signal, reference, market)


_IMMEDIATE = frozenset({IOC, FOK})


def _refuse(code: Code, reason: str) -> Refusal:
    return Refusal(Stage.VALIDATION, code, reason)


def _missing(signal: Signal) -> str | None:
    """Return the first field that the signal's action and order type need and it lacks."""
    if signal.action is OPEN:
        if signal.direction is None:
            return "direction"
        if signal.strength is None:
            return "strength"
        if signal.confluence_score is None:
            return "confluence_score"
    if signal.entry_price is None and signal.order_type.needs_price:
        return "entry_price"
    if signal.stop_price is None and signal.order_type.needs_stop_price:
        return "stop_price"
    return None


def _check_rest(signal: Signal) -> Refusal | None:
    """Check what only an order that may rest can have: a time of its own, post-only."""
    is_gtd, kind = signal.time_in_force is GTD, signal.order_type
    if is_gtd and signal.action is CLOSE:
        return _refuse(
            Code.FIELD_NOT_ALLOWED,
            "time_in_force: a close never rests, so GTD cannot be kept; leave it out",
        )
    if is_gtd and kind is MARKET:
        return _refuse(
            Code.FIELD_NOT_ALLOWED, "time_in_force: a market order does not rest, so it has no GTD"
        )
    if is_gtd and signal.good_till is None:
        return _refuse(Code.MISSING_FIELD, "good_till: required for time_in_force 'GTD'")
    if signal.good_till is not None and not is_gtd:
        return _refuse(Code.FIELD_NOT_ALLOWED, "good_till: only for time_in_force 'GTD'")
    if signal.post_only and kind is not LIMIT:
        return _refuse(
            Code.FIELD_NOT_ALLOWED, f"post_only: order_type {kind.value!r} is not 'limit'"
        )
    if signal.post_only and signal.time_in_force in _IMMEDIATE:
        return _refuse(
            Code.FIELD_NOT_ALLOWED,
            f"post_only: {signal.time_in_force} trades at once or not at all, which it forbids",
        )
    return None


def _check_quantity(
    signal: Signal, quantity: Decimal, info: SymbolInfo, price: Decimal | None
) -> Refusal | None:
    smallest = max(info.min_quantity, info.quantity_step)
    if quantity < smallest:
        return _refuse(
            Code.QUANTITY_OUT_OF_RANGE,
            f"quantity: {text(quantity)} is under the market's minimum of {text(smallest)}",
        )
    at_market = not signal.order_type.needs_price
    largest = largest_order(info, price, at_market=at_market)
    if largest and quantity > largest:
        return _refuse(
            Code.QUANTITY_OUT_OF_RANGE,
            f"quantity: {text(quantity)} is over the market's maximum of {text(largest)} for "
            + ("an order at the market's price" if at_market else "one order"),
        )
    return None


def _check_trigger(signal: Signal, market: Decimal) -> Refusal | None:
    """Check that a stop entry's trigger is a price that the market has yet to reach."""
    trigger = signal.stop_price
    if trigger is None or signal.action is CLOSE:
        return None
    if trigger >= market if signal.direction is LONG else trigger <= market:
        return None
    side = "below" if signal.direction is LONG else "above"
    return _refuse(
        Code.STOP_PRICE_PASSED,
        f"stop_price: {text(trigger)} of a {signal.direction} is {side} the market's "
        f"{text(market)}: the order would go out at once",
    )


def _check_protection(signal: Signal, reference: Decimal, market: Decimal) -> Refusal | None:
    """Check that stop and target lie on their sides of the price."""
    kind, is_long = signal.order_type, signal.direction is LONG
    if kind is STOP and signal.stop_price is not None:
        reference = signal.stop_price
    elif kind is LIMIT:  # filled at its price, or at the market's if that is better
        reference = min(reference, market) if is_long else max(reference, market)
    refusal = _check_sides(signal, reference, is_long)
    if refusal is None and kind is MARKET and market != reference:
        refusal = _check_sides(signal, market, is_long)
    return refusal


def _check_sides(signal: Signal, price: Decimal, is_long: bool) -> Refusal | None:
    below, above = ("below", "above") if is_long else ("above", "below")
    stop, target = signal.stop_loss, signal.take_profit
    if stop is not None and (stop >= price if is_long else stop <= price):
        return _refuse(
            Code.STOP_LOSS_WRONG_SIDE,
            f"stop_loss: {text(stop)} must be {below} the price {text(price)} of a "
            f"{signal.direction}",
        )
    if target is not None and (target <= price if is_long else target >= price):
        return _refuse(
            Code.TAKE_PROFIT_WRONG_SIDE,
            f"take_profit: {text(target)} must be {above} the price {text(price)} of a "
            f"{signal.direction}",
        )
    return None
