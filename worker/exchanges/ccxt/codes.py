"""What each exchange's error codes say about an order: the tables behind ``outcomes``.

Only codes whose meaning is documented are listed; an unlisted one is decided by weaker evidence,
and never turned into a rejection without any. Sources:
Binance https://developers.binance.com/docs/binance-spot-api-docs/errors and
https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code,
Bybit https://bybit-exchange.github.io/docs/v5/error, OKX https://www.okx.com/docs-v5/en/#error-code,
Kraken https://support.kraken.com/articles/360001491786-api-error-messages,
Coinbase https://docs.cdp.coinbase.com/advanced-trade/docs/rest-api-orders.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, ClassVar, Final

import msgspec


class Kind(Enum):
    """What a failure is, before it becomes an exception."""

    REFUSED = auto()
    INVALID = auto()
    FUNDS = auto()
    CREDENTIALS = auto()
    SKEW = auto()
    NOT_FOUND = auto()
    DUPLICATE = auto()  # the client order id is taken: the first order is there
    THROTTLED = auto()
    NOT_SENT = auto()
    UNKNOWN = auto()


class Rule(msgspec.Struct, frozen=True):
    """A kind, and for refusals whether the same order may succeed a moment later."""

    kind: Kind
    transient: bool = False


class TextRule(msgspec.Struct, frozen=True):
    """A code whose meaning depends on its text: ``contains`` is matched without case."""

    code: str
    contains: str
    rule: Rule


_DUPLICATE: Final = Rule(Kind.DUPLICATE)
_UNKNOWN: Final = Rule(Kind.UNKNOWN)
_TRY_AGAIN: Final = Rule(Kind.REFUSED, transient=True)


class CodeBook(ABC):
    """One exchange's codes: how to read them from a reply, and what they mean."""

    codes: ClassVar[Mapping[str, Rule]] = {}
    texts: ClassVar[Sequence[TextRule]] = ()
    #: Inclusive ranges of numeric codes.
    ranges: ClassVar[Sequence[tuple[int, int, Rule]]] = ()

    def read(self, body: bytes) -> tuple[str, str]:
        """The reply's error code and text, both empty if it carries no error."""
        try:
            reply = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return "", ""
        return self.extract(reply)

    @abstractmethod
    def extract(self, reply: Any) -> tuple[str, str]:
        """The error code and text of a decoded reply, both empty if it carries no error."""

    def find(self, code: str, text: str, status: int, path: str) -> Rule | None:
        """What ``code`` means, or None if the tables do not know it.

        A server failure (5XX, 408) outweighs the code it comes with: the request may have been
        carried out. Only overload codes still mean what they say.

        Args:
            code: as read from the reply.
            text: the exchange's text with it.
            status: the HTTP status.
            path: the request's path, for codes that mean different things in two APIs.
        """
        rule = self.look_up(code, text)
        if rule is not None and rule.kind is Kind.THROTTLED:
            return rule
        return _UNKNOWN if status >= 500 or status == 408 else rule

    def look_up(self, code: str, text: str) -> Rule | None:
        """What ``code`` means by itself."""
        lowered = text.lower()
        for known in self.texts:
            if known.code == code and known.contains in lowered:
                return known.rule
        if (rule := self.codes.get(code)) is not None:
            return rule
        if code.removeprefix("-").isdigit():
            number = int(code)
            for low, high, ranged in self.ranges:
                if low <= number <= high:
                    return ranged
        return None


def _field(reply: Any, *names: str) -> str:
    """The first of ``names`` that a decoded object has, as text."""
    if isinstance(reply, dict):
        for name in names:
            value = reply.get(name)
            if value not in (None, ""):
                return str(value)
    return ""


def _each(kind: Kind, codes: str, *, transient: bool = False) -> dict[str, Rule]:
    return dict.fromkeys(codes.split(), Rule(kind, transient))


class BinanceCodes(CodeBook):
    """Binance spot and USDⓈ-M futures: ``{"code": -2010, "msg": "…"}``."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **_each(Kind.UNKNOWN, "-1000 -1001 -1004 -1006 -1007 -1010 -5041"),
        **_each(Kind.THROTTLED, "-1003 -1008 -1015"),
        **_each(Kind.CREDENTIALS, "-1002 -1022 -2014 -2015"),
        **_each(Kind.SKEW, "-1021 -5028"),  # -5028: the same, said by the futures matching engine
        **_each(Kind.INVALID, "-1013 -1014 -1020 -2021 -2022"),
        **_each(Kind.REFUSED, "-1016 -2016 -2020", transient=True),
        **_each(Kind.REFUSED, "-2010 -2011 -2023 -2025 -2026 -5021 -5022"),
        **_each(Kind.FUNDS, "-2018 -2019 -2024 -4050 -4051"),
        **_each(Kind.NOT_FOUND, "-2013"),
        **_each(Kind.DUPLICATE, "-4116 -20132"),
    }
    texts = (
        TextRule("-2010", "duplicate order sent", _DUPLICATE),
        TextRule("-2010", "insufficient balance", Rule(Kind.FUNDS)),
        TextRule("-2011", "unknown order", Rule(Kind.NOT_FOUND)),
        TextRule("-2011", "does not exist", Rule(Kind.NOT_FOUND)),
    )
    ranges = (
        (-1199, -1100, Rule(Kind.INVALID)),  # request issues
        (-4499, -4000, Rule(Kind.INVALID)),  # futures filters and order rejections
        (-5040, -5021, Rule(Kind.REFUSED)),  # futures order execution: FOK, GTX, self-trade ...
    )
    #: 503 texts with which the derivatives API says that nothing happened; on spot every 5XX
    #: leaves the outcome open.
    futures_failures = (
        "service unavailable",
        "internal error; unable to process",
        "request was not processed",
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """``code`` and ``msg``; a positive code is no error."""
        if isinstance(reply, list) and len(reply) == 1:
            reply = reply[0]
        code = _field(reply, "code")
        return (code, _field(reply, "msg")) if code.startswith("-") else ("", "")

    def find(self, code: str, text: str, status: int, path: str) -> Rule | None:
        """As the base, but the derivatives API has 503 texts that do say no."""
        if path.startswith(("/fapi/", "/dapi/")) and status == 503:
            lowered = text.lower()
            if any(failure in lowered for failure in self.futures_failures):
                return _TRY_AGAIN
        return super().find(code, text, status, path)


class BybitCodes(CodeBook):
    """Bybit v5: ``{"retCode": 110007, "retMsg": "…"}`` with HTTP 200."""

    codes: ClassVar[Mapping[str, Rule]] = {
        # 170035 "Submitted to the system for processing!", 170146 "Order creation timeout"
        **_each(Kind.UNKNOWN, "10000 10016 10019 170001 170007 170032 170035 170146 170147 170234"),
        **_each(Kind.THROTTLED, "10006 10018 10429 170005 170222"),
        **_each(Kind.SKEW, "10002"),
        **_each(Kind.CREDENTIALS, "10003 10004 10005 10007 10008 10009 10010 33004"),
        **_each(Kind.INVALID, "10001"),
        **_each(Kind.REFUSED, "10017 10024 10027 10028 10029"),
        **_each(
            Kind.FUNDS, "110004 110006 110007 110012 110014 110044 110045 110051 110052 110053"
        ),
        **_each(Kind.FUNDS, "170033 170131"),
        **_each(Kind.NOT_FOUND, "110001 110008 110010 170142 170143 170213"),
        **_each(Kind.DUPLICATE, "10014 12141 110030 110072 170141"),
    }
    ranges = (
        (110_000, 110_999, Rule(Kind.INVALID)),
        (170_100, 170_999, Rule(Kind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """``retCode`` and ``retMsg``."""
        code = _field(reply, "retCode", "ret_code")
        return (code, _field(reply, "retMsg", "ret_msg")) if code not in {"", "0"} else ("", "")


class OkxCodes(CodeBook):
    """OKX v5: ``{"code": "1", "data": [{"sCode": "51008", "sMsg": "…"}]}`` or ``code``, ``msg``."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **_each(Kind.UNKNOWN, "50001 50004 50026 51054 51149"),
        **_each(Kind.THROTTLED, "50011 50013 50040 50061"),
        **_each(Kind.SKEW, "50102 50112"),
        **_each(Kind.FUNDS, "51008 51119 51127 51131 51502"),
        **_each(Kind.NOT_FOUND, "51400 51401 51402 51503 51603"),
        **_each(Kind.DUPLICATE, "51011 51016 51065"),
        **_each(Kind.CREDENTIALS, "50035 50030"),
    }
    ranges = (
        (50_100, 50_120, Rule(Kind.CREDENTIALS)),
        (50_000, 50_003, Rule(Kind.REFUSED)),
        (50_014, 50_016, Rule(Kind.INVALID)),
        (51_000, 51_999, Rule(Kind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """The first row's ``sCode``, which is the order's own; else the request's ``code``."""
        code = _field(reply, "code")
        if code in {"", "0"}:
            return "", ""
        rows = reply.get("data")
        for row in rows if isinstance(rows, list) else ():
            if (inner := _field(row, "sCode")) not in {"", "0"}:
                return inner, _field(row, "sMsg")
        return code, _field(reply, "msg")


class KrakenCodes(CodeBook):
    """Kraken spot: ``{"error": ["EOrder:Insufficient funds"]}`` with HTTP 200."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **_each(Kind.UNKNOWN, "EService:Unavailable EService:Timeout EService:Busy"),
        "EGeneral:Internal error": _UNKNOWN,
        "EGeneral:Temporary lockout": Rule(Kind.THROTTLED),
        "EAPI:Rate limit exceeded": Rule(Kind.THROTTLED),
        "EOrder:Rate limit exceeded": Rule(Kind.THROTTLED),
        "EOrder:Orders limit exceeded": _TRY_AGAIN,
        "EAPI:Invalid nonce": Rule(Kind.SKEW),
        # "The request timed out according to the default or user specified deadline": where, it
        # does not say.
        "EService:Deadline elapsed": _UNKNOWN,
        "EAPI:Invalid key": Rule(Kind.CREDENTIALS),
        "EAPI:Invalid signature": Rule(Kind.CREDENTIALS),
        "EGeneral:Permission denied": Rule(Kind.CREDENTIALS),
        "EOrder:Insufficient funds": Rule(Kind.FUNDS),
        "EOrder:Insufficient margin": Rule(Kind.FUNDS),
        "EOrder:Unknown order": Rule(Kind.NOT_FOUND),
        "EOrder:cl_ord_id already in use": _DUPLICATE,
        "EService:Market in cancel_only mode": _TRY_AGAIN,
        "EService:Market in post_only mode": _TRY_AGAIN,
    }
    prefixes = (
        ("EOrder:", Rule(Kind.INVALID)),
        ("EGeneral:Invalid arguments", Rule(Kind.INVALID)),
        ("EQuery:Unknown asset pair", Rule(Kind.INVALID)),
        ("EAPI:Bad request", Rule(Kind.INVALID)),
    )

    def extract(self, reply: Any) -> tuple[str, str]:
        """The first ``E…`` entry of ``error``; its class and text are one string."""
        errors = reply.get("error") if isinstance(reply, dict) else None
        for entry in errors if isinstance(errors, list) else ():
            if isinstance(entry, str) and entry.startswith("E"):
                return entry, ""
        return "", ""

    def look_up(self, code: str, text: str) -> Rule | None:
        """Exact entries first, then what an entry begins with."""
        if (rule := super().look_up(code, text)) is not None:
            return rule
        if "cl_ord_id" in code.lower() and "duplicate" in code.lower():
            return _DUPLICATE
        return next((rule for prefix, rule in self.prefixes if code.startswith(prefix)), None)


class CoinbaseCodes(CodeBook):
    """Coinbase Advanced: ``error_response`` of an unsuccessful order, else ``error``."""

    codes: ClassVar[Mapping[str, Rule]] = {
        **_each(Kind.UNKNOWN, "UNKNOWN_FAILURE_REASON INTERNAL UNKNOWN UNAVAILABLE ABORTED"),
        **_each(Kind.UNKNOWN, "DEADLINE_EXCEEDED"),
        **_each(Kind.FUNDS, "INSUFFICIENT_FUND PREVIEW_INSUFFICIENT_FUND"),
        **_each(Kind.FUNDS, "PREVIEW_INSUFFICIENT_FUNDS_FOR_FUTURES"),
        **_each(Kind.THROTTLED, "RESOURCE_EXHAUSTED rate_limit_exceeded"),
        **_each(Kind.CREDENTIALS, "PERMISSION_DENIED UNAUTHENTICATED authentication_error"),
        **_each(Kind.CREDENTIALS, "invalid_token expired_token revoked_token unauthorized"),
        **_each(Kind.NOT_FOUND, "NOT_FOUND not_found UNKNOWN_CANCEL_ORDER"),
        **_each(Kind.DUPLICATE, "ALREADY_EXISTS DUPLICATE_CANCEL_REQUEST"),
        **_each(Kind.REFUSED, "MARKET_CLOSED COMMANDER_REJECTED_NEW_ORDER"),
    }
    prefixes = ("INVALID_", "UNSUPPORTED_", "PREVIEW_INVALID_", "PREVIEW_", "invalid_request")

    def extract(self, reply: Any) -> tuple[str, str]:
        """The failure reason; the preview's where the order's own is unknown."""
        if not isinstance(reply, dict):
            return "", ""
        failed = reply.get("error_response")
        if isinstance(failed, dict):
            reason = _field(failed, "error")
            preview = _field(failed, "preview_failure_reason")
            if reason in {"", "UNKNOWN_FAILURE_REASON"} and not preview.startswith("UNKNOWN"):
                reason = preview or reason
            return reason or "UNKNOWN_FAILURE_REASON", _field(failed, "message", "error_details")
        if code := _field(reply, "error"):
            return code, _field(reply, "message", "error_details", "error_description")
        errors = reply.get("errors")
        for row in errors if isinstance(errors, list) else ():
            if code := _field(row, "id"):
                return code, _field(row, "message")
        results = reply.get("results")
        for row in results if isinstance(results, list) else ():
            if code := _field(row, "failure_reason"):
                return code, ""
        return "", ""

    def look_up(self, code: str, text: str) -> Rule | None:
        """Exact reasons first, then what a reason begins with."""
        if (rule := super().look_up(code, text)) is not None:
            return rule
        return Rule(Kind.INVALID) if code.startswith(self.prefixes) else None


class AnyCodes(CodeBook):
    """An exchange without a table of its own: the usual names of a code, no meanings."""

    def extract(self, reply: Any) -> tuple[str, str]:
        """The first usual field that does not look like success."""
        code = _field(reply, "code", "retCode", "error_code", "error", "status")
        if code.lower() in {"", "0", "200", "ok", "success", "true", "[]"}:
            return "", ""
        return code[:64], _field(reply, "msg", "message", "retMsg", "error_description")


CODE_BOOKS: Final[Mapping[str, CodeBook]] = {
    "binance": BinanceCodes(),
    "bybit": BybitCodes(),
    "okx": OkxCodes(),
    "kraken": KrakenCodes(),
    "coinbase": CoinbaseCodes(),
}
ANY_CODES: Final = AnyCodes()
