"""Metrics and health over HTTP, from a thread of its own: it answers while the loop is stuck."""

import io
import json
import socket
import threading
from collections.abc import Callable
from http.server import HTTPServer
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from worker.config.keys import HttpConfig
from worker.config.listening import listening_host
from worker.observe.health import Health
from worker.observe.metrics import CONTENT_TYPE, Metrics
from worker.runtime.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Requests answered at the same time; further connections are closed unanswered.
MAX_REQUESTS: Final = 16
#: A connection whose client sends nothing for this long is closed, seconds.
CLIENT_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.05


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
        host = listening_host(config.host)
        try:
            address, kind = (host, config.port), _Server
            if ":" in host:
                address, kind = _address6(host, config.port), _Server6
            self._server = kind(address, _Handler)
        except OSError as error:
            key = "http.host" if isinstance(error, socket.gaierror) else "http.port"
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(
                key, f"cannot listen on {config.host} port {config.port}: {reason}"
            ) from None
        except OverflowError as error:
            raise ConfigError("http.port", str(error)) from None
        self._server.set_app(_application(health, metrics))
        #: The port really listened on.
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; idempotent, takes at most about a twentieth of a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[Any, ...], handler: type[WSGIRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(MAX_REQUESTS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, which can take many seconds."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away; the base would print a traceback to standard error."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S
    server_version = "execution-worker"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base's name)
        """Log nothing: a scrape is not an event."""

    def get_stderr(self) -> TextIO:
        """Return a stream that drops wsgiref's tracebacks of broken connections."""
        return io.StringIO()


def _address6(host: str, port: int) -> tuple[Any, ...]:
    """Return the socket's whole address: a link-local one needs the number of its zone."""
    found = socket.getaddrinfo(
        host, port, socket.AF_INET6, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return found[0][4]


_Answer = tuple[str, str, bytes]


def _application(
    health: Health, metrics: Metrics
) -> Callable[["WSGIEnvironment", "StartResponse"], list[bytes]]:
    def livez() -> _Answer:
        if health.alive:
            return "200 OK", "text/plain; charset=utf-8", b"ok\n"
        return "503 Service Unavailable", "text/plain; charset=utf-8", b"the event loop is stuck\n"

    def readyz() -> _Answer:
        report = health.report()
        status = "200 OK" if report["ready"] else "503 Service Unavailable"
        return status, "application/json", json.dumps(report).encode() + b"\n"

    def scrape() -> _Answer:
        return "200 OK", CONTENT_TYPE, metrics.render()

    routes = {"/livez": livez, "/readyz": readyz, "/metrics": scrape}

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        method, route = environ["REQUEST_METHOD"], routes.get(environ["PATH_INFO"])
        extra: list[tuple[str, str]] = []
        if route is None:
            status, kind, body = "404 Not Found", "text/plain; charset=utf-8", b"not found\n"
        elif method not in {"GET", "HEAD"}:
            status, kind = "405 Method Not Allowed", "text/plain; charset=utf-8"
            body, extra = b"only GET and HEAD\n", [("Allow", "GET, HEAD")]
        else:
            status, kind, body = route()
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *extra]
        headers.append(("Cache-Control", "no-store"))
        start_response(status, headers)
        return [] if method == "HEAD" else [body]

    return application
