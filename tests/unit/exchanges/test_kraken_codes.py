"""Every documented message of Kraken has its meaning, whatever Kraken adds to it."""

import json
from collections.abc import Callable

import pytest

from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.codes import FailureKind, Rule
from worker.exchanges.ccxt.outcomes import classify
from worker.exchanges.errors import (
    ClockSkewError,
    CredentialsError,
    ExchangeError,
    InsufficientBalanceError,
    InvalidOrderError,
    OrderNotFoundError,
    Outcome,
    RateLimitError,
)
from worker.exchanges.kraken.codes import LOCKOUT_S, KrakenCodes

CODES = KrakenCodes()
K = FailureKind
#: From https://docs.kraken.com/api/docs/guides/spot-errors, the support article on error messages
#: and the WebSocket API's list.
DOCUMENTED: dict[FailureKind, list[str]] = {
    K.INVALID: [
        "EGeneral:Invalid arguments",
        "EGeneral:Invalid arguments:volume",
        "EGeneral:Invalid arguments:Index unavailable",
        "EOrder:Cannot open opposing position",
        "EOrder:Cannot open position",
        "EOrder:Margin position size exceeded",
        "EOrder:Order minimum not met",
        "EOrder:Order minimum not met (volume too low)",
        "EOrder:Cost minimum not met",
        "EOrder:Tick size check failed",
        "EOrder:Invalid price",
        "EOrder:Invalid price:Invalid price argument",
        "EOrder:Reduce only:Non-PC",
        "EOrder:Reduce only:No position exists",
        "EOrder:Reduce only:Position is closed",
        "EOrder:Unknown position",
        "EQuery:Unknown asset pair",
        "EQuery:Invalid asset pair",
        "EQuery:Unknown asset",
        "ETrade:Invalid request",
        "EAPI:Bad request",
    ],
    K.FUNDS: [
        "EOrder:Insufficient funds",
        "EOrder:Insufficient funds (insufficient user funds)",
        "EOrder:Insufficient funds:USD",
        "EOrder: Insufficient funds",
        "EOrder:Insufficient margin",
        "EOrder:Insufficient margin (exchange does not have sufficient funds to allow margin "
        "trading)",
        "EOrder:Insufficient initial margin",
        "EOrder:Margin level too low",
        "EOrder:Margin allowance exceeded",
    ],
    K.THROTTLED: [
        "EAPI:Rate limit exceeded",
        "EOrder:Rate limit exceeded",
        "EOrder:Domain rate limit exceeded",
        "EOrder:Domain rate limit exceeded (master account)",
        "EAuth:Rate limit exceeded",
        "EAuth:Too many requests",
        "EGeneral:Too many requests",
        "EGeneral:Temporary lockout",
        "EService: Throttled: 1741500000",
        "EService:Throttled:1741500000",
        "EService:Throttled",
    ],
    K.CREDENTIALS: [
        "EAPI:Invalid key",
        "EAPI:Invalid signature",
        "EGeneral:Permission denied",
        "EAccount:Invalid permissions",
        "EAccount:Invalid permissions:BTC trading restricted for GB.",
        "EAuth:Account temporary disabled",
        "EAuth:Account unconfirmed",
        "ETrade:Locked",
        "ETrade:User Locked",
        "ESession:Invalid session",
    ],
    K.SKEW: ["EAPI:Invalid nonce", "EAPI:Invalid nonce (lower than the last one)"],
    K.UNKNOWN: [
        "EService:Unavailable",
        "EService:Unavailable:maintenance",
        "EService:Busy",
        "EService:Timeout",
        "EService:Deadline elapsed",
        "EGeneral:Internal error",
        "EGeneral:Internal error:1592411264",
        "EDatabase:Internal error",
    ],
    K.NOT_FOUND: ["EOrder:Unknown order", "EQuery:Unknown order", "EOrder:Cancel pending"],
    K.DUPLICATE: [
        "EOrder:cl_ord_id already in use",
        "EGeneral:Invalid arguments:cl_ord_id duplicate",
        "EOrder:cl_ord_id not unique",
    ],
    K.REFUSED: [
        "EService:Market in cancel_only mode",
        "EService:Market in limit_only mode",
        "EService:Market in post_only mode",
        "EService:Market in post_only mode (XBT/USD)",
        "EOrder:Orders limit exceeded",
        "EOrder:Scheduled orders limit exceeded",
        "EOrder:Positions limit exceeded",
        "EBM:limit exceeded:CAL",
        "EAPI:Feature disabled",
        "EGeneral:Unknown method",
        "EFunding:Max fee exceeded",
    ],
}


@pytest.mark.parametrize(
    ("message", "kind"),
    [(message, kind) for kind, messages in DOCUMENTED.items() for message in messages],
)
def test_every_documented_message(message: str, kind: FailureKind) -> None:
    """By its beginning, whatever follows in parentheses or after a colon."""
    rule = CODES.look_up(message, "")
    assert isinstance(rule, Rule)
    assert rule.kind is kind
    for added in (" (more)", ":more", ": more", " and more"):
        if not message.endswith(added):
            again = CODES.look_up(message + added, "")
            assert again is not None
            assert again.kind is kind, message + added


def test_a_message_nobody_has_heard_of_has_no_rule() -> None:
    """Neither a new category nor a listed text that merely begins a longer word."""
    for message in ("EUnheard:Of", "EService:Unavailability", "EGeneral:Other", "EAPI:Odd", ""):
        assert CODES.look_up(message, "") is None


def answered(*errors: object, creating: bool = True, **seen: Callable[[], float]) -> ExchangeError:
    """What a reply with these errors means for a create request that left."""
    call = Call("create_order", creating=creating, requests=1, sent=1, status=200)
    call.body = json.dumps({"error": list(errors)}).encode()
    for name, value in seen.items():
        setattr(call, name, value)
    return classify(RuntimeError(), "kraken", CODES, call)


@pytest.mark.parametrize(
    ("message", "outcome", "error"),
    [
        ("EOrder:Domain rate limit exceeded", Outcome.THROTTLED, RateLimitError),
        ("EAuth:Too many requests", Outcome.THROTTLED, RateLimitError),
        ("EService:Market in limit_only mode", Outcome.REFUSED, ExchangeError),
        ("EOrder:Insufficient funds (x)", Outcome.REFUSED, InsufficientBalanceError),
        ("EAuth:Account temporary disabled", Outcome.REFUSED, CredentialsError),
        ("EOrder:Tick size check failed", Outcome.REFUSED, InvalidOrderError),
        ("EAPI:Invalid nonce", Outcome.REFUSED, ClockSkewError),
        ("EOrder:Unknown order", Outcome.UNKNOWN, OrderNotFoundError),
    ],
)
def test_what_a_message_means_for_a_create(
    message: str, outcome: Outcome, error: type[ExchangeError]
) -> None:
    """An order that Kraken calls unknown while it is created may still be there."""
    found = answered(message)
    assert found.outcome is outcome
    assert found.code == message
    if outcome is not Outcome.UNKNOWN:
        assert isinstance(found, error)


def test_a_throttle_says_until_when() -> None:
    """The Unix time in the message, in seconds or milliseconds, by the exchange's clock."""

    def now() -> float:
        return 1_741_500_000_000

    for stamp in ("1741500020", "1741500020.0", "1741500020000"):
        found = answered(f"EService: Throttled: {stamp}", exchange_ms=now)
        assert found.retry_after_s == 20
    assert answered("EService:Throttled: 1741499000", exchange_ms=now).retry_after_s == 0
    assert answered("EService:Throttled", exchange_ms=now).retry_after_s == 0
    assert answered("EAPI:Rate limit exceeded", exchange_ms=now).retry_after_s == 0
    assert answered("EService:Throttled: 9999999999", exchange_ms=now).retry_after_s == 3_600
    assert answered("EGeneral:Temporary lockout").retry_after_s == LOCKOUT_S


def test_of_several_messages_the_one_that_leaves_most_open_counts() -> None:
    """An order may be there as long as one of them says so; warnings are no errors."""
    assert answered("EOrder:Insufficient funds", "EService:Busy").outcome is Outcome.UNKNOWN
    assert answered("EService:Busy", "EOrder:Insufficient funds").outcome is Outcome.UNKNOWN
    assert answered("EOrder:Insufficient funds", "ENew:Thing").outcome is Outcome.UNKNOWN
    found = answered("WGeneral:Old", "EOrder:Insufficient funds", "EOrder:Invalid price")
    assert isinstance(found, InsufficientBalanceError)
    assert CODES.extract({"error": "EQuery:Unknown asset"}) == ("EQuery:Unknown asset", "")
    empty: list[object] = [{"error": []}, {"error": None}, {}, [], {"error": ["WGeneral:Old", 1]}]
    for reply in empty:
        assert CODES.extract(reply) == ("", "")
