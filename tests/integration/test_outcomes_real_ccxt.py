"""Every failure in the tables, produced by the real ccxt from a real HTTP reply or socket fault."""
# ruff: noqa: E501 - a table reads best one row a line

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from yarl import URL

from tests.integration.canned import Canned, CannedServer, canned_server
from tests.integration.venues import CREATE_ROUTES, adapter_for, stock
from worker.domain.order import OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.http_session import capture, reroute
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

U, R, T, N = Outcome.UNKNOWN, Outcome.REFUSED, Outcome.THROTTLED, Outcome.NOT_SENT
SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"
FUTURES_ROUTE = "POST /fapi/v1/order"


class Case(NamedTuple):
    """A reply to a create request, and what it must mean."""

    venue: str
    reply: Canned
    outcome: Outcome
    error: type[ExchangeError]
    code: str
    transient: bool = False
    symbol: str = SPOT

    @property
    def name(self) -> str:
        """For the test's id."""
        kind = "futures" if self.symbol == LINEAR else self.venue
        return f"{kind}-{self.reply.status}-{self.code[:24]}-{self.outcome}"


def _order(symbol: str) -> OrderRequest:
    return OrderRequest(
        client_order_id="0123456789abcdef0123456789abcdef",
        exchange="x",
        symbol=symbol,
        role=Role.ENTRY,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=Decimal("0.01"),
    )


def _binance(code: int, message: str, status: int = 400) -> Canned:
    return Canned({"code": code, "msg": message}, status)


def _page(status: int) -> Canned:
    page = f"<html><head><title>{status}</title></head><body>nginx</body></html>"
    return Canned(page, status, {"Content-Type": "text/html"})


_UNKNOWN_503 = "Unknown error, please check your request or try again later."
_BUSY = "Server is currently overloaded with other requests. Please try again in a few minutes."
_TIMEOUT = "Timeout waiting for response from backend server. Send status unknown."

#: The rows that hold on both Binance APIs, whose class in ccxt may differ.
BOTH: list[tuple[Canned, Outcome, type[ExchangeError], str, bool]] = [
    (_binance(-1000, _UNKNOWN_503, 503), U, ExchangeError, "-1000", False),
    (
        _binance(-1006, "An unexpected response was received.", 500),
        U,
        ExchangeError,
        "-1006",
        False,
    ),
    (_binance(-1007, _TIMEOUT, 408), U, ExchangeError, "-1007", False),
    (_binance(-1007, _TIMEOUT, 503), U, ExchangeError, "-1007", False),
    (_binance(-1003, "Too many requests.", 429), T, RateLimitError, "-1003", False),
    (_binance(-1003, "Way too much request weight used.", 418), T, RateLimitError, "-1003", False),
    (_binance(-1015, "Too many new orders.", 429), T, RateLimitError, "-1015", False),
    (_binance(-1015, "Too many new orders.", 400), T, RateLimitError, "-1015", False),
    (_binance(-1008, _BUSY, 503), T, RateLimitError, "-1008", False),
    (_binance(-1013, "Filter failure: LOT_SIZE"), R, InvalidOrderError, "-1013", False),
    (_binance(-1013, "Filter failure: NOTIONAL"), R, InvalidOrderError, "-1013", False),
    (_binance(-1013, "Filter failure: PRICE_FILTER"), R, InvalidOrderError, "-1013", False),
    (_binance(-1016, "This service is no longer available."), R, ExchangeError, "-1016", True),
    (_binance(-1021, "Timestamp is outside of the recvWindow."), R, ClockSkewError, "-1021", True),
    (
        _binance(-1022, "Signature for this request is not valid."),
        R,
        CredentialsError,
        "-1022",
        False,
    ),
    (_binance(-1102, "Mandatory parameter was not sent."), R, InvalidOrderError, "-1102", False),
    (_binance(-1111, "Precision is over the maximum."), R, InvalidOrderError, "-1111", False),
    (_binance(-1121, "Invalid symbol."), R, InvalidOrderError, "-1121", False),
    (_binance(-2014, "API-key format invalid.", 401), R, CredentialsError, "-2014", False),
    (
        _binance(-2015, "Invalid API-key, IP, or permissions.", 401),
        R,
        CredentialsError,
        "-2015",
        False,
    ),
    (_page(502), U, ExchangeError, "502", False),
    (_page(504), U, ExchangeError, "504", False),
    (_page(403), T, RateLimitError, "403", False),
    (_page(429), T, RateLimitError, "429", False),
    (_page(418), T, RateLimitError, "418", False),
    (_page(500), U, ExchangeError, "500", False),
    (_page(404), U, ExchangeError, "404", False),
    (Canned(b"", 200), U, ExchangeError, "ClientPayloadError", False),
    (
        Canned(b'{"symbol": "BTCUSDT", "orderId": 12', 200),
        U,
        ExchangeError,
        "ClientPayloadError",
        False,
    ),
    (Canned(b"{}", 200), U, ExchangeError, "incomplete_reply", False),
    (Canned(b"null", 200), U, ExchangeError, "", False),
    (_page(200), U, ExchangeError, "ClientPayloadError", False),
    (Canned(b"", 307, {"Location": "/elsewhere"}), U, ExchangeError, "ClientPayloadError", False),
    (_binance(-1999, "Something nobody has documented."), U, ExchangeError, "-1999", False),
    (
        _binance(-1106, "Parameter was sent when not required.", 500),
        U,
        ExchangeError,
        "-1106",
        False,
    ),
]
CASES = [Case("binance", *row, symbol) for row in BOTH for symbol in (SPOT, LINEAR)]

_INSUFFICIENT = "Account has insufficient balance for requested action."
CASES += [
    # what a 503's text says counts on the derivatives API only
    Case("binance", _binance(-1000, "Service Unavailable.", 503), U, ExchangeError, "-1000"),
    Case("binance", _binance(-1001, "Internal error; unable to process your request.", 503), U, ExchangeError, "-1001"),
    Case("binance", _binance(-1000, "Service Unavailable.", 503), R, ExchangeError, "-1000", True, LINEAR),
    Case("binance", _binance(-1001, "Internal error; unable to process your request.", 503), R, ExchangeError, "-1001", True, LINEAR),
    Case("binance", _binance(-2010, _INSUFFICIENT), R, InsufficientBalanceError, "-2010"),
    Case("binance", _binance(-2010, "Duplicate order sent."), U, ExchangeError, "-2010"),
    Case("binance", _binance(-2010, "Market is closed."), R, ExchangeError, "-2010"),
    Case("binance", _binance(-2010, "Order would immediately match and take."), R, ExchangeError, "-2010"),
    Case("binance", _binance(-2010, "Stop price would trigger immediately."), R, ExchangeError, "-2010"),
    Case("binance", _binance(-4116, "ClientOrderId is duplicated."), U, ExchangeError, "-4116", False, LINEAR),
    Case("binance", _binance(-2019, "Margin is insufficient."), R, InsufficientBalanceError, "-2019", False, LINEAR),
    Case("binance", _binance(-2021, "Order would immediately trigger."), R, InvalidOrderError, "-2021", False, LINEAR),
    Case("binance", _binance(-2022, "ReduceOnly Order is rejected."), R, InvalidOrderError, "-2022", False, LINEAR),
    Case("binance", _binance(-4003, "Quantity less than zero."), R, InvalidOrderError, "-4003", False, LINEAR),
    Case("binance", _binance(-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter."), R, InvalidOrderError, "-4131", False, LINEAR),
    Case("binance", _binance(-4164, "Order's notional must be no smaller than 5."), R, InvalidOrderError, "-4164", False, LINEAR),
    Case("binance", _binance(-5021, "Due to the order could not be filled immediately, the FOK order has been rejected."), R, ExchangeError, "-5021", False, LINEAR),
    Case("binance", _binance(-5022, "Due to the order could not be executed as maker, the Post Only order will be rejected."), R, ExchangeError, "-5022", False, LINEAR),
    Case("binance", _binance(-5028, "The requested timestamp is outside the recvWindow of the matching engine"), R, ClockSkewError, "-5028", True, LINEAR),
]  # fmt: skip


def _bybit(code: int, message: str = "text") -> Canned:
    return Canned({"retCode": code, "retMsg": message, "result": {}, "time": 1})


CASES += [
    Case("bybit", _bybit(10000, "Server Timeout"), U, ExchangeError, "10000"),
    Case("bybit", _bybit(10016, "Server error."), U, ExchangeError, "10016"),
    Case("bybit", _bybit(10019, "ws trade service is restarting"), U, ExchangeError, "10019"),
    Case("bybit", _bybit(170007, "Timeout waiting for response."), U, ExchangeError, "170007"),
    Case("bybit", _bybit(170146, "Order creation timeout"), U, ExchangeError, "170146"),
    Case("bybit", _bybit(170035, "Submitted to the system for processing!"), U, ExchangeError, "170035"),
    Case("bybit", _bybit(110072, "OrderLinkedID is duplicate"), U, ExchangeError, "110072", False, LINEAR),
    Case("bybit", _bybit(170141, "Duplicate clientOrderId"), U, ExchangeError, "170141"),
    Case("bybit", _bybit(10014, "Invalid duplicate request"), U, ExchangeError, "10014"),
    Case("bybit", _bybit(12141, "Duplicate clientOrderId."), U, ExchangeError, "12141"),
    Case("bybit", _bybit(10002, "invalid request, please check your server timestamp or recv_window param."), R, ClockSkewError, "10002", True),
    Case("bybit", _bybit(10006, "Too many visits. Exceeded the API Rate Limit."), T, RateLimitError, "10006"),
    Case("bybit", _bybit(10018, "Exceeded the IP Rate Limit."), T, RateLimitError, "10018"),
    Case("bybit", _bybit(10003, "API key is invalid."), R, CredentialsError, "10003"),
    Case("bybit", _bybit(10004, "Error sign."), R, CredentialsError, "10004"),
    Case("bybit", _bybit(10005, "Permission denied."), R, CredentialsError, "10005"),
    Case("bybit", _bybit(10010, "Unmatched IP."), R, CredentialsError, "10010"),
    Case("bybit", _bybit(10001, "params error"), R, InvalidOrderError, "10001"),
    Case("bybit", _bybit(110007, "ab not enough for new order"), R, InsufficientBalanceError, "110007", False, LINEAR),
    Case("bybit", _bybit(170131, "Insufficient balance."), R, InsufficientBalanceError, "170131"),
    Case("bybit", _bybit(110017, "Reduce-only rule not satisfied"), R, InvalidOrderError, "110017", False, LINEAR),
    Case("bybit", _bybit(170140, "Order value exceeded lower limit."), R, InvalidOrderError, "170140"),
    Case("bybit", _bybit(3100116, "Order price is not a multiple of tick size"), R, ExchangeError, "3100116"),
    Case("bybit", _bybit(999999, "never heard of"), U, ExchangeError, "999999"),
    Case("bybit", _bybit(-1, "something"), U, ExchangeError, "-1"),
    Case("bybit", _bybit(429, "system level frequency protection"), T, RateLimitError, "429"),
    Case("bybit", _bybit(403, "access too frequent"), T, RateLimitError, "403"),
    Case("bybit", _bybit(10006, "Too many visits!"), T, RateLimitError, "10006"),
    Case("bybit", _bybit(10009, "IP has been banned"), T, RateLimitError, "10009"),
    Case("bybit", _bybit(10018, "Exceeded the IP Rate Limit."), T, RateLimitError, "10018"),
    Case("bybit", _bybit(-1021, "Timestamp for this request is outside"), R, ClockSkewError, "-1021", True),
    Case("bybit", _bybit(-2015, "Invalid API-key"), R, CredentialsError, "-2015"),
    Case("bybit", _bybit(170139, "Order has been filled."), U, ExchangeError, "170139"),
    Case("bybit", _bybit(110008, "Order has been finished or canceled"), U, ExchangeError, "110008", False, LINEAR),
    Case("bybit", _page(502), U, ExchangeError, "502"),
    Case("bybit", _page(403), T, RateLimitError, "403"),
]  # fmt: skip


def _okx(code: str, message: str = "text", status: int = 200) -> Canned:
    """An order's own refusal for 51xxx, the request's for the rest."""
    if code.startswith("51"):
        row = {"sCode": code, "sMsg": message, "ordId": "", "clOrdId": ""}
        return Canned({"code": "1", "msg": "All operations failed", "data": [row]}, status)
    return Canned({"code": code, "msg": message, "data": []}, status)


CASES += [
    Case("okx", _okx("50004", "API endpoint request timeout", 400), U, ExchangeError, "50004"),
    Case("okx", _okx("50001", "Service temporarily unavailable.", 503), U, ExchangeError, "50001"),
    Case("okx", _okx("50026", "System error, please try again later.", 500), U, ExchangeError, "50026"),
    Case("okx", _okx("51149", "Order timed out. Please try again."), U, ExchangeError, "51149"),
    Case("okx", _okx("51054", "Request timed out. Please try again."), U, ExchangeError, "51054"),
    Case("okx", _okx("51016", "Duplicated client order ID."), U, ExchangeError, "51016"),
    Case("okx", _okx("51011", "Duplicated order ID."), U, ExchangeError, "51011"),
    Case("okx", _okx("50011", "Rate limit reached.", 429), T, RateLimitError, "50011"),
    Case("okx", _okx("50013", "Systems are busy.", 429), T, RateLimitError, "50013"),
    Case("okx", _okx("50061", "Sub-account rate limit exceeded."), T, RateLimitError, "50061"),
    Case("okx", _okx("50102", "Timestamp request expired", 401), R, ClockSkewError, "50102", True),
    Case("okx", _okx("50111", "Invalid OK-ACCESS-KEY", 401), R, CredentialsError, "50111"),
    Case("okx", _okx("50113", "Invalid sign", 401), R, CredentialsError, "50113"),
    Case("okx", _okx("51008", "Order failed. Insufficient balance."), R, InsufficientBalanceError, "51008"),
    Case("okx", _okx("51000", "Parameter sz error"), R, InvalidOrderError, "51000"),
    Case("okx", _okx("51020", "Order amount should be greater than the min"), R, InvalidOrderError, "51020"),
    Case("okx", _okx("51001", "Instrument ID does not exist"), R, InvalidOrderError, "51001"),
    Case("okx", _okx("50036", "The expTime can't be earlier than the current system time"), R, ClockSkewError, "50036", True),
    Case("okx", _okx("50037", "The order is expired."), R, ClockSkewError, "50037", True),
    Case("okx", _okx("51010", "The current account mode does not support this API interface."), R, ExchangeError, "51010"),
    Case("okx", _okx("51736", "Insufficient balance"), R, InsufficientBalanceError, "51736"),
    Case("okx", _okx("54011", "Only reduce within 1 hour before delivery"), R, ExchangeError, "54011"),
    Case("okx", _okx("50022", "The account is frozen due to liquidation"), R, ExchangeError, "50022"),
    Case("okx", _okx("99999", "never heard of"), U, ExchangeError, "99999"),
    Case("okx", _page(503), U, ExchangeError, "503"),
]  # fmt: skip


def _kraken(text: str) -> Canned:
    return Canned({"error": [text]})


CASES += [
    Case("kraken", _kraken("EService:Unavailable"), U, ExchangeError, "EService:Unavailable"),
    Case("kraken", _kraken("EService:Busy"), U, ExchangeError, "EService:Busy"),
    Case("kraken", _kraken("EGeneral:Internal error"), U, ExchangeError, "EGeneral:Internal error"),
    Case("kraken", _kraken("EAPI:Rate limit exceeded"), T, RateLimitError, "EAPI:Rate limit exceeded"),
    Case("kraken", _kraken("EOrder:Rate limit exceeded"), T, RateLimitError, "EOrder:Rate limit exceeded"),
    Case("kraken", _kraken("EGeneral:Temporary lockout"), T, RateLimitError, "EGeneral:Temporary lockout"),
    Case("kraken", _kraken("EAPI:Invalid nonce"), R, ClockSkewError, "EAPI:Invalid nonce", True),
    Case("kraken", _kraken("EService:Deadline elapsed"), U, ExchangeError, "EService:Deadline elapsed"),
    Case("kraken", _kraken("EAPI:Invalid key"), R, CredentialsError, "EAPI:Invalid key"),
    Case("kraken", _kraken("EAPI:Invalid signature"), R, CredentialsError, "EAPI:Invalid signature"),
    Case("kraken", _kraken("EGeneral:Permission denied"), R, CredentialsError, "EGeneral:Permission denied"),
    Case("kraken", _kraken("EOrder:Insufficient funds"), R, InsufficientBalanceError, "EOrder:Insufficient funds"),
    Case("kraken", _kraken("EOrder:Order minimum not met"), R, InvalidOrderError, "EOrder:Order minimum not met"),
    Case("kraken", _kraken("EGeneral:Invalid arguments:volume"), R, InvalidOrderError, "EGeneral:Invalid arguments:volume"),
    Case("kraken", _kraken("EService:Market in cancel_only mode"), R, ExchangeError, "EService:Market in cancel_only mode", True),
    Case("kraken", _kraken("EUnheard:Of"), U, ExchangeError, "EUnheard:Of"),
    Case("kraken", _page(520), U, ExchangeError, "520"),
]  # fmt: skip


def _coinbase(reason: str, preview: str = "", message: str = "text") -> Canned:
    failed = {"error": reason, "message": message, "preview_failure_reason": preview}
    return Canned({"success": False, "error_response": failed, "order_configuration": {}})


CASES += [
    Case("coinbase", _coinbase("INSUFFICIENT_FUND"), R, InsufficientBalanceError, "INSUFFICIENT_FUND"),
    Case("coinbase", _coinbase("UNKNOWN_FAILURE_REASON", "PREVIEW_INSUFFICIENT_FUND"), R, InsufficientBalanceError, "PREVIEW_INSUFFICIENT_FUND"),
    Case("coinbase", _coinbase("UNKNOWN_FAILURE_REASON", "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"), R, InvalidOrderError, "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE"),
    Case("coinbase", _coinbase("UNKNOWN_FAILURE_REASON", "UNKNOWN_PREVIEW_FAILURE_REASON"), U, ExchangeError, "UNKNOWN_FAILURE_REASON"),
    Case("coinbase", _coinbase("INVALID_LIMIT_PRICE_POST_ONLY"), R, InvalidOrderError, "INVALID_LIMIT_PRICE_POST_ONLY"),
    Case("coinbase", Canned({"error": "INVALID_ARGUMENT", "message": "x"}, 400), R, InvalidOrderError, "INVALID_ARGUMENT"),
    Case("coinbase", Canned({"error": "PERMISSION_DENIED", "message": "x"}, 403), R, CredentialsError, "PERMISSION_DENIED"),
    Case("coinbase", Canned({"error": "INTERNAL", "message": "x"}, 500), U, ExchangeError, "INTERNAL"),
    Case("coinbase", Canned({"errors": [{"id": "rate_limit_exceeded", "message": "x"}]}, 429), T, RateLimitError, "rate_limit_exceeded"),
    Case("coinbase", Canned("Unauthorized", 401), R, CredentialsError, "401"),
    Case("coinbase", _page(503), U, ExchangeError, "503"),
]  # fmt: skip


@asynccontextmanager
async def ready(venue: str, **changes: Any) -> AsyncIterator[tuple[CCXTAdapter, CannedServer]]:
    """A started adapter and its server."""
    async with canned_server() as server:
        stock(server, venue)
        adapter = adapter_for(venue, server.url, **changes)
        await adapter.start()
        server.asked.clear()
        try:
            yield adapter, server
        finally:
            await adapter.close()


@pytest.mark.parametrize("venue", ["binance", "bybit", "okx", "kraken", "coinbase"])
async def test_every_reply_in_the_tables(venue: str) -> None:
    """Each documented refusal, outage and half-answer to a create means what the table says."""
    wrong = []
    async with ready(venue) as (adapter, server):
        for case in (one for one in CASES if one.venue == venue):
            route = FUTURES_ROUTE if venue == "binance" and case.symbol == LINEAR else ""
            server.replies[route or CREATE_ROUTES[venue]] = case.reply
            adapter.request_gate.holds.lift()
            with pytest.raises(ExchangeError) as raised:
                await adapter.place_order(_order(case.symbol), adapter.open_window())
            error = raised.value
            got = (error.outcome, error.transient, error.code)
            want = (case.outcome, case.transient, case.code or error.code)
            right = isinstance(error, case.error) if case.outcome is R else True
            if case.outcome is T:
                right = isinstance(error, RateLimitError)
            if got != want or not right:
                wrong.append((case.name, repr(error), got))
    assert wrong == []


@pytest.mark.parametrize("venue", ["binance", "bybit", "okx", "kraken", "coinbase"])
async def test_no_code_of_an_ambiguous_kind_is_ever_a_rejection(venue: str) -> None:
    """With any 5XX or 408 and any code at all, only overload codes are not UNKNOWN."""
    seen = set()
    async with ready(venue) as (adapter, server):
        for case in (one for one in CASES if one.venue == venue and one.symbol == SPOT):
            # A page says overload by the status it came with, which is now another one.
            by_code = case.outcome is T and case.code != str(case.reply.status)
            seen.add(expected := T if by_code else U)
            for status in (408, 500, 502, 503, 504, 520):
                reply = Canned(case.reply.body, status)
                server.replies[CREATE_ROUTES[venue]] = reply
                adapter.request_gate.holds.lift()
                with pytest.raises(ExchangeError) as raised:
                    await adapter.place_order(_order(SPOT), adapter.open_window())
                assert raised.value.outcome is expected, (case.name, status, raised.value)
    assert seen == {T, U}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("drop", "ServerDisconnectedError"),
        ("hang", "TimeoutError"),
        ("cut", "ClientPayloadError"),
    ],
)
@pytest.mark.parametrize("venue", ["binance", "bybit", "okx", "kraken", "coinbase"])
async def test_silence_after_sending_is_unknown(venue: str, fault: str, code: str) -> None:
    """The exchange had the request; whatever became of it, it may be there. Sent once."""
    patience = {"timeout_ms": 300} if fault == "hang" else {}
    async with ready(venue, **patience) as (adapter, server):
        server.replies[CREATE_ROUTES[venue]] = Canned(b'{"orderId": 1', fault=fault)
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(_order(SPOT), adapter.open_window())
        assert raised.value.outcome is U
        assert raised.value.code == code
        assert len(server.requests(CREATE_ROUTES[venue])) == 1


@pytest.mark.parametrize("venue", ["binance", "bybit", "okx", "kraken", "coinbase"])
async def test_a_refused_connection_is_not_sent(venue: str) -> None:
    """Nobody listens: the order cannot be anywhere."""
    async with canned_server() as server:
        stock(server, venue)
        adapter = adapter_for(venue, server.url)
        await adapter.start()
    with pytest.raises(ExchangeError) as raised:
        await adapter.place_order(_order(SPOT), adapter.open_window())
    # A kept-alive connection that died with the server is another matter: it was written to.
    if raised.value.outcome is U:
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(_order(SPOT), adapter.open_window())
    assert raised.value.outcome is N
    assert raised.value.code == "ClientConnectorError"
    await adapter.close()


async def test_an_unknown_host_and_a_bad_certificate_are_not_sent() -> None:
    """DNS and TLS fail before anything is written."""
    adapter = adapter_for("binance", "http://nowhere.invalid:1")
    with pytest.raises(ExchangeError) as raised:
        await adapter.start()
    assert raised.value.outcome is N
    assert raised.value.code == "ClientConnectorDNSError"
    async with canned_server() as server:
        adapter = adapter_for("binance", server.url.replace("http:", "https:"))
        with pytest.raises(ExchangeError) as raised:
            await adapter.start()
        assert raised.value.outcome is N


async def test_a_connect_that_hangs_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout struck before anything was written, whatever its class."""

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with ready("binance", timeout_ms=200) as (adapter, server):
        session = adapter._session
        assert session is not None
        session._middlewares = (capture, reroute(URL("http://127.0.0.1:1"), None))
        monkeypatch.setattr(session.connector, "_create_connection", hang)
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(_order(SPOT), adapter.open_window())
        assert server.asked == []
    assert raised.value.outcome is N
    assert "Timeout" in raised.value.code


async def test_retry_after_is_honoured() -> None:
    """Seconds are passed on, capped at the longest ban there is; nonsense is nought."""
    async with ready("binance") as (adapter, server):
        for header, seconds in (("7", 7.0), ("0.5", 0.5), ("9999999", 259_200.0), ("soon", 0.0)):
            reply = Canned({"code": -1003, "msg": "x"}, 429, {"Retry-After": header})
            server.replies[CREATE_ROUTES["binance"]] = reply
            adapter.request_gate.holds.lift()
            with pytest.raises(RateLimitError) as raised:
                await adapter.place_order(_order(SPOT), adapter.open_window())
            assert raised.value.retry_after_s == seconds


NOT_FOUND = {
    "binance": _binance(-2013, "Order does not exist."),
    "okx": _okx("51603", "Order does not exist"),
}


@pytest.mark.parametrize("venue", sorted(NOT_FOUND))
async def test_not_found_is_an_answer(venue: str) -> None:
    """A look-up's "no such order" is told from every failure to look."""
    route = {"binance": "GET /api/v3/order", "okx": "GET /api/v5/trade/order"}[venue]
    async with ready(venue) as (adapter, server):
        server.replies[route] = NOT_FOUND[venue]
        with pytest.raises(OrderNotFoundError):
            await adapter.get_order(_order(SPOT))
        for failure in (Canned(b""), Canned(b"{}"), Canned(b"[]"), _page(502), _page(404)):
            server.replies[route] = failure
            with pytest.raises(ExchangeError) as raised:
                await adapter.get_order(_order(SPOT))
            assert not isinstance(raised.value, OrderNotFoundError), failure


#: What -1010 says in its text alone; the same of -2010, which is a refusal whatever it says.
ENGINE_TEXTS: list[tuple[str, Outcome, type[ExchangeError]]] = [
    ("Account has insufficient balance for requested action.", R, InsufficientBalanceError),
    ("Market is closed.", R, ExchangeError),
    ("Duplicate order sent.", U, ExchangeError),
    ("Unknown order sent.", U, ExchangeError),
    ("Market orders are not supported for this symbol.", R, InvalidOrderError),
    ("Quote order qty market orders are not support for this symbol.", R, InvalidOrderError),
    ("This action is disabled on this account.", R, ExchangeError),
    ("This account may not place or cancel orders.", R, ExchangeError),
    ("Stop price would trigger immediately.", R, InvalidOrderError),
    ("Order would immediately match and take.", R, ExchangeError),
    ("This symbol is restricted for this account.", R, ExchangeError),
    ("Rest API trading is not enabled.", R, ExchangeError),
    (
        "Order book liquidity is less than MARKET_LOT_SIZE filter minimum quantity.",
        R,
        ExchangeError,
    ),
    ("Filter failure: LOT_SIZE", R, InvalidOrderError),
    ("Price * QTY is zero or less.", R, InvalidOrderError),
]


@pytest.mark.parametrize("code", [-1010, -2010])
@pytest.mark.parametrize("symbol", [SPOT, LINEAR])
async def test_what_the_matching_engine_says_in_words_is_read(code: int, symbol: str) -> None:
    """Of -1010 only its text tells; one that nobody has documented leaves the outcome open."""
    async with ready("binance") as (adapter, server):
        for text, outcome, error in ENGINE_TEXTS:
            server.replies |= dict.fromkeys(
                (CREATE_ROUTES["binance"], FUTURES_ROUTE), _binance(code, text)
            )
            with pytest.raises(error) as raised:
                await adapter.place_order(_order(symbol), adapter.open_window())
            assert raised.value.outcome is outcome, text
        reply = _binance(code, "Something else entirely.")
        server.replies |= {CREATE_ROUTES["binance"]: reply, FUTURES_ROUTE: reply}
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(_order(symbol), adapter.open_window())
        assert raised.value.outcome is (U if code == -1010 else R)


IT_IS_OVER: dict[str, list[Canned]] = {
    "bybit": [
        _bybit(code, "text")
        for code in (170139, 170190, 170142, 170143, 170213, 110001, 110008, 110010, 140008, -2013)
    ],
    "okx": [_okx(code) for code in ("51400", "51401", "51402", "51405", "51603")],
    "binance": [
        _binance(-2011, "Unknown order sent."),
        _binance(-1010, "Unknown order sent."),
        _binance(-2013, "Order does not exist."),
    ],
}
TRY_AGAIN_LATER = {"bybit": [_bybit(170191), _bybit(110079)], "okx": [_okx("51410")]}


@pytest.mark.parametrize("venue", sorted(IT_IS_OVER))
async def test_a_cancellation_of_what_is_over_is_told_from_one_that_failed(venue: str) -> None:
    """Filled, cancelled, gone: nothing is left to cancel, and the caller looks how it ended."""
    async with ready(venue) as (adapter, server):
        route = CANCEL_NOT_FOUND[venue][0]
        for reply in IT_IS_OVER[venue]:
            server.replies[route] = reply
            with pytest.raises(OrderNotFoundError):
                await adapter.cancel_order(_order(SPOT))
        for reply in TRY_AGAIN_LATER.get(venue, ()):
            server.replies[route] = reply
            with pytest.raises(ExchangeError) as raised:
                await adapter.cancel_order(_order(SPOT))
            assert not isinstance(raised.value, OrderNotFoundError)
            assert (raised.value.outcome, raised.value.transient) == (R, True)


@pytest.mark.parametrize("symbol", [SPOT, LINEAR])
async def test_an_order_that_waits_for_another_is_there(symbol: str) -> None:
    """PENDING_NEW: it is in the book's keeping, and neither unknown nor merely acknowledged."""
    row = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": _order(symbol).client_order_id}
    row |= {"status": "PENDING_NEW", "origQty": "1", "executedQty": "0", "type": "LIMIT"}
    row |= {"side": "BUY", "price": "1", "time": 1_700_000_000_000}
    async with ready("binance") as (adapter, server):
        for route in ("GET /api/v3/order", "GET /fapi/v1/order", "GET /api/v3/openOrders"):
            server.replies[route] = Canned(json.dumps([row] if "open" in route else row))
        assert (await adapter.get_order(_order(symbol))).state is OrderState.ACTIVE
        if symbol == SPOT:
            (listed,) = await adapter.get_open_orders(SPOT)
            assert listed.state is OrderState.ACTIVE


CANCEL_NOT_FOUND = {
    "binance": ("DELETE /api/v3/order", _binance(-2011, "Unknown order sent.")),
    "bybit": ("POST /v5/order/cancel", _bybit(170213, "Order does not exist.")),
    "okx": ("POST /api/v5/trade/cancel-order", _okx("51400", "Cancellation failed.")),
    "kraken": ("POST /0/private/CancelOrder", _kraken("EOrder:Unknown order")),
}


@pytest.mark.parametrize("venue", sorted(CANCEL_NOT_FOUND))
async def test_cancelling_what_is_not_open_says_so(venue: str) -> None:
    """It may just have filled; the caller has to look."""
    route, reply = CANCEL_NOT_FOUND[venue]
    async with ready(venue) as (adapter, server):
        server.replies[route] = reply
        with pytest.raises(OrderNotFoundError):
            await adapter.cancel_order(_order(SPOT))


LISTS: dict[str, tuple[str, Any]] = {
    "binance": ("GET /api/v3/openOrders", []),
    "bybit": ("GET /v5/order/realtime", {"retCode": 0, "result": {"list": []}}),
    "okx": ("GET /api/v5/trade/orders-pending", {"code": "0", "data": []}),
    "kraken": ("POST /0/private/OpenOrders", {"error": [], "result": {"open": {}}}),
}


@pytest.mark.parametrize("venue", sorted(LISTS))
async def test_half_a_list_is_not_an_empty_list(venue: str) -> None:
    """Left alone, ccxt reads an empty or cut reply as "no open orders"; here it is an error."""
    route, empty = LISTS[venue]
    async with ready(venue) as (adapter, server):
        server.replies["GET /api/v5/trade/orders-algo-pending"] = {"code": "0", "data": []}
        server.replies[route] = Canned(json.dumps(empty))
        assert await adapter.get_open_orders(SPOT) == []
        for body in (b"", json.dumps(empty).encode()[:-1], b"<html></html>"):
            server.replies[route] = Canned(body)
            with pytest.raises(ExchangeError) as raised:
                await adapter.get_open_orders(SPOT)
            assert raised.value.outcome is U
