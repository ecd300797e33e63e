"""Signed requests: API key, HMAC signature, timestamp and recvWindow, as Binance checks them.

Rules: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from tests.exchange_simulator import errors

MAX_WINDOW_MS = 60_000
DEFAULT_WINDOW_MS = 5_000
AHEAD_MS = 1_000

_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")
_KEY = re.compile(r"^[A-Za-z0-9_-]{1,128}$")


@dataclass(frozen=True, slots=True)
class Window:
    """When a request was stamped and for how long it may still be accepted, in ms."""

    timestamp_ms: int
    recv_window_ms: int

    def check(self, now_ms: int) -> None:
        """Raise -1021 unless ``now_ms`` on the exchange's clock is inside the window."""
        if self.timestamp_ms >= now_ms + AHEAD_MS:
            raise errors.ahead_of_server()
        if now_ms - self.timestamp_ms > self.recv_window_ms:
            raise errors.outside_window()


#: of an unsigned request
NO_WINDOW = Window(0, 0)


class Authenticator:
    """Checks the key and the signature of a request against the one account there is."""

    def __init__(self, api_key: str, secret: str) -> None:
        self._key = api_key
        self._secret = secret.encode()

    def check_key(self, api_key: str | None) -> None:
        """Raise -2014 for a missing or malformed key, -2015 for a wrong one."""
        if not api_key or not _KEY.match(api_key):
            raise errors.ApiError(-2014, "API-key format invalid.", 401)
        if api_key != self._key:
            raise errors.ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)

    def check_signature(self, query: str, body: str) -> None:
        """Raise -1022 unless the signature covers exactly ``query`` followed by ``body``.

        Both are raw, as sent: percent-encoding is part of what is signed.
        """
        total = query + body
        found = _SIGNATURE.search(total)
        if found is None:
            raise errors.missing("signature")
        self._compare(total[: found.start()] + total[found.end() :], found[1])

    def check_frame(self, params: dict[str, str]) -> None:
        """Raise -1022 unless the signature covers all other parameters, sorted by name."""
        if not params.get("signature"):
            raise errors.missing("signature")
        names = sorted(params.keys() - {"signature"})
        self._compare("&".join(f"{name}={params[name]}" for name in names), params["signature"])

    def _compare(self, payload: str, signature: str) -> None:
        expected = hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature.lower()):
            raise errors.ApiError(-1022, "Signature for this request is not valid.")


def in_query(value: Any) -> str:
    """A JSON value as it stands in a query string, which is what a frame's signature covers."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def window_of(params: dict[str, str]) -> Window:
    """Read timestamp and recvWindow; raises -1102 without a timestamp, -1131 beyond a minute."""
    stamp = params.get("timestamp", "")
    if not stamp.isdigit():
        raise errors.missing("timestamp")
    raw = params.get("recvWindow") or str(DEFAULT_WINDOW_MS)
    try:
        window = int(float(raw))
    except ValueError:
        raise errors.missing("recvWindow") from None
    if window > MAX_WINDOW_MS:
        raise errors.ApiError(-1131, "recvWindow must be less than 60000")
    if window <= 0:
        raise errors.missing("recvWindow")
    return Window(int(stamp), window)
