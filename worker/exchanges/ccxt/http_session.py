"""One exchange's HTTP session: reroutes requests below ccxt and captures what the wire saw.

ccxt keeps the exchange's own URLs (its error classes depend on them, and so do its signatures), so
a proxy or a simulator is put in by a client middleware of aiohttp, which sees REST and WebSocket
requests alike after they were signed. Another captures the evidence by which each call's outcome
is decided (:mod:`worker.exchanges.ccxt.outcomes`).
"""

import ssl
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import hdrs
from aiohttp.client_middlewares import ClientHandlerType, ClientMiddlewareType
from yarl import URL

from worker.exchanges.ccxt.bounds import (
    BoundedResponse,
    check_form,
    current_bound,
    is_object_or_list,
)
from worker.exchanges.ccxt.call import current_call
from worker.exchanges.ccxt.outcomes import UnreadableReplyError, is_complete_json
from worker.exchanges.ccxt.pauses import retry_after_seconds
from worker.runtime.errors import ConfigError

#: Under the 60 s after which the load balancers in front of exchanges drop idle connections: an
#: order sent down a connection that the other side has just closed ends with an unknown outcome.
KEEPALIVE_S: Final = 30.0
MAX_CONNECTIONS: Final = 256
_WEBSOCKET_SCHEMES: Final = frozenset({"ws", "wss"})
_CREATING_METHODS: Final = frozenset({"POST", "PUT"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


def target(key: str, text: str) -> URL | None:
    """Read a ``base_url``: scheme, host and port count, a path is refused.

    Raises:
        ConfigError: naming ``key``, if it is not an absolute http(s) or ws(s) URL.
    """
    if not text:
        return None
    try:
        url = URL(text)
    except ValueError as error:
        raise ConfigError(key, f"not a URL: {error}") from None
    if url.scheme not in {"http", "https", "ws", "wss"} or not url.host:
        raise ConfigError(key, "must be an absolute URL such as http://127.0.0.1:8080")
    if url.path not in {"", "/"} or url.query_string:
        raise ConfigError(key, "only scheme, host and port can be given; paths are kept")
    return url


def reroute(rest: URL | None, websocket: URL | None) -> ClientMiddlewareType:
    """Return a middleware that replaces scheme, host and port and keeps path and query."""

    async def middleware(
        request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        to = websocket if request.url.scheme in _WEBSOCKET_SCHEMES else rest
        if to is not None:
            request.url = request.url.with_scheme(to.scheme).with_host(to.host or "")
            request.url = request.url.with_port(to.explicit_port)
            if "Host" in request.headers:
                request.headers["Host"] = to.host_port_subcomponent or ""
        return await handler(request)

    return middleware


async def capture(
    request: aiohttp.ClientRequest, handler: ClientHandlerType
) -> aiohttp.ClientResponse:
    """Capture in the running ``Call`` (``call.py``) what was sent and what was received.

    A successful reply that is not one whole JSON value is turned into a broken-payload error here:
    ccxt reads it as "no data" (an order without an id, an empty list of open orders) and says
    nothing. Redirects are refused, since aiohttp would post the order again.
    """
    call = current_call.get()
    if call is None:  # such as a WebSocket's handshake: its frames must not go elsewhere
        response = await handler(request)
        if response.status in _REDIRECTS:
            response.close()
            raise aiohttp.ClientPayloadError("redirected")
        return response
    call.requests += 1
    path, status, pause_s, whole = request.url.path, 0, 0.0, None
    call.note_reply(path, status, pause_s, whole)
    for name, value in call.headers.items():
        request.headers[name] = value
    try:
        response = await handler(request)
        if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
            if hdrs.UPGRADE in request.headers:  # a WebSocket's handshake in the course of a call
                return response
            response.close()
            raise aiohttp.ClientPayloadError(
                "the reply changes the protocol, which nobody asked for"
            )
        status = response.status
        pause_s = retry_after_seconds(response.headers.get("Retry-After"))
        if call.on_reply is not None:
            call.on_reply(path, status, response.headers)
        if status in _REDIRECTS:
            response.close()
            raise aiohttp.ClientPayloadError("redirected")
        body = await response.read()
        check_form(body, current_bound())
        if is_complete_json(body):
            whole = body
        elif status < 400:
            raise aiohttp.ClientPayloadError("the reply is not one whole JSON value")
        if status < 400 and not is_object_or_list(body):
            raise UnreadableReplyError("the reply is neither an object nor a list")
        return response
    finally:
        # Last: while this one was under way, others of the call may have been answered.
        call.note_reply(path, status, pause_s, whole)


async def _note_sending(
    session: aiohttp.ClientSession,
    context: object,
    params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    """Count a create request just before its first byte is written: from here on it may arrive."""
    del session, context
    call = current_call.get()
    if call is None:
        return
    if call.creating and params.method in _CREATING_METHODS:
        call.sent += 1
    if call.on_writing is not None:
        call.on_writing()


def open_session(
    rest: URL | None, websocket: URL | None, ssl_context: ssl.SSLContext
) -> aiohttp.ClientSession:
    """Open a keep-alive session for one exchange; its owner closes it, not ccxt."""
    connector = aiohttp.TCPConnector(
        ssl=ssl_context,
        limit=MAX_CONNECTIONS,
        keepalive_timeout=KEEPALIVE_S,
        ttl_dns_cache=60,
    )
    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(_note_sending)
    return aiohttp.ClientSession(
        connector=connector,
        trace_configs=[tracing],
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(capture, reroute(rest, websocket)),
        response_class=BoundedResponse,
    )
