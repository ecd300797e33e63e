"""Bounds of an exchange's replies: their size unpacked, their values and their nesting.

Every reply is read by :class:`BoundedResponse`, whatever asked for it. What is over a bound is not
read on: a request whose reply that was has an unknown outcome.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec

from worker.exchanges.ccxt.call import current_call
from worker.exchanges.ccxt.outcomes import UnreadableReplyError

_MIB: Final = 1 << 20


class Bound(msgspec.Struct, frozen=True, gc=False):
    """The most that a reply of one kind may have: bytes unpacked, and JSON names and values."""

    most_bytes: int
    most_values: int
    #: Whether a field that is given twice, with two values, spoils the reply.
    is_strict: bool = True


#: Lists of objects: look-ups, trades, open orders, balances, positions, settings.
LISTED: Final = Bound(4 * _MIB, 250_000)
ONE_ORDER: Final = Bound(1 * _MIB, 50_000)
PRICES: Final = Bound(16 * _MIB, 1_000_000, is_strict=False)
#: Binance's list of spot markets, the longest there is, has about 20 MB.
MARKETS: Final = Bound(32 * _MIB, 4_000_000, is_strict=False)
FRAME: Final = Bound(1 * _MIB, 50_000)
#: By the operation of the running ``Call``; ``LISTED`` for any other.
BOUNDS: Final[Mapping[str, Bound]] = {
    "create_order": ONE_ORDER,
    "cancel_order": ONE_ORDER,
    "fetch_time": ONE_ORDER,
    "get_ticker": PRICES,
    "load_markets": MARKETS,
}
#: How deep arrays and objects may be nested; no exchange's reply has more than ten levels.
MAX_DEPTH: Final = 64

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_STRINGS: Final = re.compile(_STRING, re.DOTALL)
#: Some thousand strings at a time: taking out millions at once needs ten times the reply's memory.
_PARTS: Final = re.compile(rb'(?:[^"]*+' + _STRING + rb'){1,20000}+|[^"]+', re.DOTALL)
_LEVELS: Final = bytes.maketrans(b"[]{}", b"()()")
_NO_LEVEL: Final = bytes(set(range(256)) - set(b"[]{}"))


def current_bound() -> Bound:
    """Return the bound of replies to the running call."""
    call = current_call.get()
    return BOUNDS.get(call.operation, LISTED) if call is not None else LISTED


class BoundedResponse(aiohttp.ClientResponse):
    """A response whose body is read up to the bound of its call, and is UTF-8 as all JSON is."""

    async def read(self) -> bytes:
        """Return the whole body, unpacked.

        Raises:
            UnreadableReplyError: there is more of it; the connection is closed then.
        """
        if self._body is None:
            self._body = await self._read_bounded(current_bound().most_bytes)
        return await super().read()

    async def _read_bounded(self, most_bytes: int) -> bytes:
        parts: list[bytes] = []
        left = most_bytes
        try:
            async for part in self.content.iter_any():
                left -= len(part)
                if left < 0:
                    break
                parts.append(part)
        except BaseException:
            self.close()
            raise
        if left < 0:
            self.close()
            raise UnreadableReplyError(f"the reply has more than {most_bytes} bytes")
        return b"".join(parts)

    def get_encoding(self) -> str:
        """Return UTF-8, whatever the reply names: in another it may say what was not checked."""
        return "utf-8"


def check_form(body: bytes, bound: Bound) -> None:
    """Check what is to be decoded as JSON: not too many values, not too deep, nothing twice.

    Raises:
        UnreadableReplyError: it is over a bound, or an object has one field with two values.
    """
    if not is_object_or_list(body):
        return
    # Commas in texts count, too: no exchange sends so many.
    if sum(map(body.count, (b",", b":", b"{", b"["))) > bound.most_values:
        raise UnreadableReplyError(f"the reply has more than {bound.most_values} values")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    if bound.is_strict:
        try:
            json.loads(body.decode(), object_pairs_hook=_one_value_each)
        except ValueError:
            return  # whoever decodes it will say so


def is_object_or_list(body: bytes) -> bool:
    """Return True if ``body``, as far as it is JSON, is no single text, number or word."""
    return body.lstrip()[:1] in {b"{", b"["}


def _check_depth(body: bytes) -> None:
    levels = b"".join(
        _STRINGS.sub(b"", part[0]).translate(_LEVELS, _NO_LEVEL) for part in _PARTS.finditer(body)
    )
    for _ in range(MAX_DEPTH):
        if not levels:
            return
        levels = levels.replace(b"()", b"")  # the innermost level
    if levels:
        raise UnreadableReplyError(f"the reply is nested more than {MAX_DEPTH} levels deep")


def _one_value_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        for name, value in pairs:
            if fields[name] != value:
                raise UnreadableReplyError(f"the reply has {name[:40]!r} twice, with two values")
    return fields
