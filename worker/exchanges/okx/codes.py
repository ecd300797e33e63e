"""OKX's error codes.

Source: https://www.okx.com/docs-v5/en/#error-code.
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


class OkxCodes(CodeTable):
    """OKX v5: ``{"code": "1", "data": [{"sCode": "51008", "sMsg": "…"}]}`` or ``code``, ``msg``."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **each(FailureKind.UNKNOWN, "50001 50004 50026 51054 51149"),
        **each(FailureKind.THROTTLED, "50011 50013 50040 50061 51113"),
        # 50036 "The expTime can't be earlier than the current system time", 50037 "The order is
        # expired": the deadline did its work.
        **each(FailureKind.SKEW, "50036 50037 50102 50112"),
        **each(FailureKind.FUNDS, "51008 51119 51127 51131 51502 51736 51764"),
        # 51405 "you do not have any pending orders", 51509 and 51510: cancelled, completed.
        **each(FailureKind.NOT_FOUND, "51400 51401 51402 51405 51503 51509 51510 51603 52000"),
        # 51410: the order is being cancelled already.
        **each(FailureKind.REFUSED, "51410", transient=True),
        **each(FailureKind.REFUSED, "50007 50009 50012 50027 50028 50062 51009 51010 51024"),
        **each(FailureKind.DUPLICATE, "51011 51016 51065"),
        **each(FailureKind.CREDENTIALS, "50035 50030"),
    }
    ranges = (
        (50_100, 50_120, Rule(FailureKind.CREDENTIALS)),
        (50_000, 50_003, Rule(FailureKind.REFUSED)),
        (50_014, 50_016, Rule(FailureKind.INVALID)),
        (50_017, 50_023, Rule(FailureKind.REFUSED)),  # frozen by ADL, liquidation or funding
        (50_024, 50_025, Rule(FailureKind.INVALID)),
        (51_000, 51_999, Rule(FailureKind.INVALID)),
        (54_000, 54_099, Rule(FailureKind.REFUSED)),  # margin, pre-market, mass cancel
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the first row's ``sCode``, the order's own; else the request's ``code``.

        A request that succeeded (code 0) may hold an order that was refused.
        """
        code = field(reply, "code")
        if not code:
            return "", ""
        rows = reply.get("data")
        for row in rows if isinstance(rows, list) else ():
            if (inner := field(row, "sCode")) not in {"", "0"}:
                return inner, field(row, "sMsg")
        return ("", "") if code == "0" else (code, field(reply, "msg"))
