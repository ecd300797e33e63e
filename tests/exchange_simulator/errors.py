"""Binance's documented refusals and outages, as exceptions and ready-made HTTP replies.

Codes and texts: https://developers.binance.com/docs/binance-spot-api-docs/errors and the
USDⓈ-M futures error page. A refusal is raised by the engine; a preset is served by a fault rule.
"""

from dataclasses import dataclass, field

import msgspec

JSON = "application/json;charset=UTF-8"
HTML = "text/html"


class ApiError(Exception):
    """A refusal in Binance's shape: HTTP status and ``{"code": …, "msg": …}``.

    Args:
        code: Binance's negative error code.
        msg: the text that goes with it (ccxt matches some refusals by text).
        status: HTTP status, 400 for nearly all of them.
        headers: extra response headers.
    """

    def __init__(
        self, code: int, msg: str, status: int = 400, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{code} {msg}")
        self.code: int | str = code
        self.msg = msg
        self.status = status
        self.headers = headers or {}

    def body(self) -> bytes:
        """Return the JSON body."""
        return error_body(int(self.code), self.msg)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete canned HTTP reply."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def error_body(code: int, msg: str) -> bytes:
    """Return ``{"code": code, "msg": msg}`` as JSON bytes."""
    return msgspec.json.encode({"code": code, "msg": msg})


def bad_symbol() -> ApiError:
    """No such market."""
    return ApiError(-1121, "Invalid symbol.")


def missing(name: str) -> ApiError:
    """A mandatory parameter is absent or malformed."""
    return ApiError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def filter_failure(name: str) -> ApiError:
    """A spot order breaks the symbol's filter ``name``."""
    return ApiError(-1013, f"Filter failure: {name}")


def order_not_found() -> ApiError:
    """GET of an order that is not (yet) there."""
    return ApiError(-2013, "Order does not exist.")


def cancel_not_found() -> ApiError:
    """DELETE of an order that is not open."""
    return ApiError(-2011, "Unknown order sent.")


def insufficient_balance() -> ApiError:
    """Spot: the free balance does not cover the order."""
    return ApiError(-2010, "Account has insufficient balance for requested action.")


def outside_window() -> ApiError:
    """The request's timestamp is older than its recvWindow allows."""
    return ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_server() -> ApiError:
    """The request's timestamp is more than a second in the future."""
    return ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")


def _html(status: int, title: str, server: str = "nginx") -> Reply:
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>{server}</center>\r\n</body>\r\n</html>"
    )
    return Reply(status, page.encode(), HTML)


_TIMEOUT = (
    "Timeout waiting for response from backend server. "
    "Send status unknown; execution status unknown."
)
_WEIGHT = (
    "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API."
)
_BAN = (
    "Way too much request weight used; IP banned until 1893456000000. "
    "Please use WebSocket Streams for live updates to avoid bans."
)
_BUS = "An unexpected response was received from the message bus. Execution status unknown."
_UNKNOWN = "Unknown error, please check your request or try again later."
_BUSY = "Server is currently overloaded with other requests. Please try again in a few minutes."

#: Outages in the shapes Binance documents. A rule serves one ``before`` or ``after`` applying
#: the request: the same reply, with opposite truths behind it.
PRESETS: dict[str, Reply] = {
    "429": Reply(429, error_body(-1003, _WEIGHT), headers={"Retry-After": "3"}),
    "418": Reply(418, error_body(-1003, _BAN), headers={"Retry-After": "30"}),
    "403_waf": _html(403, "403 Forbidden", "CloudFront"),
    "502_html": _html(502, "502 Bad Gateway"),
    "504_html": _html(504, "504 Gateway Time-out"),
    "503_unknown": Reply(503, error_body(-1000, _UNKNOWN)),
    "500_1006": Reply(500, error_body(-1006, _BUS)),
    "408_1007": Reply(408, error_body(-1007, _TIMEOUT)),
    "503_1007": Reply(503, error_body(-1007, _TIMEOUT)),
    "503_service_unavailable": Reply(503, error_body(-1000, "Service Unavailable.")),
    "503_1001": Reply(
        503, error_body(-1001, "Internal error; unable to process your request. Please try again.")
    ),
    "503_1008": Reply(503, error_body(-1008, _BUSY)),
    "429_1015": Reply(
        429,
        error_body(-1015, "Too many new orders; current limit is 50 orders per 10 SECOND."),
        headers={"Retry-After": "10"},
    ),
    "429_1003": Reply(429, error_body(-1003, _WEIGHT), headers={"Retry-After": "1"}),
    "400_1016": Reply(400, error_body(-1016, "This service is no longer available.")),
    "400_1015": Reply(
        400, error_body(-1015, "Too many new orders; current limit is 50 orders per 10 SECOND.")
    ),
    "401_2015": Reply(401, error_body(-2015, "Invalid API-key, IP, or permissions for action.")),
}
