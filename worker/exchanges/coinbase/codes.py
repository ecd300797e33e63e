"""Coinbase's error codes.

Sources: the reasons of an unsuccessful order and of a cancellation
(https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order and
``…/orders/cancel-orders``); the status names of gRPC, which other replies have as ``error``
(https://grpc.io/docs/guides/status-codes/); the older ids
(https://docs.cdp.coinbase.com/coinbase-app/api-architecture/status-codes).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from worker.exchanges.ccxt.codes import (
    CodeTable,
    FailureKind,
    Rule,
    TextRule,
    each,
    field,
)

#: Beginnings of names that give no reason.
_NAMELESS: Final = "UNKNOWN"
#: The form of a reason's name.
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]*")
#: Where an unsuccessful order's reply has the reason; the newest name of the field first.
_REASON_FIELDS: Final = (
    "new_order_failure_reason",
    "error",
    "preview_failure_reason",
    "failure_reason",
)


class CoinbaseCodes(CodeTable):
    """Coinbase Advanced: the reasons of an unsuccessful order, else ``error``.

    A complete reply that names a reason is a no, listed here or not: reasons are added often. Only
    the names that say nothing (``UNKNOWN…``), and outages, leave open what became of an order.
    """

    codes: ClassVar[Mapping[str, Rule]] = {
        **each(FailureKind.UNKNOWN, "UNKNOWN_FAILURE_REASON INTERNAL UNKNOWN UNAVAILABLE ABORTED"),
        **each(FailureKind.UNKNOWN, "DEADLINE_EXCEEDED CANCELLED DATA_LOSS INTERNAL_SERVER_ERROR"),
        **each(FailureKind.UNKNOWN, "unknown internal_server_error internal"),
        **each(FailureKind.FUNDS, "INSUFFICIENT_FUND INSUFFICIENT_FUNDS INVALID_LEDGER_BALANCE"),
        **each(FailureKind.FUNDS, "PREVIEW_INSUFFICIENT_FUND PREVIEW_INSUFFICIENT_FUNDS"),
        **each(FailureKind.FUNDS, "PREVIEW_INSUFFICIENT_FUNDS_FOR_FUTURES"),
        **each(FailureKind.FUNDS, "PREVIEW_INSUFFICIENT_LEDGER_BALANCE"),
        **each(FailureKind.FUNDS, "PREVIEW_INVALID_LEDGER_BALANCE"),
        **each(FailureKind.THROTTLED, "RESOURCE_EXHAUSTED rate_limit_exceeded resource_exhausted"),
        **each(FailureKind.THROTTLED, "RATE_LIMIT_EXCEEDED TOO_MANY_REQUESTS too_many_requests"),
        **each(FailureKind.CREDENTIALS, "PERMISSION_DENIED UNAUTHENTICATED UNAUTHORIZED"),
        **each(FailureKind.CREDENTIALS, "authentication_error unauthorized invalid_token"),
        **each(FailureKind.CREDENTIALS, "expired_token revoked_token invalid_scope forbidden"),
        **each(FailureKind.CREDENTIALS, "invalid_authentication_method permission_denied"),
        **each(FailureKind.NOT_FOUND, "NOT_FOUND not_found UNKNOWN_CANCEL_ORDER"),
        # The cancellation is under way: the next look at the order tells.
        **each(FailureKind.NOT_FOUND, "DUPLICATE_CANCEL_REQUEST"),
        **each(FailureKind.DUPLICATE, "ALREADY_EXISTS DUPLICATE_CLIENT_ORDER_ID"),
        **each(FailureKind.REFUSED, "MARKET_CLOSED COMMANDER_REJECTED_NEW_ORDER"),
        **each(FailureKind.REFUSED, "ORDER_ENTRY_DISABLED INELIGIBLE_PAIR UNTRADABLE_PRODUCT"),
        **each(FailureKind.REFUSED, "GEOFENCING_RESTRICTION IN_LIQUIDATION TRADING_DISABLED"),
        **each(FailureKind.REFUSED, "PRODUCT_TRADING_HALTED BREACHED_RISK_LIMIT"),
    }
    texts: ClassVar[Sequence[TextRule]] = (
        TextRule("authentication_error", "timestamp expired", Rule(FailureKind.SKEW)),
        TextRule("unknown", "was not found", Rule(FailureKind.NOT_FOUND)),
    )
    prefixes = ("INVALID_", "UNSUPPORTED_", "PREVIEW_INVALID_", "PREVIEW_", "invalid_request")

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the first reason that is named; ``UNKNOWN_FAILURE_REASON`` if a no has none."""
        if not isinstance(reply, dict):
            return "", ""
        failed = reply.get("error_response")
        if isinstance(failed, dict) or reply.get("success") is False:
            failed = failed if isinstance(failed, dict) else {}
            return _reason(failed, reply), _explanation(failed) or _explanation(reply)
        if code := field(reply, "error"):
            return code, _explanation(reply)
        for name, code_field in (("errors", "id"), ("results", "failure_reason")):
            rows = reply.get(name)
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict) and row.get("success") is True:
                    continue  # a cancellation that worked has a "failure_reason" all the same
                if code := field(row, code_field):
                    return code, field(row, "message")
        # As gRPC gateways answer: {"code": 16, "message": "…", "details": []}.
        code = field(reply, "code")
        return (
            (_GRPC.get(code, code), field(reply, "message")) if code not in {"", "0"} else ("", "")
        )

    def find(self, code: str, text: str, status: int, path: str) -> Rule | None:
        """Return the rule for ``code``; a 401 is about the credentials, whatever its name."""
        rule = super().find(code, text, status, path)
        if status == 401 and (rule is None or rule.kind is not FailureKind.SKEW):
            return Rule(FailureKind.CREDENTIALS)
        return rule

    def look_up(self, code: str, text: str) -> Rule | None:
        """Return the rule for an exact reason, else for its kind: any named reason is a no."""
        if (rule := super().look_up(code, text)) is not None:
            return rule
        if code.startswith(self.prefixes):
            return Rule(FailureKind.INVALID)
        if not _REASON.fullmatch(code):
            return None
        return Rule(FailureKind.UNKNOWN if code.startswith(_NAMELESS) else FailureKind.REFUSED)


def _reason(failed: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
    for told in _reasons(failed, reply):
        if not told.startswith(_NAMELESS):
            return told
    return "UNKNOWN_FAILURE_REASON"


def _reasons(failed: Mapping[str, Any], reply: Mapping[str, Any]) -> Iterator[str]:
    for source in (failed, reply):
        for name in _REASON_FIELDS:
            if told := field(source, name):
                yield told


def _explanation(reply: Mapping[str, Any]) -> str:
    """Return what the reply says for people, each sentence once."""
    told = (field(reply, name) for name in ("message", "error_details", "error_description"))
    return ": ".join(dict.fromkeys(text for text in told if text))


#: The numbers of gRPC's status codes.
_GRPC: Final[Mapping[str, str]] = {
    "1": "CANCELLED",
    "2": "UNKNOWN",
    "3": "INVALID_ARGUMENT",
    "4": "DEADLINE_EXCEEDED",
    "5": "NOT_FOUND",
    "6": "ALREADY_EXISTS",
    "7": "PERMISSION_DENIED",
    "8": "RESOURCE_EXHAUSTED",
    "9": "FAILED_PRECONDITION",
    "10": "ABORTED",
    "11": "OUT_OF_RANGE",
    "12": "UNIMPLEMENTED",
    "13": "INTERNAL",
    "14": "UNAVAILABLE",
    "15": "DATA_LOSS",
    "16": "UNAUTHENTICATED",
}
