"""Binance's error codes.

Source: https://developers.binance.com/docs/binance-spot-api-docs/errors and
https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

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

_NO: Final = Rule(FailureKind.REFUSED)
_INVALID: Final = Rule(FailureKind.INVALID)
_GONE: Final = Rule(FailureKind.NOT_FOUND)
#: What -1010, -2010 and -2011 say in their text alone, the first that matches: "Messages for -1010
#: ERROR_MSG_RECEIVED, -2010 NEW_ORDER_REJECTED, and -2011 CANCEL_REJECTED" of the spot document. A
#: -1010 with another text leaves the outcome open.
_FROM_THE_ENGINE: Final[Sequence[tuple[str, Rule]]] = (
    ("unknown order", _GONE),
    ("does not exist", _GONE),
    ("duplicate order sent", DUPLICATE),
    ("insufficient balance", Rule(FailureKind.FUNDS)),
    ("market is closed", _NO),
    ("not supported for this symbol", _INVALID),
    ("not support for this symbol", _INVALID),  # as the document has it, of quoteOrderQty
    ("price * qty is zero or less", _INVALID),
    ("icebergqty exceeds qty", _INVALID),
    ("action is disabled on this account", _NO),
    ("may not place or cancel orders", _NO),
    ("unsupported order combination", _INVALID),
    ("would trigger immediately", _INVALID),
    ("cancel order is invalid", _INVALID),
    ("would immediately match and take", _NO),
    ("relationship of the prices", _INVALID),
    ("not permitted for this account", _NO),
    ("restricted for this account", _NO),
    ("not canceled due to cancel restrictions", _NO),
    ("api trading is not enabled", _NO),
    ("liquidity is less than", _NO),
    ("liquidity is too low", _NO),
    ("quantity increase) is not supported", _INVALID),
    ("would change no state", _NO),
    ("price peg cannot be used", _INVALID),
    ("filter failure", _INVALID),
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
    texts = tuple(
        TextRule(code, text, rule)
        for code in ("-1010", "-2010", "-2011")
        for text, rule in _FROM_THE_ENGINE
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
