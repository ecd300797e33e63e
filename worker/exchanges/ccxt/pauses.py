"""Reads from headers and texts for how long an exchange wants nothing to be sent."""

import re
import time
from email.utils import parsedate_to_datetime
from typing import Final

#: The longest ban there is (Binance).
MAX_RETRY_AFTER_S: Final = 259_200.0
#: Ways to say for how long or until when: "banned until 1700000000000", "Throttled: 1700000000",
#: "retry after 20 seconds", "try again in 20s".
_UNTIL: Final = re.compile(r"(?i)(?:until|throttled:?|after|at)\s*:?\s*(\d{13}|\d{10})(?!\d)")
_WITHIN: Final = re.compile(
    r"(?i)(?:after|in|for|wait)\s*:?\s*(\d{1,5}(?:\.\d+)?)\s*(ms|milliseconds?|s|sec|seconds?|m|min"
    r"|minutes?|h|hours?)\b"
)
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0}


def retry_after_seconds(value: str | None) -> float:
    """Return ``Retry-After`` in seconds (RFC 9110, 10.2.3), capped; 0 if absent or unreadable."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value or "").timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(seconds, MAX_RETRY_AFTER_S) if seconds > 0 else 0.0


def seconds_in_text(text: str, now_ms: float) -> float:
    """Return for how long a refusal's text wants nothing to be sent, seconds; 0 if it does not say.

    Args:
        text: the exchange's.
        now_ms: the exchange's time, Unix milliseconds.
    """
    if found := _UNTIL.search(text):
        stated_ms = float(found[1]) * (1000 if len(found[1]) == 10 else 1)
        return min(max(stated_ms - now_ms, 0.0) / 1000, MAX_RETRY_AFTER_S)
    if found := _WITHIN.search(text):
        unit = found[2].lower()
        factor = 0.001 if unit.startswith(("ms", "milli")) else _UNITS_S[unit[0]]
        return min(float(found[1]) * factor, MAX_RETRY_AFTER_S)
    return 0.0
