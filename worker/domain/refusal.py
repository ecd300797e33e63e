"""Reasons for not trading: stages, codes of failed and cancelled orders, those of dead letters."""

from enum import StrEnum

import msgspec


class Stage(StrEnum):
    """Where in its life a signal ended."""

    VALIDATION = "validation"
    RISK = "risk"
    EXECUTION = "execution"
    RECONCILIATION = "reconciliation"


class Code(StrEnum):
    """Why an order failed. ``meaning`` is the text of the table in docs/messages.md."""

    meaning: str
    retriable: bool

    def __new__(cls, value: str, meaning: str, retriable: bool = False) -> "Code":
        """Attach the meaning, and whether a new signal for the same idea may succeed."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.retriable = retriable
        return member

    # validation
    SIGNAL_EXPIRED = "SIGNAL_EXPIRED", "The signal is past its expiry."
    SIGNAL_FROM_FUTURE = (
        "SIGNAL_FROM_FUTURE",
        "created_at lies further ahead than clocks may differ.",
    )
    LIFETIME_TOO_LONG = (
        "LIFETIME_TOO_LONG",
        "expires_at is more than validation.max_signal_lifetime_seconds after created_at.",
    )
    MISSING_FIELD = "MISSING_FIELD", "A field this kind of signal needs is absent."
    FIELD_NOT_ALLOWED = (
        "FIELD_NOT_ALLOWED",
        "A field is given that this kind of signal must not have.",
    )
    STRENGTH_TOO_LOW = "STRENGTH_TOO_LOW", "strength is under validation.min_signal_strength."
    CONFLUENCE_TOO_LOW = "CONFLUENCE_TOO_LOW", "confluence_score is under the configured minimum."
    UNKNOWN_EXCHANGE = "UNKNOWN_EXCHANGE", "The exchange is not in validation.valid_exchanges."
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL", "The exchange lists no such market."
    MARKET_CLOSED = "MARKET_CLOSED", "The market exists but does not trade now.", True
    SHORT_NOT_SUPPORTED = "SHORT_NOT_SUPPORTED", "A spot market cannot be sold short."
    NO_REFERENCE_PRICE = (
        "NO_REFERENCE_PRICE",
        "No fresh market price to check the order with.",
        True,
    )
    PRICE_DEVIATION = "PRICE_DEVIATION", "entry_price is too far from the market price."
    STOP_PRICE_PASSED = (
        "STOP_PRICE_PASSED",
        "The market has passed stop_price already: the order would go out at once.",
        True,
    )
    STOP_LOSS_WRONG_SIDE = "STOP_LOSS_WRONG_SIDE", "stop_loss is on the profit side of the price."
    TAKE_PROFIT_WRONG_SIDE = (
        "TAKE_PROFIT_WRONG_SIDE",
        "take_profit is on the loss side of the price.",
    )
    SIZE_OUT_OF_RANGE = "SIZE_OUT_OF_RANGE", "size_pct is more than risk.max_position_size_pct."
    QUANTITY_OUT_OF_RANGE = "QUANTITY_OUT_OF_RANGE", "quantity is outside the market's limits."
    GROUP_FULL = (
        "GROUP_FULL",
        "As many signals as may wait for others already do, in its message group or in all.",
        True,
    )
    # risk
    TRADING_HALTED = "TRADING_HALTED", "The account is halted.", True
    TRADING_REDUCING = "TRADING_REDUCING", "The account only reduces positions.", True
    BALANCE_UNKNOWN = "BALANCE_UNKNOWN", "The account's balance could not be read lately.", True
    STOP_LOSS_TOO_FAR = "STOP_LOSS_TOO_FAR", "The stop distance is over risk.max_stop_loss_pct."
    RISK_REWARD_TOO_LOW = "RISK_REWARD_TOO_LOW", "Reward over risk is under the configured minimum."
    POSITION_TOO_LARGE = "POSITION_TOO_LARGE", "The order is over risk.max_position_size_pct."
    BELOW_MINIMUM = "BELOW_MINIMUM", "The order is smaller than the market's minimum."
    POSITION_EXISTS = "POSITION_EXISTS", "The symbol already has an open position."
    POSITION_BUSY = "POSITION_BUSY", "Another signal is changing this position now.", True
    NO_POSITION = "NO_POSITION", "There is no open position to close."
    NOT_THE_OPENER = (
        "NOT_THE_OPENER",
        "Another strategy opened the position, and risk.close_only_own is on.",
    )
    MAX_POSITIONS = "MAX_POSITIONS", "risk.max_concurrent_positions are open or reserved.", True
    MAX_EXPOSURE = "MAX_EXPOSURE", "risk.max_total_exposure_pct would be exceeded.", True
    DAILY_LOSS_LIMIT = (
        "DAILY_LOSS_LIMIT",
        "Today's realised loss reached risk.max_daily_loss_pct.",
        True,
    )
    ORDER_RATE_LIMIT = "ORDER_RATE_LIMIT", "risk.max_orders_per_minute is used up.", True
    # execution
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE", "The exchange says funds do not suffice.", True
    ORDER_REJECTED = "ORDER_REJECTED", "The exchange refused the order."
    EXCHANGE_UNAVAILABLE = "EXCHANGE_UNAVAILABLE", "The order never reached the exchange.", True
    RATE_LIMITED = "RATE_LIMITED", "The exchange's rate limit outlasted the signal.", True
    CLOCK_SKEW = "CLOCK_SKEW", "This machine's clock is too far from the exchange's to send.", True
    CREDENTIALS_REFUSED = "CREDENTIALS_REFUSED", "The exchange refused the API key or its rights."
    DECIDED_ABSENT = (
        "DECIDED_ABSENT",
        "The exchange does not tell, and a person said that it has no such order.",
    )
    DELIVERIES_EXHAUSTED = (
        "DELIVERIES_EXHAUSTED",
        "worker.max_deliveries attempts died; a dead letter.",
    )


class CancelCode(StrEnum):
    """Why an order ended before it had traded whole. ``meaning`` is for docs/messages.md."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "CancelCode":
        """Attach the meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    NOT_FILLED_IN_TIME = (
        "NOT_FILLED_IN_TIME",
        "Cancelled after reconciliation.max_wait_time, for it had not filled by then.",
    )
    GOOD_TILL = "GOOD_TILL", "Its good_till has come."
    EXPIRED = "EXPIRED", "The time it was given, by its signal or at the exchange, was up."
    REQUESTED = "REQUESTED", "A signal with action cancel, or an operator, asked for it."
    HALTED = "HALTED", "The account is halted."
    REDUCING = "REDUCING", "The account only reduces positions."
    CLOSED = "CLOSED", "A close, or flatten, of its symbol ended it."
    BY_EXCHANGE = (
        "BY_EXCHANGE",
        "The exchange ended it: nothing to trade against, cut to what was held, or for reasons of "
        "its own.",
    )
    SIBLING_FILLED = "SIBLING_FILLED", "The other order of the pair, stop or target, has filled."
    OTHER = "OTHER", "None of these, or not known; `reason` says what is known."


class DeadReason(StrEnum):
    """Why an entry is a dead letter. ``meaning`` is the text of the table in docs/messages.md."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "DeadReason":
        """Attach the meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    MALFORMED = "malformed", "The entry is no signal; `error` names the field and the rule."
    SIGNATURE = (
        "signature",
        "It is not signed as it must be; nothing it says was believed, so the signal id it claims "
        "is still free.",
    )
    CONFLICT = "conflict", "Its signal id was used before, by a signal with other content."
    DELIVERIES_EXHAUSTED = (
        "deliveries_exhausted",
        "worker.max_deliveries deliveries of it died; where it was a signal, its `OrderFailed` is "
        "beside it.",
    )


class Refusal(msgspec.Struct, frozen=True):
    """A refusal to trade: the stage, the rule's code, and a sentence for a person."""

    stage: Stage
    code: Code
    reason: str
    attempts: int = 0
    exchange_order_id: str | None = None


def refuse(code: Code, reason: str) -> Refusal:
    """Build a refusal of the risk stage."""
    return Refusal(Stage.RISK, code, reason)
