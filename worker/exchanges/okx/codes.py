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
        **each(FailureKind.THROTTLED, "50011 50013 50040 50061"),
        **each(FailureKind.SKEW, "50102 50112"),
        **each(FailureKind.FUNDS, "51008 51119 51127 51131 51502"),
        **each(FailureKind.NOT_FOUND, "51400 51401 51402 51503 51603"),
        **each(FailureKind.DUPLICATE, "51011 51016 51065"),
        **each(FailureKind.CREDENTIALS, "50035 50030"),
    }
    ranges = (
        (50_100, 50_120, Rule(FailureKind.CREDENTIALS)),
        (50_000, 50_003, Rule(FailureKind.REFUSED)),
        (50_014, 50_016, Rule(FailureKind.INVALID)),
        (51_000, 51_999, Rule(FailureKind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the first row's ``sCode``, the order's own; else the request's ``code``."""
        code = field(reply, "code")
        if code in {"", "0"}:
            return "", ""
        rows = reply.get("data")
        for row in rows if isinstance(rows, list) else ():
            if (inner := field(row, "sCode")) not in {"", "0"}:
                return inner, field(row, "sMsg")
        return code, field(reply, "msg")
