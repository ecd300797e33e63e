"""Kraken's error codes.

Source: https://support.kraken.com/articles/360001491786-api-error-messages.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from worker.exchanges.ccxt.codes import (
    DUPLICATE,
    TRY_AGAIN,
    UNKNOWN,
    CodeTable,
    FailureKind,
    Rule,
    each,
)


class KrakenCodes(CodeTable):
    """Kraken spot: ``{"error": ["EOrder:Insufficient funds"]}`` with HTTP 200."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **each(FailureKind.UNKNOWN, "EService:Unavailable EService:Timeout EService:Busy"),
        "EGeneral:Internal error": UNKNOWN,
        "EGeneral:Temporary lockout": Rule(FailureKind.THROTTLED),
        "EAPI:Rate limit exceeded": Rule(FailureKind.THROTTLED),
        "EOrder:Rate limit exceeded": Rule(FailureKind.THROTTLED),
        "EOrder:Orders limit exceeded": TRY_AGAIN,
        "EAPI:Invalid nonce": Rule(FailureKind.SKEW),
        # "The request timed out according to the default or user specified deadline": where, it
        # does not say.
        "EService:Deadline elapsed": UNKNOWN,
        "EAPI:Invalid key": Rule(FailureKind.CREDENTIALS),
        "EAPI:Invalid signature": Rule(FailureKind.CREDENTIALS),
        "EGeneral:Permission denied": Rule(FailureKind.CREDENTIALS),
        "EOrder:Insufficient funds": Rule(FailureKind.FUNDS),
        "EOrder:Insufficient margin": Rule(FailureKind.FUNDS),
        "EOrder:Unknown order": Rule(FailureKind.NOT_FOUND),
        "EOrder:cl_ord_id already in use": DUPLICATE,
        "EService:Market in cancel_only mode": TRY_AGAIN,
        "EService:Market in post_only mode": TRY_AGAIN,
    }
    prefixes = (
        ("EOrder:", Rule(FailureKind.INVALID)),
        ("EGeneral:Invalid arguments", Rule(FailureKind.INVALID)),
        ("EQuery:Unknown asset pair", Rule(FailureKind.INVALID)),
        ("EAPI:Bad request", Rule(FailureKind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the first ``E…`` entry of ``error``; its class and text are one string."""
        errors = reply.get("error") if isinstance(reply, dict) else None
        for entry in errors if isinstance(errors, list) else ():
            if isinstance(entry, str) and entry.startswith("E"):
                return entry, ""
        return "", ""

    def look_up(self, code: str, text: str) -> Rule | None:
        """Return the rule for an exact entry, else for what the entry begins with."""
        if (rule := super().look_up(code, text)) is not None:
            return rule
        if "cl_ord_id" in code.lower() and "duplicate" in code.lower():
            return DUPLICATE
        return next((rule for prefix, rule in self.prefixes if code.startswith(prefix)), None)
