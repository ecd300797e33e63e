"""The classification's own rules; what real ccxt raises is tested in tests/integration."""

import asyncio
import json
import traceback
from collections.abc import Callable
from typing import cast

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.call import Call, current_call
from worker.exchanges.ccxt.codes import ANY_CODES, FailureKind
from worker.exchanges.ccxt.outcomes import (
    IncompleteReplyError,
    LocalRefusalError,
    classify,
    is_complete_json,
    map_exceptions,
    redactor,
)
from worker.exchanges.ccxt.pauses import retry_after_seconds
from worker.exchanges.discovery import adapter_class, exchange_folders
from worker.exchanges.errors import ExchangeError, InvalidOrderError, OrderNotFoundError, Outcome
from worker.runtime.errors import InvariantError

TABLES = {
    ccxt_id: cast("type[CCXTAdapter]", adapter_class(ccxt_id))._codes
    for ccxt_id in exchange_folders()
}
BINANCE = TABLES["binance"]
#: Binance's codes for too many requests, too many orders, and too much of everybody's.
OVERLOADED = (-1003, -1015, -1008)


def created(**seen: object) -> Call:
    """A create call whose request left."""
    call = Call("create_order", creating=True, requests=1, sent=1)
    for name, value in seen.items():
        setattr(call, name, value)
    return call


def outcome_of(error: BaseException, call: Call, venue: str = "binance") -> Outcome:
    """What ``error`` means."""
    return classify(error, venue, TABLES.get(venue, ANY_CODES), call).outcome


@given(
    st.sampled_from(sorted(TABLES)),
    st.integers(100, 599),
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
)
def test_whatever_a_server_says_there_is_an_outcome_and_noise_is_no_rejection(
    venue: str, status: int, body: bytes
) -> None:
    """Arbitrary bytes never make the classifier fail, and never make an order refused."""
    call = created(status=status, body=body if is_complete_json(body) else None)
    outcome = outcome_of(RuntimeError("x"), call, venue)
    if status not in {401, 403, 418, 429, 451}:
        assert outcome is Outcome.UNKNOWN


@given(
    st.integers(-30_000, -1) | st.sampled_from(OVERLOADED),
    st.text(max_size=20),
    st.sampled_from([500, 502, 503, 504, 408]),
)
def test_no_binance_spot_code_with_a_server_failure_is_a_rejection(
    code: int, text: str, status: int
) -> None:
    """Binance: any 5XX leaves the execution status unknown; only overload codes say otherwise."""
    body = json.dumps({"code": code, "msg": text}).encode()
    call = created(status=status, body=body, path="/api/v3/order")
    expected = Outcome.THROTTLED if code in OVERLOADED else Outcome.UNKNOWN
    assert outcome_of(RuntimeError(), call) is expected


#: How each exchange says a code and its text.
REPLIES: dict[str, Callable[[str, str], object]] = {
    "binance": lambda code, text: {"code": int(code), "msg": text},
    "bybit": lambda code, text: {"retCode": int(code), "retMsg": text},
    "okx": lambda code, text: {"code": "1", "data": [{"sCode": code, "sMsg": text}]},
    "kraken": lambda code, _: {"error": [code]},
    "coinbase": lambda code, text: {"error_response": {"error": code, "message": text}},
}
#: What ccxt raises for a refusal; only its name counts, and only where the tables say nothing.
Denial = type("InvalidOrder", (Exception,), {})


@pytest.mark.parametrize("venue", sorted(TABLES))
def test_what_is_listed_as_open_is_never_a_refusal_of_a_create(venue: str) -> None:
    """A duplicate id, a not-found, an unknown: by code or by text, whatever ccxt makes of it."""
    codes = TABLES[venue]
    listed = [(code, "", rule.kind) for code, rule in codes.codes.items()]
    listed += [(one.code, f"Sorry: {one.contains.upper()}.", one.rule.kind) for one in codes.texts]
    kinds = {FailureKind.DUPLICATE, FailureKind.NOT_FOUND, FailureKind.UNKNOWN}
    assert {kind for *_, kind in listed} >= kinds
    for code, text, kind in listed:
        if kind in kinds:
            body = json.dumps(REPLIES[venue](code, text)).encode()
            call = created(status=200, body=body)
            assert outcome_of(Denial(), call, venue) is Outcome.UNKNOWN, (code, text)


@pytest.mark.parametrize("venue", sorted(TABLES))
def test_what_is_not_listed_is_what_ccxt_says(venue: str) -> None:
    """The denial that the test above overrules counts where no table says otherwise."""
    code = {"binance": "-99999", "kraken": "EGeneral:Other"}.get(venue, "9")
    call = created(status=200, body=json.dumps(REPLIES[venue](code, "no")).encode())
    assert outcome_of(Denial(), call, venue) is Outcome.REFUSED


def test_a_request_that_never_left_is_not_sent_whatever_failed() -> None:
    """No byte of the creating request was written: it cannot have arrived."""
    call = Call("create_order", creating=True, requests=1)
    assert outcome_of(TimeoutError(), call) is Outcome.NOT_SENT
    assert outcome_of(aiohttp.ServerDisconnectedError(), call) is Outcome.NOT_SENT


def test_after_the_first_byte_nothing_but_a_reply_decides() -> None:
    """The same failures once the request was being written."""
    assert outcome_of(TimeoutError(), created()) is Outcome.UNKNOWN
    assert outcome_of(aiohttp.ServerDisconnectedError(), created()) is Outcome.UNKNOWN
    assert outcome_of(ConnectionResetError(), created()) is Outcome.UNKNOWN
    assert outcome_of(RuntimeError("a bug in a parser"), created()) is Outcome.UNKNOWN
    assert outcome_of(IncompleteReplyError("no id"), created()) is Outcome.UNKNOWN


def test_a_local_refusal_is_final() -> None:
    """Before anything was sent, by us or by the library."""
    call = Call("create_order", creating=True)
    ours = classify(LocalRefusalError("too small"), "x", ANY_CODES, call)
    assert isinstance(ours, InvalidOrderError)
    assert (ours.outcome, ours.transient) == (Outcome.REFUSED, False)
    assert outcome_of(ValueError("requires a price"), call) is Outcome.REFUSED


def test_not_found_depends_on_the_question() -> None:
    """An answer to a look-up, nonsense to a create."""
    body = b'{"code": -2013, "msg": "Order does not exist."}'
    asked = Call("get_order", requests=1, status=400, body=body)
    assert isinstance(classify(RuntimeError(), "x", BINANCE, asked), OrderNotFoundError)
    assert outcome_of(RuntimeError(), created(status=400, body=body)) is Outcome.UNKNOWN


def test_the_boundary_lets_nothing_foreign_out_and_keeps_our_own() -> None:
    """No cause, no context: tracebacks of what escapes cannot quote a signed URL."""
    url = "https://api.example/order?timestamp=1&signature=0123abcd"
    boundary = map_exceptions("x", BINANCE, created(), redactor("hush"))
    with pytest.raises(ExchangeError) as raised, boundary:
        raise KeyError(f"hush {url}")
    error = raised.value
    assert error.__context__ is None
    assert error.__cause__ is None
    text = "".join(traceback.format_exception(error))
    assert "0123abcd" not in text.replace('url = "https', "")
    own = OrderNotFoundError("as is")
    boundary = map_exceptions("x", BINANCE, Call("get_order"))
    with pytest.raises(OrderNotFoundError) as kept, boundary:
        raise own
    assert kept.value is own
    with pytest.raises(InvariantError), map_exceptions("x", BINANCE, created()):
        raise InvariantError("stop")
    assert current_call.get() is None


async def test_cancellation_passes_the_boundary() -> None:
    """A cancelled call is not an exchange's failure."""
    with pytest.raises(asyncio.CancelledError), map_exceptions("x", BINANCE, created()):
        raise asyncio.CancelledError


@given(
    st.text(min_size=4, max_size=20).filter(str.strip),
    st.text(max_size=60),
    st.text(max_size=60),
)
def test_secrets_are_blotted_out_of_an_exchanges_text(secret: str, before: str, after: str) -> None:
    """Wherever it stands in the message."""
    body = json.dumps({"code": -1102, "msg": before + secret + after}).encode()
    call = created(status=400, body=body)
    error = classify(RuntimeError(), "x", BINANCE, call, redactor(secret))
    if secret not in "x create_order: -1102: ********…?":
        assert secret not in str(error).replace("********", "")


@pytest.mark.parametrize(
    "text",
    [
        "see https://a.b/c?x=1&signature=deadbeef",
        "signature=deadbeef",
        "apiKey: deadbeef",
        'api_key="deadbeef"',
        "token = deadbeef",
        "secret=deadbeef",
    ],
)
def test_anything_that_looks_like_a_credential_is_blotted_out(text: str) -> None:
    """Even one we were not told about."""
    body = json.dumps({"code": -1102, "msg": text}).encode()
    error = classify(RuntimeError(), "x", BINANCE, created(status=400, body=body))
    assert "deadbeef" not in str(error)
    assert "-1102" in str(error)


def test_messages_are_bounded() -> None:
    """An exchange's page does not become a log line."""
    body = json.dumps({"code": -1102, "msg": "x" * 10_000}).encode()
    error = classify(RuntimeError(), "x", BINANCE, created(status=400, body=body))
    assert len(str(error)) < 400


def test_retry_after_and_json_checks() -> None:
    """Seconds, capped; whole JSON values only."""
    assert retry_after_seconds("12") == 12.0
    assert retry_after_seconds("-1") == 0.0
    assert retry_after_seconds("Wed, 21 Oct 2026 07:28:00 GMT") == 0.0
    assert retry_after_seconds(None) == 0.0
    assert retry_after_seconds("nan") == 0.0
    assert is_complete_json(b'{"a": [1, 2]}')
    assert not is_complete_json(b'{"a": [1, 2]')
    assert not is_complete_json(b"")
    assert not is_complete_json(b"{} {}")
