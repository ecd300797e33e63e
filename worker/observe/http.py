"""Metrics and health over HTTP, from a thread of its own: it answers while the loop is stuck."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from worker.config.keys import HttpConfig
from worker.config.listening import listening_host
from worker.observe.health import Health
from worker.observe.http_connections import Answer, Connections
from worker.observe.metrics import CONTENT_TYPE, Metrics
from worker.runtime.errors import ConfigError

#: Connections taken in one turn of the loop: what has arrived on the others is read in between.
ACCEPTED_AT_ONCE: Final = 8
#: Connections that the system keeps until they are taken.
QUEUE: Final = 4_096
#: The metrics are written at most this often; who asks in between waits for the next time, seconds.
RENDER_EVERY_S: Final = 0.1
_INDEX: Final = b"""\
execution-worker

/livez    200 while the event loop runs
/readyz   200 once every check is ok; which are, as JSON
/metrics  for Prometheus
"""


class HttpServer:
    """A server of ``/metrics``, ``/livez`` and ``/readyz``; listens until closed.

    Args:
        config: the address; port 0 takes a free one.
        health: answers the two checks.
        metrics: answers the scrape.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(self, config: HttpConfig, health: Health, metrics: Metrics) -> None:
        self._socket = _listen(config)
        #: The port really listened on.
        self.port: int = self._socket.getsockname()[1]
        self._pages = _Pages(health, metrics)
        self._loop = asyncio.SelectorEventLoop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and hang up on everybody; idempotent."""
        with suppress(RuntimeError):  # closed before
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        runner = asyncio.Runner(loop_factory=lambda: self._loop)
        with self._socket, self._pages.writer, runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        connections = Connections(
            {
                "/": lambda: Answer("200 OK", _INDEX),
                "/livez": self._pages.livez,
                "/readyz": self._pages.readyz,
                "/metrics": self._pages.metrics,
            }
        )
        # What asyncio calls the backlog is also how many it accepts before it reads again.
        server = await self._loop.create_server(
            connections.new, sock=self._socket, backlog=ACCEPTED_AT_ONCE
        )
        self._socket.listen(QUEUE)
        sweeping = asyncio.create_task(connections.sweep())
        await self._stopping.wait()
        sweeping.cancel()
        server.close()
        connections.hang_up()
        await asyncio.sleep(0)


class _Pages:
    """The answers; a page that takes long to write is written on a thread of its own."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        #: Writes the metrics, one text at a time.
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="http-metrics")
        self._next: asyncio.Task[Answer] | None = None
        self._last_s = -RENDER_EVERY_S

    def livez(self) -> Answer:
        """Return whether the event loop runs."""
        if self._health.alive:
            return Answer("200 OK", b"ok\n")
        return Answer("503 Service Unavailable", b"the event loop is stuck\n")

    def readyz(self) -> Answer:
        """Return every check's result."""
        report = self._health.report()
        status = "200 OK" if report["ready"] else "503 Service Unavailable"
        return Answer(status, json.dumps(report).encode() + b"\n", "application/json")

    def metrics(self) -> Awaitable[Answer]:
        """Return the metrics as they are next written, one text for all who wait for it."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._write())
        return asyncio.shield(self._next)

    async def _write(self) -> Answer:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._last_s + RENDER_EVERY_S - loop.time())
        self._next, self._last_s = None, loop.time()  # who asks from here on waits for another
        body = await loop.run_in_executor(self.writer, self._metrics.render)
        return Answer("200 OK", body, CONTENT_TYPE)


def _listen(config: HttpConfig) -> socket.socket:
    """Return a socket that listens where configured."""
    host = listening_host(config.host)
    is_ipv6 = ":" in host
    listening = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(_address6(host, config.port) if is_ipv6 else (host, config.port))
        listening.listen(QUEUE)
    except OSError as error:
        listening.close()
        key = "http.host" if isinstance(error, socket.gaierror) else "http.port"
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            key, f"cannot listen on {config.host} port {config.port}: {reason}"
        ) from None
    except OverflowError as error:
        listening.close()
        raise ConfigError("http.port", str(error)) from None
    return listening


def _address6(host: str, port: int) -> tuple[Any, ...]:
    """Return the socket's whole address: a link-local one needs the number of its zone."""
    found = socket.getaddrinfo(
        host, port, socket.AF_INET6, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return found[0][4]
