"""Orders over the WebSocket API, out and back: real ccxt, a real socket, scripted faults."""

import asyncio
import json
import logging
import re
from typing import Any

import msgspec
import pytest

from tests.exchange_simulator import orders as order_shapes
from tests.integration.binance import (
    CONNECT,
    CREATE,
    KEY,
    LINEAR,
    SECRET,
    SOCKETS,
    SPOT,
    WEBSOCKET,
    D,
    a_limit,
    a_stop,
    all_open,
    an_adapter,
    an_order,
    connections,
    failure,
    hang_up,
    trading,
)
from tests.integration.canned import Canned
from tests.integration.test_outcomes_real_ccxt import CASES, Case
from worker.domain.order import OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges.binance import frames, order_socket
from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.ports import SendWindow

# ---- what goes out ---------------------------------------------------------------------------


def one_of_each() -> dict[str, OrderRequest]:
    """Every kind of order there is, on both markets."""
    sell = {"side": Side.SELL}
    return {
        "spot market": an_order(),
        "spot limit": a_limit(SPOT, "55000.017", quantity=D("0.0100009")),
        "spot immediate or cancel": a_limit(time_in_force=TimeInForce.IOC),
        "spot stop": a_stop(),
        "spot stop limit": a_stop(SPOT, order_type=OrderType.STOP_LIMIT, price=D("54000")),
        "spot take profit": a_stop(SPOT, "65000", role=Role.TAKE_PROFIT),
        "futures market": an_order(LINEAR),
        "futures limit": a_limit(LINEAR, "65000.1", reduce_only=True, **sell),
        "futures stop": a_stop(LINEAR, "55000.1"),
        "futures stop limit": a_stop(LINEAR, order_type=OrderType.STOP_LIMIT, price=D("54000")),
        "futures take profit": a_stop(LINEAR, "65000", role=Role.TAKE_PROFIT),
    }


async def test_a_frame_says_what_rest_says_with_the_orders_own_window() -> None:
    """The same parameters to the letter, our id, and timestamp and recvWindow of the window.

    No name of ccxt's own is left in it: Binance refuses parameters it does not read.
    """
    async with trading(config=WEBSOCKET) as (adapter, server):
        rest = an_adapter(server.url)
        await rest.start()
        for name, request in one_of_each().items():
            opened = adapter.open_window()
            # Another width than configured, and a little older than now.
            window = SendWindow(opened.timestamp_ms - 7, 4_321, opened.expires_mono_ms)
            await adapter.place_order(request, window)
            frame = server.simulator.last[-1].frame
            assert frame is not None, name
            over_socket = frame["params"]
            again = msgspec.structs.replace(request, client_order_id="f" + request.client_order_id)
            await rest.place_order(again, window)
            over_rest = server.simulator.last[-1].params

            assert over_socket["timestamp"] == window.timestamp_ms, name
            assert over_socket["recvWindow"] == 4_321, name
            ours = {"newClientOrderId", "clientAlgoId"} & over_socket.keys()
            assert [over_socket[one] for one in ours] == [request.client_order_id], name
            kept = over_rest.keys() - ours - {"signature", "timestamp", "recvWindow"}
            extra = {"apiKey", "returnRateLimits", "signature", "timestamp", "recvWindow"}
            assert over_socket.keys() - extra - ours == kept, name
            for one in kept:
                value = over_socket[one]
                assert isinstance(value, str | bool), (name, one)
                assert json.dumps(value).strip('"') == over_rest[one], (name, one)
        await rest.close()


async def test_only_creating_goes_over_the_socket_and_one_connection_does_for_all() -> None:
    """Look-ups, cancels, lists and balances stay on REST; both connections are there from start."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        counts = server.simulator.counts
        assert {path for path in SOCKETS.values() if connections(server, path) == 1} == {
            *SOCKETS.values()
        }
        for symbol, path in SOCKETS.items():
            request = a_limit(symbol)
            report = await adapter.place_order(request, adapter.open_window())
            assert (report.state, report.symbol) == (OrderState.ACTIVE, symbol)
            assert (await adapter.get_order(request)).state is OrderState.ACTIVE
            assert len(await adapter.get_open_orders(symbol)) == 1
            await adapter.cancel_order(request)
            assert counts[f"POST {path}/order.place", "200"] == 1
        stop = a_stop(LINEAR)
        await adapter.place_order(stop, adapter.open_window())
        assert (await adapter.get_order(stop)).state is OrderState.ACTIVE
        assert counts["POST /ws-fapi/v1/algoOrder.place", "200"] == 1
        posted = {endpoint for endpoint, _ in counts if endpoint.startswith("POST")}
        assert all("/ws-" in endpoint for endpoint in posted)
        await adapter.start()  # a second time: what is there stays
        assert sum(connections(server, path) for path in SOCKETS.values()) == 2


async def test_the_report_of_a_spot_order_is_complete() -> None:
    """State, average, every fill with its fee, and no number lost a digit."""
    async with trading(config=WEBSOCKET, fills_per_order=3) as (adapter, _):
        request = an_order(quantity=D("0.01"))
        report = await adapter.place_order(request, adapter.open_window())
        assert (report.state, len(report.fills)) == (OrderState.FILLED, 3)
        assert sum(fill.fee for fill in report.fills) == D("0.00001")
        found = await adapter.get_order(request)
        assert found.created_ms == report.created_ms > 0
        assert found.average_price == report.average_price


async def test_a_number_in_a_result_keeps_every_digit() -> None:
    """As on REST, even where it is not sent as a string."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        request = a_limit(LINEAR)
        await adapter.place_order(request, adapter.open_window())
        again = a_limit(LINEAR)
        made = order_shapes.futures_order(server.simulator.orders()[-1]) | {
            "clientOrderId": again.client_order_id
        }
        body = json.dumps(made).replace(
            '"executedQty": "0.000"', '"executedQty": 0.00987654321012345678'
        )
        assert "345678" in body
        server.simulator.add_fault(action="http_status", status=200, body=body, **CREATE)
        report = await adapter.place_order(again, adapter.open_window())
        assert report.filled_quantity == D("0.00987654321012345678")


# ---- what comes back -------------------------------------------------------------------------


async def test_an_error_frame_means_what_the_same_rest_reply_means() -> None:
    """Every code of the tables: outcome, class, code and transience, on both markets.

    Rows without a code have no frame like them: a page is not a frame.
    """
    cases = [one for one in CASES if one.venue == "binance" and _code(one)]
    # In no table of ours, and of different classes in ccxt on the two markets.
    cases += [
        Case(
            "binance",
            Canned({"code": code, "msg": "x"}, 400),
            outcome,
            ExchangeError,
            "",
            False,
            on,
        )
        for code, on, outcome in (
            (-2008, SPOT, Outcome.REFUSED),
            (-2008, LINEAR, Outcome.UNKNOWN),
            (-2027, LINEAR, Outcome.REFUSED),
            (-2027, SPOT, Outcome.UNKNOWN),
        )
    ]
    assert len(cases) > 50
    async with trading(config=WEBSOCKET) as (adapter, server):
        rest = an_adapter(server.url)
        await rest.start()
        wrong = []
        for case in cases:
            reply = {"status": case.reply.status, "body": json.dumps(case.reply.body)}
            seen = []
            for one in (rest, adapter):
                server.simulator.faults.clear()
                server.simulator.add_fault(
                    method="POST", path="order", action="http_status", **reply
                )
                one.request_gate.holds.lift()
                error = await failure(one, an_order(case.symbol))
                seen.append((error.outcome, type(error), error.code, error.transient))
            if seen[0] != seen[1] or seen[1][0] is not case.outcome:
                wrong.append((case.name, seen))
        assert wrong == []
        await rest.close()


def _code(case: Case) -> bool:
    return isinstance(case.reply.body, dict) and "code" in case.reply.body


def test_a_reply_is_a_result_a_whole_error_or_neither() -> None:
    """Only a status with a code and a text is an answer; retryAfter is a time, not a span."""
    assert frames.read_reply({"id": "1", "status": 200, "result": {"a": 1}}, Call("x"), 0) == {
        "a": 1
    }
    error = {"code": -1003, "msg": "text"}
    neither: list[dict[str, Any]] = [
        {},
        {"status": 200},
        {"status": 200, "result": [], "error": None},
        {"status": 200, "result": {}, "error": error},
        {"status": "400", "error": error},
        {"status": 200, "error": error},
        {"status": 302, "error": error},
        {"error": error},
        {"status": 400},
        {"status": 400, "result": {"orderId": 1}},
        {"status": 400, "error": {"code": -1003}},
        {"status": 400, "error": {"msg": "text"}},
        {"status": 400, "error": {"code": "-1003", "msg": 3}},
        {"status": 400, "error": "-1003"},
    ]
    for frame in neither:
        call = Call("create_order", creating=True)
        with pytest.raises(IncompleteReplyError):
            frames.read_reply(frame, call, 0)
        assert (call.status, call.body) == (0, None)
    waits: list[tuple[Any, float]] = [
        ({"serverTime": 1_000, "retryAfter": 8_500}, 7.5),
        ({"retryAfter": 8_500}, 6.5),
        ({"serverTime": 9_000, "retryAfter": 8_500}, 0.0),
        ({"serverTime": 0, "retryAfter": 10**12}, 259_200.0),
        ({"retryAfter": "soon"}, 0.0),
        ([], 0.0),
        (None, 0.0),
    ]
    for data, seconds in waits:
        call = Call("create_order", creating=True)
        with pytest.raises(frames.FrameError):
            frames.read_reply({"status": 429, "error": error | {"data": data}}, call, 2_000)
        assert (call.status, call.retry_after_s) == (429, seconds)


async def test_replies_in_any_order_reach_their_own_callers() -> None:
    """Twenty orders at once, the first sent are the last answered."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        requests = [an_order(quantity=D("0.01") + D("0.0001") * n) for n in range(20)]
        for number, request in enumerate(requests):
            wait_ms = 10 * (len(requests) - number)
            server.simulator.add_fault(
                client_id=request.client_order_id, delay_after_ms=wait_ms, **CREATE
            )
        done: list[str] = []

        async def place(request: OrderRequest) -> None:
            report = await adapter.place_order(request, adapter.open_window())
            assert report.client_order_id == request.client_order_id
            assert report.filled_quantity == request.quantity
            done.append(request.client_order_id)

        await asyncio.gather(*map(place, requests))
        sent = [request.client_order_id for request in requests]
        assert done != sent
        assert sorted(done) == sent


async def test_a_reply_that_comes_too_late_is_nobodys() -> None:
    """The order timed out and is UNKNOWN; its reply disturbs neither the socket nor the next."""
    async with trading(config=WEBSOCKET | {"timeout_ms": 200}) as (adapter, server):
        server.simulator.add_fault(count=1, delay_after_ms=300, **CREATE)
        late = an_order()
        error = await failure(adapter, late)
        assert (error.outcome, error.code) == (Outcome.UNKNOWN, "TimeoutError")
        assert not any(socket._waiting for socket in adapter._sockets.values())
        server.simulator.add_fault(count=1, delay_after_ms=150, **CREATE)
        request = an_order()
        report = await adapter.place_order(request, adapter.open_window())
        assert report.client_order_id == request.client_order_id
        assert (await adapter.get_order(late)).state is OrderState.FILLED
        assert connections(server) == 1


STRAY = ["[]", "3", '"text"', "null", "{}", '{"id": null, "status": 400, "error": {}}',
         '{"id": []}', '{"id": 1, "status": 200, "result": {}}', '{"id": "999", "status": 200}',
         '{"event": {"e": "serverShutdown", "E": 1}}']  # fmt: skip


async def test_stray_frames_are_passed_over() -> None:
    """Whatever JSON comes that is no reply to an order in flight: the socket goes on."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        server.simulator.add_fault(delay_after_ms=50, **CREATE)
        placing = asyncio.ensure_future(adapter.place_order(an_order(), adapter.open_window()))
        await server.until(lambda sim: len(sim.orders()) == 1)
        for text in STRAY:
            for socket in server.sockets:
                await socket.send(text)
        assert (await placing).state is OrderState.FILLED
        assert connections(server) == 1


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("broken", ["not JSON", "a handler that raises", "binary"])
async def test_what_cannot_be_read_replaces_the_socket_at_once(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders in flight are UNKNOWN at once, not after their timeout; the next one goes out."""
    async with trading(config=WEBSOCKET | {"timeout_ms": 60_000}) as (adapter, server):
        server.simulator.add_fault(count=2, action="no_reply_after", **CREATE)
        requests = [an_order(), an_order()]
        placing = [asyncio.ensure_future(failure(adapter, request)) for request in requests]
        await server.until(lambda sim: len(sim.orders()) == 2)
        (socket,) = (one for one in server.sockets if one.path == SOCKETS[SPOT])
        if broken == "binary":
            await socket.ws.send_bytes(b"{}")
        elif broken == "not JSON":
            await socket.send('{"id": "1", "sta')
        else:
            with monkeypatch.context() as patched:
                patched.setattr(order_socket, "_frames", Raising())
                await socket.send("{}")
                async with asyncio.timeout(10):
                    await asyncio.wait(placing)
        async with asyncio.timeout(10):
            for error in await asyncio.gather(*placing):
                assert (error.outcome, error.code) == (Outcome.UNKNOWN, "SocketLostError")
        await all_open(adapter)
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
        assert connections(server) == 2
        assert len(server.simulator.orders()) == 3


class Raising:
    """A decoder with a fault in it."""

    def decode(self, _: object) -> object:
        """Raise what nobody expects."""
        raise ZeroDivisionError


@pytest.mark.usefixtures("quickly")
async def test_no_secret_is_said_at_any_level(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by what is logged at DEBUG nor by an error: no key, no secret, no signature."""
    said = []
    with caplog.at_level(logging.DEBUG):
        async with trading(config=WEBSOCKET | {"timeout_ms": 300}) as (adapter, server):
            await adapter.place_order(an_order(), adapter.open_window())
            for action in ("drop_after", "no_reply_after", "cut_response", "truncated_json_200"):
                await all_open(adapter)
                server.simulator.add_fault(count=1, action=action, **CREATE)
                said.append(repr(await failure(adapter, an_order())))
            await all_open(adapter)
            text = f"API-key {KEY}, signature={'0' * 64}"
            server.simulator.add_fault(count=1, action="reject", code=-2015, msg=text, **CREATE)
            said.append(repr(await failure(adapter, an_order())))
            server.simulator.add_fault(action="drop_before", **CONNECT)
            await hang_up(adapter, server)
            said += [repr(await failure(adapter, an_order())), repr(adapter._sockets)]
    output = capsys.readouterr()
    told = "\n".join([*said, caplog.text, output.out, output.err])
    assert "order_socket_lost" in told
    for secret in (KEY, SECRET):
        assert secret not in told
    assert re.findall(r"\b[0-9a-f]{64}\b", told) == []
