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
        # -1 has no meaning of its own; 500, 502 and 5004 "Server Timeout" are outages.
        **each(FailureKind.UNKNOWN, "-1 500 502 503 504 5004"),
        # 429 "system level frequency protection", 403 and 10403 "exceed IP rate limit", 10009 "IP
        # has been banned": none of them is processed.
        **each(FailureKind.THROTTLED, "403 429 10006 10009 10018 10403 10429 170005 170222"),
        **each(FailureKind.SKEW, "-1021 10002"),
        **each(FailureKind.CREDENTIALS, "-2015 401 10003 10004 10005 10007 10008 10010 33004"),
        **each(FailureKind.INVALID, "-1004 -1103 -1140 -1197 10001 12137"),
        **each(FailureKind.REFUSED, "10017 10020 10024 10027 10028 10029 10404 100028"),
        # 110079 "The order is processing and can not be operated", 170191 "Can not cancel order,
        # please try again later".
        **each(FailureKind.REFUSED, "110079 170191", transient=True),
        **each(FailureKind.FUNDS, "110004 110006 110007 110012 110014 110044 110045 110051"),
        **each(FailureKind.FUNDS, "110052 110053 140004 140006 140007 140012 140014 170033 170131"),
        # It is over, or it never was: "Order has been finished or canceled" and the like. 170139
        # "Order has been filled.", 170190 "Cancel order has been finished"; 140xxx are the same
        # for contracts settled in USDC.
        **each(FailureKind.NOT_FOUND, "-2013 110001 110008 110010 140001 140008 140010"),
        **each(FailureKind.NOT_FOUND, "170139 170142 170143 170190 170213"),
        **each(FailureKind.DUPLICATE, "10014 12141 110030 110072 170141"),
    }
    ranges = (
        (110_000, 110_999, Rule(FailureKind.INVALID)),
        (140_000, 140_999, Rule(FailureKind.INVALID)),
        (170_100, 170_999, Rule(FailureKind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return ``retCode`` and ``retMsg``."""
        code = field(reply, "retCode", "ret_code")
        return (code, field(reply, "retMsg", "ret_msg")) if code not in {"", "0"} else ("", "")
