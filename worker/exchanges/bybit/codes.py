"""Bybit's error codes.

Source: https://bybit-exchange.github.io/docs/v5/error.
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


class BybitCodes(CodeTable):
    """Bybit v5: ``{"retCode": 110007, "retMsg": "…"}`` with HTTP 200."""

    codes: ClassVar[Mapping[str, Rule]] = {
        # 170035 "Submitted to the system for processing!", 170146 "Order creation timeout"
        **each(FailureKind.UNKNOWN, "10000 10016 10019 170001 170007 170032 170035 170146"),
        **each(FailureKind.UNKNOWN, "170147 170234"),
        **each(FailureKind.THROTTLED, "10006 10018 10429 170005 170222"),
        **each(FailureKind.SKEW, "10002"),
        **each(FailureKind.CREDENTIALS, "10003 10004 10005 10007 10008 10009 10010 33004"),
        **each(FailureKind.INVALID, "10001"),
        **each(FailureKind.REFUSED, "10017 10024 10027 10028 10029"),
        **each(FailureKind.FUNDS, "110004 110006 110007 110012 110014 110044 110045 110051"),
        **each(FailureKind.FUNDS, "110052 110053 170033 170131"),
        **each(FailureKind.NOT_FOUND, "110001 110008 110010 170142 170143 170213"),
        **each(FailureKind.DUPLICATE, "10014 12141 110030 110072 170141"),
    }
    ranges = (
        (110_000, 110_999, Rule(FailureKind.INVALID)),
        (170_100, 170_999, Rule(FailureKind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return ``retCode`` and ``retMsg``."""
        code = field(reply, "retCode", "ret_code")
        return (code, field(reply, "retMsg", "ret_msg")) if code not in {"", "0"} else ("", "")
