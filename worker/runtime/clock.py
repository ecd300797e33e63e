"""Time and chance as parameters, so that a simulation can supply its own."""

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Final, Protocol


class Clock(Protocol):
    """Wall-clock time, monotonic time, and waiting."""

    def now_ms(self) -> int:
        """Return wall-clock time, milliseconds since the Unix epoch."""

    def monotonic_ms(self) -> float:
        """Return milliseconds of a clock that never steps and runs on in a stopped process."""

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Return wall-clock time, milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Return ``CLOCK_MONOTONIC`` in milliseconds; it keeps counting across SIGSTOP."""
        return time.monotonic() * 1000

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await asyncio.sleep(seconds)


#: The last moment that a date can tell, Unix milliseconds.
_LAST_MS: Final = 253_402_300_799_999


def utc(ms: float) -> datetime:
    """Return Unix milliseconds as an aware UTC datetime; what no date can tell is its last moment.

    The id of a stream's entry counts milliseconds too, and whoever adds one may choose any number.
    """
    return datetime.fromtimestamp((ms if ms < _LAST_MS else _LAST_MS) / 1000, UTC)


def rfc3339(ms: float) -> str:
    """Return Unix milliseconds as an RFC 3339 time in UTC, to the millisecond."""
    return utc(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Random = random.Random
