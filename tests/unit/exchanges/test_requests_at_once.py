"""Requests of one call that are under way at once, as ccxt loads markets."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from multidict import CIMultiDict
from yarl import URL

from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.codes import ANY_CODES
from worker.exchanges.ccxt.http_session import capture
from worker.exchanges.ccxt.loading import exact
from worker.exchanges.ccxt.outcomes import map_exceptions
from worker.exchanges.errors import CredentialsError, ExchangeError

Answer = Callable[[], Awaitable[tuple[int, bytes]]]


class Response:
    """As much of a reply as is looked at."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self._body = status, body
        self.headers: CIMultiDict[str] = CIMultiDict()

    async def read(self) -> bytes:
        return self._body

    def close(self) -> None:
        pass


class Library:
    """Sends a request through the middleware and fails for an error status, as ccxt does."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers

    def calculate_rate_limiter_cost(self, *_: object) -> int:
        return 1

    async def fetch2(self, path: str, *_: object) -> bytes:
        async def answer(_: object) -> Response:
            return Response(*await self._answers[path]())

        request = SimpleNamespace(url=URL(f"https://x/{path}"), headers={})
        response = await capture(
            cast("aiohttp.ClientRequest", request), cast("aiohttp.ClientHandlerType", answer)
        )
        if response.status >= 400:
            raise RuntimeError("the exchange said no")
        return await response.read()


@pytest.mark.parametrize("last", ["answered", "asked"])
async def test_a_failure_is_judged_by_the_reply_it_came_from(last: str) -> None:
    """Another request is answered, or sent, before the failure arrives where it is judged."""
    refused = asyncio.Event()

    async def refuse() -> tuple[int, bytes]:
        refused.set()
        return 401, b'{"code": 1, "msg": "who are you?"}'

    async def serve() -> tuple[int, bytes]:
        if last == "answered":
            await refused.wait()
        return 200, b"{}"

    async def enter(_: str, __: str, path: str, *___: object) -> None:
        if path == "markets" and last == "asked":
            await refused.wait()

    library: Any = exact(Library, lambda: 0, cast("Any", enter), lambda *_: None)(
        {"markets": serve, "account": refuse}
    )
    call = Call("load_markets")
    with pytest.raises(ExchangeError) as raised, map_exceptions("x", ANY_CODES, call):
        await asyncio.gather(library.fetch2("markets"), library.fetch2("account"))
    assert isinstance(raised.value, CredentialsError)
    assert (call.path, call.status) == ("/account", 401)
    assert call.failures is None
