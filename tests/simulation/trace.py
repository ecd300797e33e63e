"""What happened in one run, step by step, cheap to keep and readable when a seed fails."""

import hashlib
from collections.abc import Callable


class Trace:
    """Steps as tuples; turned into text only when somebody wants to read them.

    Args:
        now_s: virtual time.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.steps: list[tuple[object, ...]] = []

    def note(self, who: str, *what: object) -> None:
        """Add one step."""
        self.steps.append((round(self._now_s(), 4), who, *what))

    def lines(self, last: int | None = None) -> list[str]:
        """The steps as text, the ``last`` ones only if that is given."""
        steps = self.steps if last is None else self.steps[-last:]
        return [f"{step[0]:>9} {step[1]!s:<9} {' '.join(map(str, step[2:]))}" for step in steps]

    def digest(self) -> str:
        """The same for two runs that did the same."""
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()[:16]
