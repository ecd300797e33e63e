"""Binance's error codes.

Source: https://developers.binance.com/docs/binance-spot-api-docs/errors and
https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from worker.exchanges.ccxt.codes import (
    DUPLICATE,
    TRY_AGAIN,
    CodeTable,
    FailureKind,
    Rule,
    TextRule,
    each,
    field,
)


class BinanceCodes(CodeTable):
    """Binance spot and USDⓈ-M futures: ``{"code": -2010, "msg": "…"}``."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **each(FailureKind.UNKNOWN, "-1000 -1001 -1004 -1006 -1007 -1010 -5041"),
        **each(FailureKind.THROTTLED, "-1003 -1008 -1015"),
        **each(FailureKind.CREDENTIALS, "-1002 -1022 -2014 -2015"),
        # -5028 is -1021 as the futures matching engine says it.
        **each(FailureKind.SKEW, "-1021 -5028"),
        **each(FailureKind.INVALID, "-1013 -1014 -1020 -2021 -2022"),
        **each(FailureKind.REFUSED, "-1016 -2016 -2020", transient=True),
        **each(FailureKind.REFUSED, "-2010 -2011 -2023 -2025 -2026 -5021 -5022"),
        **each(FailureKind.FUNDS, "-2018 -2019 -2024 -4050 -4051"),
        **each(FailureKind.NOT_FOUND, "-2013"),
        **each(FailureKind.DUPLICATE, "-4116 -20132"),
    }
    texts = (
        TextRule("-2010", "duplicate order sent", DUPLICATE),
        TextRule("-2010", "insufficient balance", Rule(FailureKind.FUNDS)),
        TextRule("-2011", "unknown order", Rule(FailureKind.NOT_FOUND)),
        TextRule("-2011", "does not exist", Rule(FailureKind.NOT_FOUND)),
    )
    ranges = (
        (-1199, -1100, Rule(FailureKind.INVALID)),  # request issues
        (-4499, -4000, Rule(FailureKind.INVALID)),  # futures filters and order rejections
        (-5040, -5021, Rule(FailureKind.REFUSED)),  # futures execution: FOK, GTX, self-trade
    )
    #: 503 texts with which the derivatives API says that nothing happened; on spot every 5XX
    #: leaves the outcome open.
    futures_failures = (
        "service unavailable",
        "internal error; unable to process",
        "request was not processed",
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return ``code`` and ``msg``; a positive code is no error."""
        if isinstance(reply, list) and len(reply) == 1:
            reply = reply[0]
        code = field(reply, "code")
        return (code, field(reply, "msg")) if code.startswith("-") else ("", "")

    def find(self, code: str, text: str, status: int, path: str) -> Rule | None:
        """Return the rule, knowing the 503 texts of the derivatives API that do say no."""
        if path.startswith(("/fapi/", "/dapi/")) and status == 503:
            lowered = text.lower()
            if any(failure in lowered for failure in self.futures_failures):
                return TRY_AGAIN
        return super().find(code, text, status, path)
