"""Tables of exchanges' error codes and what each says about an order; ``outcomes`` reads them.

Each exchange's folder has its own table. Only codes whose meaning is documented are listed; an
unlisted one is decided by weaker evidence, and never turned into a rejection without any.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, ClassVar, Final

import msgspec

from worker.exchanges.ccxt.pauses import seconds_in_text


class FailureKind(Enum):
    """Kinds of failure, before one becomes an exception."""

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

    kind: FailureKind
    transient: bool = False


class TextRule(msgspec.Struct, frozen=True):
    """A code whose meaning depends on its text: ``contains`` is matched without case."""

    code: str
    contains: str
    rule: Rule


DUPLICATE: Final = Rule(FailureKind.DUPLICATE)
UNKNOWN: Final = Rule(FailureKind.UNKNOWN)
TRY_AGAIN: Final = Rule(FailureKind.REFUSED, transient=True)


#: Of more digits there is no code, and from 4,300 on Python reads none.
_MAX_CODE_DIGITS: Final = 20


class CodeTable(ABC):
    """One exchange's codes: how to read them from a reply, and what they mean."""

    codes: ClassVar[Mapping[str, Rule]] = {}
    texts: ClassVar[Sequence[TextRule]] = ()
    #: Inclusive ranges of numeric codes.
    ranges: ClassVar[Sequence[tuple[int, int, Rule]]] = ()

    def read(self, body: bytes) -> tuple[str, str]:
        """Return the reply's error code and text, both empty if it carries no error."""
        try:
            reply = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return "", ""
        return self.extract(reply)

    @abstractmethod
    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the error code and text of a decoded reply, both empty if it carries none."""

    def find(self, code: str, text: str, status: int, path: str) -> Rule | None:
        """Return the rule for ``code`` in this reply, or None if the tables do not know it.

        A server failure (5XX, 408) outweighs the code it comes with: the request may have been
        carried out. Only overload codes still mean what they say.

        Args:
            code: as read from the reply.
            text: the exchange's text with it.
            status: the HTTP status.
            path: the request's path, for codes that mean different things in two APIs.
        """
        rule = self.look_up(code, text)
        if rule is not None and rule.kind is FailureKind.THROTTLED:
            return rule
        return UNKNOWN if status >= 500 or status == 408 else rule

    def look_up(self, code: str, text: str) -> Rule | None:
        """Return the rule for ``code``, whatever the HTTP status."""
        lowered = text.lower()
        for known in self.texts:
            if known.code == code and known.contains in lowered:
                return known.rule
        if (rule := self.codes.get(code)) is not None:
            return rule
        if len(code) <= _MAX_CODE_DIGITS and code.isascii() and code.removeprefix("-").isdigit():
            number = int(code)
            for low, high, ranged in self.ranges:
                if low <= number <= high:
                    return ranged
        return None

    def pause_s(self, code: str, text: str, now_ms: float) -> float:
        """Return how long a throttle told by ``code`` lasts, in seconds; 0 if it does not say.

        Args:
            code: as read from the reply.
            text: the exchange's text with it.
            now_ms: the exchange's time, Unix milliseconds.
        """
        return seconds_in_text(f"{code}: {text}", now_ms)


def field(reply: Any, *names: str) -> str:
    """Return the first of ``names`` that a decoded object has, as text; empty if it has none."""
    if isinstance(reply, dict):
        for name in names:
            value = reply.get(name)
            if value not in (None, ""):
                return str(value)
    return ""


def each(kind: FailureKind, codes: str, *, transient: bool = False) -> dict[str, Rule]:
    """Return one rule for each of ``codes``, which are separated by spaces."""
    return dict.fromkeys(codes.split(), Rule(kind, transient))


class AnyCodes(CodeTable):
    """An exchange without a table of its own: the usual names of a code, no meanings."""

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return the first usual field that does not look like success."""
        code = field(reply, "code", "retCode", "error_code", "error", "status")
        if code.lower() in {"", "0", "200", "ok", "success", "true", "[]"}:
            return "", ""
        return code[:64], field(reply, "msg", "message", "retMsg", "error_description")


ANY_CODES: Final = AnyCodes()
