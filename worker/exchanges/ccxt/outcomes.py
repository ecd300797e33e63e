"""Decides what a failed exchange call means: refused, not sent, throttled or unknown.

The class of a ccxt exception cannot tell whether an order landed (its classes follow the exchange's
error texts, not the fate of the request), so the decision rests, in this order, on

1. whether the request left at all (:mod:`worker.exchanges.ccxt.call`, filled in by the HTTP
   client's middleware);
2. the exchange's own error code, looked up in the tables of :mod:`worker.exchanges.ccxt.codes`;
3. the HTTP status;
4. the transport failure at the end of the exception's cause chain;
5. only then ccxt's class, and only where the exchange sent a complete error reply.

Whatever none of these decides stays UNKNOWN: never a rejection.
"""

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import msgspec

from worker.domain.plausibility import ImplausibleError
from worker.exchanges.ccxt.call import Call, current_call
from worker.exchanges.ccxt.codes import CodeTable, FailureKind, Rule
from worker.exchanges.ccxt.pauses import MAX_RETRY_AFTER_S
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
from worker.runtime.assigned_secrets import mask_assigned
from worker.runtime.errors import InvariantError
from worker.runtime.secret import HIDDEN, forms_of

MAX_MESSAGE_CHARS: Final = 300
#: How much of a foreign text is looked at: a page does not become a message.
MAX_TEXT_CHARS: Final = 4_000

#: Failures of making a connection: nothing was sent. (Most of them are ``ClientOSError``s, whose
#: other members may strike after the request was written.)
_BEFORE_SENDING: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    socket.gaierror,
    ConnectionRefusedError,
)

#: Words of a refusal for rate whose code our tables do not know.
_THROTTLED: Final = re.compile(
    r"(?i)too many (?:requests|visits)|rate.?limit|throttled|banned until|too frequent"
)

#: What a ccxt class means where the exchange sent a complete error reply with a code that our
#: tables do not know. The first name found along the class's bases counts.
_BY_CLASS: Final[Mapping[str, FailureKind]] = {
    "InsufficientFunds": FailureKind.FUNDS,
    "OrderNotFound": FailureKind.NOT_FOUND,
    "DuplicateOrderId": FailureKind.DUPLICATE,
    "InvalidOrder": FailureKind.INVALID,
    "BadRequest": FailureKind.INVALID,
    "ArgumentsRequired": FailureKind.INVALID,
    "AuthenticationError": FailureKind.CREDENTIALS,
    "OperationRejected": FailureKind.REFUSED,
    "NotSupported": FailureKind.REFUSED,
    "RateLimitExceeded": FailureKind.THROTTLED,
    "DDoSProtection": FailureKind.THROTTLED,
    "InvalidNonce": FailureKind.SKEW,
    "RefusedRowError": FailureKind.REFUSED,
}


class IncompleteReplyError(Exception):
    """The exchange answered, but not with what was asked for: an order without an id, say."""


class UnreadableReplyError(aiohttp.ClientPayloadError):
    """A reply is over a bound, or means two things; what became of the request is unknown."""


class RefusedRowError(Exception):
    """The exchange called the request a success and refused the order in it, by a code of its own.

    The code is in the reply, where the exchange's table reads it.
    """


class LocalRefusalError(Exception):
    """We will not send this order; the message says why."""


@contextmanager
def map_exceptions(
    exchange: str,
    codes: CodeTable,
    call: Call,
    redact: Callable[[str], str] = lambda text: text,
) -> Iterator[Call]:
    """Turn every foreign exception raised inside into an :class:`ExchangeError`.

    The foreign exception is not chained: ccxt's and aiohttp's carry signed URLs and API keys.

    Args:
        exchange: the name for messages.
        codes: the exchange's error codes.
        call: the record the HTTP client's middleware fills in.
        redact: removes this account's secrets from a text.
    """
    token = current_call.set(call)
    try:
        yield call
    except (ExchangeError, InvariantError):
        raise
    except Exception as error:  # everything foreign, by design
        call.recall_failure(error)
        try:
            mapped = classify(error, exchange, codes, call, redact)
        except Exception as worse:  # a reply that no table was made for
            code = type(worse).__name__
            mapped = ExchangeError(f"{exchange} {call.operation}: {code}", code=code)
        try:
            raise mapped from None
        finally:
            mapped.__context__ = None
    finally:
        current_call.reset(token)


def classify(
    error: BaseException,
    exchange: str,
    codes: CodeTable,
    call: Call,
    redact: Callable[[str], str] = lambda text: text,
) -> ExchangeError:
    """Return ``error`` as an :class:`ExchangeError`, by the module's order of evidence."""
    rule, code, text = _decide(error, codes, call)
    if rule.kind is FailureKind.THROTTLED and not call.retry_after_s:
        now_ms = call.exchange_ms() if call.exchange_ms is not None else time.time() * 1000
        pause_s = codes.pause_s(code, text[:MAX_TEXT_CHARS], now_ms) or call.resets_s
        call.retry_after_s = min(pause_s, MAX_RETRY_AFTER_S)
    code = _clean(redact(code))  # Kraken's codes are sentences
    sentence = _clean(redact(text)) if text else ""
    message = f"{exchange} {call.operation}: {code}"
    if sentence and sentence != code:
        message += f": {sentence}"
    if rule.kind is FailureKind.UNKNOWN and call.creating and not call.sent:
        rule = Rule(FailureKind.NOT_SENT)  # it failed on the way there: connecting, or preparing
    return _build(rule, message, code, call)


def _decide(error: BaseException, codes: CodeTable, call: Call) -> tuple[Rule, str, str]:
    name = type(error).__name__
    transport = _transport(error)
    if isinstance(error, LocalRefusalError):
        return Rule(FailureKind.INVALID), "local", str(error)
    if isinstance(error, IncompleteReplyError | ImplausibleError):
        return Rule(FailureKind.UNKNOWN), "incomplete_reply", str(error)
    if isinstance(transport, UnreadableReplyError):
        return Rule(FailureKind.UNKNOWN), "unreadable_reply", str(transport)
    if call.body is not None:
        return _by_reply(error, codes, call)
    if call.status:
        rule = _by_status(call)
        if rule.kind is not FailureKind.UNKNOWN or transport is None:
            return rule, str(call.status), "the reply is not JSON"
    if transport is not None and isinstance(transport, _BEFORE_SENDING):
        return Rule(FailureKind.NOT_SENT), type(transport).__name__, "the exchange was not reached"
    if transport is not None:
        return Rule(FailureKind.UNKNOWN), type(transport).__name__, "no complete reply"
    # A read may go through the reply to another call: what is no error of ccxt's is garbage in it.
    if not call.requests and (call.creating or _by_class(error) is not FailureKind.UNKNOWN):
        return _refused_locally(error), name, str(error)
    return Rule(FailureKind.UNKNOWN), name, ""


def _refused_locally(error: BaseException) -> Rule:
    """Return the rule for an error the library raised itself before anything was sent: final."""
    kind = _by_class(error)
    return Rule(kind if kind in _LOCAL_KINDS else FailureKind.REFUSED)


def _by_reply(error: BaseException, codes: CodeTable, call: Call) -> tuple[Rule, str, str]:
    code, text = codes.read(call.body or b"")
    if code:
        rule = codes.find(code, text, call.status, call.path)
        if rule is not None:
            return rule, code, text
        is_answer = call.status < 500 and call.status != 408
        if call.status in {418, 429} or (is_answer and _THROTTLED.search(f"{code} {text}")):
            return Rule(FailureKind.THROTTLED), code, text
        if call.status == 401:
            return Rule(FailureKind.CREDENTIALS), code, text
        # A code we have never seen, in a complete error reply that is not an outage: the
        # exchange's no, as far as ccxt knows the code for one.
        if call.status < 500 and call.status != 408:
            kind = _by_class(error)
            return _UNCLEAR if kind is FailureKind.UNKNOWN else Rule(kind), code, text
        return Rule(FailureKind.UNKNOWN), code, text
    if call.status >= 400:
        return _by_status(call), str(call.status), (call.body or b"").decode(errors="replace")
    # A complete reply without an error, and still a failure: ccxt could not read it.
    kind = _by_class(error)
    if not call.creating and kind is FailureKind.NOT_FOUND and not _holds_rows(call.body or b""):
        return Rule(kind), type(error).__name__, "no such order"
    return Rule(FailureKind.UNKNOWN), type(error).__name__, ""


def _holds_rows(body: bytes) -> bool:
    """Return True if a reply lists anything: rows that ccxt could not use prove no absence."""
    try:
        return _lists_rows(msgspec.json.decode(body), 3)
    except msgspec.DecodeError:
        return True


def _lists_rows(value: Any, depth: int) -> bool:
    if isinstance(value, list):
        return bool(value)
    if not isinstance(value, dict) or not value or not depth:
        return False
    inner = list(value.values())
    # Rows by name: objects alone, with values of their own and no list, which would be looked at.
    return all(map(_is_row, inner)) or any(_lists_rows(one, depth - 1) for one in inner)


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    parts = value.values()
    has_list = any(isinstance(part, list) for part in parts)
    return not has_list and any(not isinstance(part, dict) for part in parts)


def _by_status(call: Call) -> Rule:
    """Return the rule for an error status alone (RFC 9110, and what gateways send)."""
    match call.status:
        case 418 | 429:
            return Rule(FailureKind.THROTTLED)
        case 403:  # a firewall's page (Binance: WAF limit); a key without rights gets a code
            return Rule(FailureKind.THROTTLED)
        case 401:
            return Rule(FailureKind.CREDENTIALS)
        case 451:
            return Rule(FailureKind.REFUSED)
        case status if 400 <= status < 500 and status not in _TIMEOUTS:
            return _UNCLEAR
        case _:
            return Rule(FailureKind.UNKNOWN)


def _by_class(error: BaseException) -> FailureKind:
    for base in type(error).__mro__:
        if base.__name__ in _BY_CLASS:
            return _BY_CLASS[base.__name__]
    return FailureKind.UNKNOWN


def _transport(error: BaseException) -> BaseException | None:
    """Return the first network failure along the chain of causes, if there is one."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return None
        if isinstance(seen, aiohttp.ClientError | OSError | asyncio.TimeoutError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


#: A complete reply that is an error by its status or by a code, and does not say which: nothing in
#: it proves that the order is not there, but it is no failure to reach the exchange either.
_UNCLEAR: Final = Rule(FailureKind.UNKNOWN)
#: Statuses of requests that were cut off, or came too early: no answer to what was asked.
_TIMEOUTS: Final = frozenset({408, 425})
_LOCAL_KINDS: Final = frozenset(
    {FailureKind.INVALID, FailureKind.FUNDS, FailureKind.CREDENTIALS, FailureKind.NOT_FOUND}
)


def _build(rule: Rule, message: str, code: str, call: Call) -> ExchangeError:
    kind = rule.kind
    if kind is FailureKind.DUPLICATE or (kind is FailureKind.NOT_FOUND and call.creating):
        # The id is taken: an earlier request of ours is there, or was. Only a look-up can tell.
        kind = FailureKind.UNKNOWN if call.creating else FailureKind.REFUSED
    shape, outcome = _SHAPES[kind]
    arguments: dict[str, Any] = {"outcome": outcome, "code": code}
    if kind is FailureKind.THROTTLED:
        arguments["retry_after_s"] = call.retry_after_s
    elif outcome is Outcome.UNKNOWN:
        arguments["answered"] = rule is _UNCLEAR
    elif outcome is Outcome.REFUSED:
        arguments["transient"] = rule.transient or kind is FailureKind.SKEW
    return shape(message, **arguments)


_SHAPES: Final[Mapping[FailureKind, tuple[type[ExchangeError], Outcome]]] = {
    FailureKind.REFUSED: (ExchangeError, Outcome.REFUSED),
    FailureKind.INVALID: (InvalidOrderError, Outcome.REFUSED),
    FailureKind.FUNDS: (InsufficientBalanceError, Outcome.REFUSED),
    FailureKind.CREDENTIALS: (CredentialsError, Outcome.REFUSED),
    FailureKind.SKEW: (ClockSkewError, Outcome.REFUSED),
    FailureKind.NOT_FOUND: (OrderNotFoundError, Outcome.REFUSED),
    FailureKind.THROTTLED: (RateLimitError, Outcome.THROTTLED),
    FailureKind.NOT_SENT: (ExchangeError, Outcome.NOT_SENT),
    FailureKind.UNKNOWN: (ExchangeError, Outcome.UNKNOWN),
}


def redactor(*secrets: str) -> Callable[[str], str]:
    """Return a function that blots the given strings out of a text, in any of their forms."""
    hidden = forms_of(secrets)

    def redact(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, HIDDEN)
        return text

    return redact


def _clean(text: str) -> str:
    text = " ".join(mask_assigned(text[:MAX_TEXT_CHARS]).split())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def is_complete_json(body: bytes) -> bool:
    """Return True if ``body`` is one whole JSON value; checked without building it.

    ``Infinity`` and ``NaN``, which some servers write for numbers, are values here.
    """
    try:
        if not body.isascii():
            body.decode()
        _whole.decode(body)
    except UnicodeDecodeError:
        return False
    except msgspec.DecodeError:
        try:
            json.loads(body.decode())
        except (ValueError, RecursionError):
            return False
    except RecursionError:
        return False
    return True


_whole = msgspec.json.Decoder(msgspec.Raw)
