"""Health and metrics over real HTTP: also while the loop is stuck, and never for long."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from worker.config.keys import HttpConfig
from worker.observe import http_connections
from worker.observe.health import BEAT_EVERY_S, Health, loop_monitor
from worker.observe.http import RENDER_EVERY_S, HttpServer
from worker.observe.metrics import CONTENT_TYPE, Metrics
from worker.runtime.clock import SystemClock
from worker.runtime.errors import ConfigError


class SteppedClock(SystemClock):
    """Time moves when it is told to; a sleeper waits until ``wake`` says how late it wakes."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.asleep: asyncio.Queue[float] = asyncio.Queue()
        self.wake: asyncio.Queue[float] = asyncio.Queue()

    def monotonic_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.asleep.put_nowait(seconds)
        self.ms += seconds * 1_000 + await self.wake.get()


class Served:
    """A running server with its parts."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.clock = SteppedClock()
        self.health = Health(self.clock, ["redis", "markets"])
        self.metrics = Metrics(version="1", mode="paper")
        self.server = HttpServer(HttpConfig(host=host, port=port), self.health, self.metrics)
        self.host = host

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, self.server.port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """One server on a free port."""
    one = Served()
    yield one
    one.server.close()


def test_the_scrape_is_in_prometheus_format(served: Served) -> None:
    """With the content type Prometheus asks for, and what was counted a moment ago."""
    served.metrics.takeover()
    status, headers, body = served.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"] == CONTENT_TYPE
    assert headers["Content-Length"] == str(len(body))
    assert b"\nexecution_worker_takeovers_total 1.0\n" in body


def test_alive_means_a_beat_within_five_seconds(served: Served) -> None:
    """A stuck loop is seen from outside, and so is its recovery."""
    served.health.beat()
    served.clock.ms += 4_999
    assert served.ask("/livez")[0] == 200
    served.clock.ms += 1
    assert served.ask("/livez")[0] == 503
    served.health.beat()
    assert served.ask("/livez")[0] == 200


def test_ready_means_every_check_is_ok(served: Served) -> None:
    """The body says which is not, and why; a check that was ok may fail again."""

    def report() -> tuple[int, Any]:
        status, headers, body = served.ask("/readyz")
        assert headers["Content-Type"] == "application/json"
        return status, json.loads(body)

    assert report() == (
        503,
        {
            "ready": False,
            "checks": {
                "redis": {"ok": False, "detail": "not yet"},
                "markets": {"ok": False, "detail": "not yet"},
            },
        },
    )
    served.health.set("redis", ok=True, detail="answers")
    served.health.set("markets", ok=True)
    assert served.health.ready
    status, body = report()
    assert (status, body["ready"]) == (200, True)
    served.health.set("draining", ok=False, detail="stopping")
    status, body = report()
    assert (status, body["ready"]) == (503, False)
    assert body["checks"]["draining"] == {"ok": False, "detail": "stopping"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/metrics/", 404),
        ("POST", "/nowhere", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("HEAD", "/livez", 200),
        ("GET", "/livez?verbose=1", 200),
    ],
)
def test_only_three_pages_can_only_be_read(
    served: Served, method: str, path: str, status: int
) -> None:
    """404 for what is not there, 405 with Allow for what cannot be done."""
    found, headers, body = served.ask(path, method)
    assert found == status
    assert (headers.get("Allow") == "GET, HEAD") is (status == 405)
    assert bool(body) is (method != "HEAD")


def test_it_answers_while_the_event_loop_is_blocked(served: Served) -> None:
    """That is when it is needed most."""
    answers: list[int] = []
    asked = threading.Thread(target=lambda: answers.append(served.ask("/livez")[0]))

    async def blocking() -> None:
        asked.start()
        asked.join(5)

    asyncio.run(blocking())
    assert answers == [200]


def test_many_ask_at_once(served: Served) -> None:
    """Each gets an answer."""
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: served.ask("/metrics")[0], range(40)))
    assert statuses == [200] * 40


def exchanged(served: Served, request: bytes, *, half_close: bool = False) -> bytes:
    """Everything that is answered to some bytes, until the server hangs up."""
    with socket.create_connection((served.host, served.server.port), timeout=5) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
        return answer


def test_the_first_page_lists_the_others(served: Served) -> None:
    """For a person who opens the port."""
    _, _, body = served.ask("/")
    for path in ("/livez", "/readyz", "/metrics"):
        assert path in body.decode().split()
        assert served.ask(path)[0] in {200, 503}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
        (b"GET http://worker/livez HTTP/1.1\r\nHost: worker\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\n\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: worker\r\n\r\n" * 50, 200),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000, 405),
        (b"GET http://[/livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xe8\x01", 400),
        (b"GET /livez HTTP/2.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 2_048, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 8_192, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 8_192 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 8_000 + b"\r\n\r\n", 200),
    ],
)
@pytest.mark.parametrize("half_close", [False, True])
def test_each_connection_gets_one_answer(
    served: Served, request_: bytes, status: int, half_close: bool
) -> None:
    """Bodies and further requests are dropped, and cost nobody the answer."""
    answer = exchanged(served, request_, half_close=half_close)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("request_", [b"", b"GET /livez HTTP", b"GET /livez HTTP/1.1\r\nX: y\r\n"])
def test_half_a_request_has_no_answer(served: Served, request_: bytes) -> None:
    """The client that goes away is let go."""
    assert exchanged(served, request_, half_close=True) == b""


@pytest.mark.parametrize(
    ("request_", "piece"),
    [(b"", b""), (b"GET /livez", b"e"), (b"GET /livez HTTP/1.1\r\n\r\n", b"")],
)
def test_a_connection_is_over_in_time(
    monkeypatch: pytest.MonkeyPatch, served: Served, request_: bytes, piece: bytes
) -> None:
    """Whether its client sends nothing, sends on and on, or has its answer and stays."""
    monkeypatch.setattr(http_connections, "DEADLINE_S", 0.3)
    before = _open_files()
    with socket.create_connection((served.host, served.server.port), timeout=5) as connection:
        started = time.monotonic()
        connection.sendall(request_)
        while _open_files() < before + 2:  # both ends are ours
            assert time.monotonic() - started < 5
        while _open_files() > before + 1:
            assert time.monotonic() - started < 5
            with suppress(OSError):
                connection.send(piece)
        assert 0.25 < time.monotonic() - started < 2


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_request_outlives_any_number_that_are_none(served: Served) -> None:
    """A scrape that waits for the metrics is not what is hung up on, and the oldest silent are."""
    may_go_on = threading.Event()
    render = served.metrics.render
    served.metrics.render = lambda: render() if may_go_on.wait(5) else b""  # type: ignore[method-assign]
    address = (served.host, served.server.port)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        scrape = pool.submit(served.ask, "/metrics")
        silent = [
            stack.enter_context(socket.create_connection(address, timeout=5))
            for _ in range(2 * http_connections.MAX_CONNECTIONS)
        ]
        for connection in silent[: http_connections.MAX_CONNECTIONS]:
            assert connection.recv(1) == b""
        started = time.monotonic()
        assert served.ask("/livez")[0] == 200
        assert time.monotonic() - started < 1
        silent[-1].sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert silent[-1].recv(15) == b"HTTP/1.1 200 OK"
        may_go_on.set()
        status, _, body = scrape.result(5)
    assert (status, bool(body)) == (200, True)


def test_a_probe_outlives_any_number_of_scrapes(served: Served) -> None:
    """One that has connected and not asked yet is not what goes when the metrics take long."""
    may_go_on = threading.Event()
    render = served.metrics.render
    served.metrics.render = lambda: render() if may_go_on.wait(5) else b""  # type: ignore[method-assign]
    address = (served.host, served.server.port)

    def scrapes(stack: ExitStack) -> list[socket.socket]:
        opened = []
        for _ in range(http_connections.MAX_CONNECTIONS):
            opened.append(stack.enter_context(socket.create_connection(address, timeout=5)))
            opened[-1].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        return opened

    with ExitStack() as stack:
        first = scrapes(stack)
        probe = stack.enter_context(socket.create_connection(address, timeout=5))
        scrapes(stack)
        assert first[-2].recv(1) == b""
        probe.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert probe.recv(15) == b"HTTP/1.1 200 OK"
        may_go_on.set()


def test_many_scrapes_share_one_text(served: Served) -> None:
    """The metrics are written at most every tenth of a second, and never before they are asked."""
    written: list[float] = []
    render = served.metrics.render

    def noted() -> bytes:
        written.append(time.monotonic())
        served.metrics.takeover()
        return render()

    served.metrics.render = noted  # type: ignore[method-assign]
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        bodies = list(pool.map(lambda _: served.ask("/metrics")[2], range(64)))
    took = time.monotonic() - started
    assert all(b"takeovers_total" in body for body in bodies)
    assert len(written) <= took / RENDER_EVERY_S + 1
    count = len(written)
    assert f"takeovers_total {count + 1}.0\n".encode() in served.ask("/metrics")[2]


def test_metrics_that_cannot_be_written_keep_nobody_waiting(served: Served) -> None:
    """That scrape is hung up on; probes and the next scrape are answered."""
    render = served.metrics.render
    served.metrics.render = lambda: bytes(1 // 0)  # type: ignore[method-assign]
    with pytest.raises((http.client.HTTPException, OSError)):
        served.ask("/metrics")
    assert served.ask("/livez")[0] == 200
    served.metrics.render = render  # type: ignore[method-assign]
    assert served.ask("/metrics")[0] == 200


def test_rubbish_is_refused_quietly(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed: standard error belongs to the log."""
    for request in (b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.server.port), timeout=5) as connection:
            connection.sendall(request)
            connection.recv(4096)
    assert served.ask("/livez")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_closing_is_quick_complete_and_repeatable() -> None:
    """The port is free for the next process, and nothing waits for a slow client."""
    one = Served()
    slow = socket.create_connection(("127.0.0.1", one.server.port), timeout=5)
    started = time.monotonic()
    one.server.close()
    one.server.close()
    assert time.monotonic() - started < 1
    slow.close()
    again = Served(port=one.server.port)
    assert again.ask("/livez")[0] == 200
    again.server.close()


def test_a_port_in_use_is_a_configuration_error(served: Served) -> None:
    """A sentence with the address, for the person who has to change it."""
    with pytest.raises(ConfigError, match=f"127.0.0.1 port {served.server.port}: ") as caught:
        Served(port=served.server.port)
    assert caught.value.key == "http.port"


def test_an_address_that_is_not_ours_is_a_configuration_error() -> None:
    """Named or numbered."""
    with pytest.raises(ConfigError, match=r"203\.0\.113\.1"):
        Served(host="203.0.113.1")
    with pytest.raises(ConfigError, match=r"no\.such\.host\.invalid") as caught:
        Served(host="no.such.host.invalid")
    assert caught.value.key == "http.host"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "[::1]", "[0:0:0:0:0:0:0:1]"])
def test_it_listens_on_ipv6_too(host: str) -> None:
    """An address with a colon is one, with or without a URL's brackets."""
    try:
        one = Served(host=host)
    except ConfigError:
        pytest.skip("IPv6 is switched off here")
    one.host = "::1"
    assert one.ask("/livez")[0] == 200
    one.server.close()


async def test_the_monitor_beats_and_measures_how_late_it_wakes() -> None:
    """Twice a second; what exceeds the half second is the loop's lag."""
    clock = SteppedClock()
    health, metrics = Health(clock), Metrics(version="1", mode="paper")
    clock.ms = 60_000
    assert health.alive is False
    task = asyncio.create_task(loop_monitor(clock, health, metrics.loop_lag))
    lags = []
    for late_ms in (0, 250):
        assert await clock.asleep.get() == BEAT_EVERY_S == 0.5
        assert clock.ms - health._beat_mono_ms == 0
        clock.wake.put_nowait(late_ms)
        await clock.asleep.get()
        lags.append(metrics.registry.get_sample_value("execution_worker_event_loop_lag_seconds"))
        clock.asleep.put_nowait(BEAT_EVERY_S)
    assert lags == [0, pytest.approx(0.25)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_worker_without_checks_is_ready_and_a_new_one_alive() -> None:
    """A process that has just started is not stuck."""
    health = Health(SteppedClock())
    assert (health.alive, health.ready) == (True, True)
    assert health.report() == {"ready": True, "checks": {}}
