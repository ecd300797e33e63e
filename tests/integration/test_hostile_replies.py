"""Replies that are too much, too deep, too slow or not what they say; real ccxt over real HTTP."""

import asyncio
import gzip
import json
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.exchanges.bench import lifted_limits
from tests.exchanges.venues import VENUES as EXCHANGES
from tests.integration.canned import Canned, CannedServer, canned_server
from tests.integration.test_venue_wire import an_order
from tests.integration.venues import CREATE_ROUTES, adapter_for, stock
from worker.domain.market import MarketKind
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.bounds import LISTED, MAX_DEPTH, ONE_ORDER
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome

D = Decimal
VENUES = sorted(CREATE_ROUTES)
#: How long a whole request may take here.
TIMEOUT_MS = 400


def packed(count: int, kind: int) -> bytes:
    """JSON of so many bytes that says nothing, packed: ``kind`` as zlib has it."""
    packer = zlib.compressobj(6, zlib.DEFLATED, kind)
    parts = [b'{"a":"', *[b"x" * (1 << 20)] * (count >> 20), b'"}']
    return b"".join([*map(packer.compress, parts), packer.flush()])


def raw(head: str, body: bytes = b"{}") -> Canned:
    """A reply written as it stands."""
    return Canned(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body, fault="raw")


def coded(name: str, body: bytes) -> Canned:
    """A body that says it is packed."""
    return Canned(body, headers={"Content-Encoding": name})


MIB = 1 << 20
LATIN = {"Content-Type": "application/json; charset=latin-1"}
BOMB = packed(256 * MIB, 31)
CHUNKED = "Transfer-Encoding: chunked\r\n"
#: Whatever was asked for, none of these says anything about it.
HOSTILE: dict[str, Canned] = {
    "gzip bomb": coded("gzip", BOMB),
    "deflate bomb": coded("deflate", packed(64 * MIB, 15)),
    "raw deflate bomb": coded("deflate", packed(64 * MIB, -15)),
    "packed twice": coded("gzip, gzip", gzip.compress(BOMB)),
    "gzip that is none": coded("gzip", b"{}"),
    "half a gzip": coded("gzip", gzip.compress(b'{"a": 1}' * 1000)[:40]),
    "br": coded("br", b"{}"),
    "zstd": coded("zstd", b"{}"),
    "endless": Canned(b"[" + b"0," * 50_000, fault="endless"),
    "endless text": Canned("x" * 100_000, fault="endless"),
    "endless headers": Canned(b"X-More: " + b"x" * 4_000 + b"\r\n", fault="trickled_head"),
    "trickling": Canned(b" ", fault="trickle"),
    "trickling head": Canned(b"X: y\r\n", fault="trickled_head"),
    "many headers": raw("X-More: 1\r\n" * 10_000 + "Content-Length: 2\r\n"),
    "a long header": raw(f"X-More: {'x' * 1_000_000}\r\nContent-Length: 2\r\n"),
    "too short a length": raw("Content-Length: 5\r\n", b'{"a": 1}'),
    "too long a length": raw("Content-Length: 50\r\n", b'{"a": 1}'),
    "two lengths": raw("Content-Length: 2\r\nContent-Length: 8\r\n", b'{"a": 1}'),
    "no length": raw("Content-Length: -1\r\n"),
    "two ways to end": raw(CHUNKED + "Content-Length: 2\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "a chunk with a long name": raw(CHUNKED, b"2;" + b"x" * 500_000 + b"\r\nno\r\n0\r\n\r\n"),
    "a chunk of no length": raw(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk of any length": raw(CHUNKED, b"f" * 64 + b"\r\n{}\r\n"),
    "many trailers": raw(CHUNKED, b"2\r\n{}\r\n0\r\n" + b"X-More: y\r\n" * 50_000 + b"\r\n"),
    "packed twenty times": coded(", ".join(["gzip"] * 20), BOMB),
    "continue, for ever": Canned(b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000, fault="raw"),
    "another protocol": Canned(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n{}",
        fault="raw",
    ),
    "nothing, with a body": Canned(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", fault="raw"
    ),
    "frames of HTTP 2": Canned(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 100, fault="raw"),
    "no http": Canned(b"\x00\x01\x02" * 1000, fault="raw"),
    "too large": Canned(b'{"a":"' + b"x" * LISTED.most_bytes + b'"}'),
    "too many values": Canned(b"[" + b"0," * LISTED.most_values + b"0]"),
    "too deep": Canned(b"[" * 100_000 + b"]" * 100_000),
    "a little too deep": Canned(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)),
    "open for ever": Canned(b"[" * 100_000),
    "no object": Canned(b"3"),
    "a text": Canned(b'"order"'),
    "null": Canned(b"null"),
    "NaN": Canned(b"NaN"),
    "another character set": Canned(json.dumps({"a": 1}).encode("utf-16")),
    "a named character set": Canned('{"a": "\u00e9"}'.encode("latin-1"), headers=LATIN),
    "a byte order mark": Canned(b"\xef\xbb\xbf{}"),
    "one name, two values": Canned(b'{"orderId": "1", "orderId": "2"}'),
    "digits": Canned(b'{"orderId": ' + b"1" * 100_000 + b"}"),
    "a bomb that is refused": Canned(BOMB, 400, {"Content-Encoding": "gzip"}),
    "a bomb without rights": Canned(BOMB, 401, {"Content-Encoding": "gzip"}),
    "a bomb of the law": Canned(BOMB, 451, {"Content-Encoding": "gzip"}),
}


@asynccontextmanager
async def trading(venue: str, **changes: Any) -> AsyncIterator[tuple[CCXTAdapter, CannedServer]]:
    """A started adapter against canned replies, with little patience."""
    async with canned_server() as server:
        stock(server, venue)
        with lifted_limits(EXCHANGES[venue]):
            adapter = adapter_for(venue, server.url, **{"timeout_ms": TIMEOUT_MS} | changes)
        await adapter.start()
        try:
            yield adapter, server
        finally:
            await adapter.close()


class Everything(dict[str, Any]):
    """One reply for every route that is not stocked."""

    def __init__(self, reply: Canned) -> None:
        super().__init__()
        self._reply = reply

    def get(self, key: str, default: Any = None) -> Any:
        """Return it."""
        del key, default
        return self._reply


@pytest.mark.parametrize("venue", VENUES)
async def test_no_hostile_reply_is_taken_for_an_answer(venue: str) -> None:
    """A create request is of unknown outcome and looked up; a look-up proves nothing; in time."""
    request = an_order()
    async with trading(venue) as (adapter, server):
        for name, reply in HOSTILE.items():
            server.replies = Everything(reply)
            calls: list[Any] = [lambda: adapter.place_order(request, adapter.open_window())]
            calls.append(lambda: adapter.get_order(request))
            if "trickling" not in name and "endless" not in name:
                calls.append(lambda: adapter.get_order(request, "X-1"))
                calls.append(lambda: adapter.cancel_order(request, "X-1"))
            for call in calls:
                adapter.request_gate.holds.lift()
                began = time.monotonic()
                with pytest.raises(ExchangeError) as raised:
                    await call()
                assert raised.value.outcome is Outcome.UNKNOWN, (name, raised.value)
                assert not isinstance(raised.value, OrderNotFoundError), name
                assert len(str(raised.value)) < 1_000, name
                # Kraken and Bybit ask for two lists.
                assert time.monotonic() - began < 5 * TIMEOUT_MS / 1_000, name


@pytest.mark.parametrize("venue", VENUES)
async def test_reads_fail_by_a_hostile_reply_and_by_nothing_else(venue: str) -> None:
    """Prices, balances, open orders, trades, positions, markets, time: an error of our own."""
    names = ("gzip bomb", "endless", "too deep", "no object", "NaN", "digits", "many headers")
    async with trading(venue) as (adapter, server):
        before = set(adapter.symbols())
        for name in names:
            server.replies = Everything(HOSTILE[name])
            calls: list[Any] = [
                adapter.get_ticker("BTC/USDT"),
                adapter.get_balance(),
                adapter.get_open_orders(),
                adapter.get_open_orders("BTC/USDT"),
                adapter.refresh_markets(),
                adapter.measure_clock(),
            ]
            if MarketKind.LINEAR in adapter._config.market_types:
                calls.append(adapter.get_positions())
            for call in calls:
                adapter.request_gate.holds.lift()
                with pytest.raises(ExchangeError):
                    await call
        assert set(adapter.symbols()) == before


@pytest.mark.parametrize("venue", VENUES)
async def test_no_redirect_is_followed(venue: str) -> None:
    """Key and signature, and the order, would go to whoever the reply names."""
    async with canned_server() as other, trading(venue) as (adapter, server):
        for status in (301, 302, 303, 307, 308):
            reply = Canned(b"{}", status, {"Location": f"{other.url}/there"})
            server.replies = Everything(reply)
            for call in (
                adapter.place_order(an_order(), adapter.open_window()),
                adapter.get_order(an_order(), "X-1"),
                adapter.get_balance(),
            ):
                with pytest.raises(ExchangeError) as raised:
                    await call
                assert raised.value.outcome is Outcome.UNKNOWN
        assert other.asked == []


@pytest.mark.parametrize("venue", VENUES)
async def test_texts_of_megabytes_are_cut(venue: str) -> None:
    """An error's sentence fits a log line and an event, whatever it came with."""
    text = "z" * (ONE_ORDER.most_bytes // 2)
    words: dict[str, Any] = {
        "binance": {"code": -9999, "msg": text},
        "bybit": {"retCode": 99999, "retMsg": text},
        "okx": {"code": "1", "data": [{"sCode": "59999", "sMsg": text}], "msg": text},
        "kraken": {"error": [f"EOrder:{text}"]},
        "coinbase": {"success": False, "error_response": {"error": text, "message": text}},
    }
    async with trading(venue, timeout_ms=5_000) as (adapter, server):
        server.replies[CREATE_ROUTES[venue]] = Canned(words[venue], 400)
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(an_order(), adapter.open_window())
        assert len(str(raised.value)) < 1_000
        assert len(raised.value.code) <= 300


@pytest.mark.parametrize("venue", VENUES)
async def test_no_time_that_cannot_be_becomes_the_exchanges(venue: str) -> None:
    """1970, or the year 5138: nothing is signed with it."""
    routes = {
        "binance": ("GET /api/v3/time", '{"serverTime": %s}'),
        "bybit": ("GET /v5/market/time", '{"retCode": 0, "result": {}, "time": %s}'),
        "okx": ("GET /api/v5/public/time", '{"code": "0", "data": [{"ts": %s}]}'),
        "kraken": ("GET /0/public/Time", '{"error": [], "result": {"unixtime": %s}}'),
        "coinbase": ("GET /api/v3/brokerage/time", '{"epochMillis": %s, "epochSeconds": %s}'),
    }
    route, form = routes[venue]
    async with trading(venue) as (adapter, server):
        before = adapter.clock_offset
        for told in ("0", "1", "-5", "NaN", "1e999999999", "99999999999999", "soon"):
            server.replies[route] = Canned(form.replace("%s", json.dumps(told)))
            with pytest.raises(ExchangeError):
                await adapter.measure_clock()
        assert adapter.clock_offset == before
        assert abs(adapter.now_ms() - time.time() * 1000) < 5_000


# ---- memory ------------------------------------------------------------------------------------

#: What a process that trades may grow by while it is bombed, MiB: parts, text and values of the
#: largest reply that is read.
MOST_GROWTH = {"order": 24, "listing": 384}
_BOMBED = """
import asyncio, resource, sys
from tests.integration.test_venue_wire import an_order
from tests.integration.venues import adapter_for
from worker.exchanges.errors import ExchangeError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    adapter = adapter_for("binance", sys.argv[1], timeout_ms=20_000)
    await adapter.start()
    for call in sys.argv[3:]:
        before = peak()
        for _ in range(int(sys.argv[2])):
            try:
                if call == "listing":
                    await adapter.refresh_markets()
                else:
                    await adapter.place_order(an_order(), adapter.open_window())
            except ExchangeError as error:
                assert error.outcome.value == "unknown", error
            else:
                raise SystemExit("it was taken for an answer")
        print(call, peak() - before)
    await adapter.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["gzip bomb", "endless", "too deep"])
async def test_memory_stays_bounded_while_a_process_is_bombed(name: str) -> None:
    """Three times over, an order and a listing; the bomb alone unpacks to 256 MiB."""
    await _bomb(HOSTILE[name], 3, "order", "listing")


async def _bomb(bomb: Canned, rounds: int, *calls: str) -> None:
    """Let a process of its own ask for orders and listings, and look how it has grown."""
    async with canned_server() as server:
        stock(server, "binance")

        def later(reply: Any) -> Any:
            asked = []

            def answer(one: Any) -> Any:
                asked.append(one)
                told = reply(one) if callable(reply) else reply
                return told if len(asked) == 1 else bomb

            return answer

        for route in ("GET /api/v3/exchangeInfo", "GET /fapi/v1/exchangeInfo"):
            server.replies[route] = later(server.replies[route])
        server.replies[CREATE_ROUTES["binance"]] = bomb
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _BOMBED, server.url, str(rounds), *calls),
            stdout=subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0
        lines = [line.split() for line in output.decode().splitlines()]
        grown = {line[0]: int(line[1]) for line in lines if line[0] in calls}
        assert sorted(grown) == sorted(calls)
        assert all(grown[call] < MOST_GROWTH[call] for call in calls), grown
