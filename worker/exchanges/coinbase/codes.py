"""Coinbase's error codes.

Source: https://docs.cdp.coinbase.com/advanced-trade/docs/rest-api-orders.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from worker.exchanges.ccxt.codes import (
    CodeTable,
    FailureKind,
    Rule,
    each,
    field,
)


class CoinbaseCodes(CodeTable):
    """Coinbase Advanced: ``error_response`` of an unsuccessful order, else ``error``."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **each(FailureKind.UNKNOWN, "UNKNOWN_FAILURE_REASON INTERNAL UNKNOWN UNAVAILABLE ABORTED"),
        **each(FailureKind.UNKNOWN, "DEADLINE_EXCEEDED"),
        **each(FailureKind.FUNDS, "INSUFFICIENT_FUND PREVIEW_INSUFFICIENT_FUND"),
        **each(FailureKind.FUNDS, "PREVIEW_INSUFFICIENT_FUNDS_FOR_FUTURES"),
        **each(FailureKind.THROTTLED, "RESOURCE_EXHAUSTED rate_limit_exceeded"),
        **each(FailureKind.CREDENTIALS, "PERMISSION_DENIED UNAUTHENTICATED authentication_error"),
        **each(FailureKind.CREDENTIALS, "invalid_token expired_token revoked_token unauthorized"),
        **each(FailureKind.NOT_FOUND, "NOT_FOUND not_found UNKNOWN_CANCEL_ORDER"),
        **each(FailureKind.DUPLICATE, "ALREADY_EXISTS DUPLICATE_CANCEL_REQUEST"),
        **each(FailureKind.REFUSED, "MARKET_CLOSED COMMANDER_REJECTED_NEW_ORDER"),
    }
    prefixes = ("INVALID_", "UNSUPPORTED_", "PREVIEW_INVALID_", "PREVIEW_", "invalid_request")

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the failure reason; the preview's where the order's own is unknown."""
        if not isinstance(reply, dict):
            return "", ""
        failed = reply.get("error_response")
        if isinstance(failed, dict):
            reason = field(failed, "error")
            preview = field(failed, "preview_failure_reason")
            if reason in {"", "UNKNOWN_FAILURE_REASON"} and not preview.startswith("UNKNOWN"):
                reason = preview or reason
            return reason or "UNKNOWN_FAILURE_REASON", field(failed, "message", "error_details")
        if code := field(reply, "error"):
            return code, field(reply, "message", "error_details", "error_description")
        errors = reply.get("errors")
        for row in errors if isinstance(errors, list) else ():
            if code := field(row, "id"):
                return code, field(row, "message")
        results = reply.get("results")
        for row in results if isinstance(results, list) else ():
            if code := field(row, "failure_reason"):
                return code, ""
        return "", ""

    def look_up(self, code: str, text: str) -> Rule | None:
        """Return the rule for an exact reason, else for what the reason begins with."""
        if (rule := super().look_up(code, text)) is not None:
            return rule
        return Rule(FailureKind.INVALID) if code.startswith(self.prefixes) else None
