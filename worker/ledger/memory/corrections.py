"""Corrections of the book that people ask for, and the answers they get."""

from typing import Final

#: For how long an answer is kept.
ANSWER_MS: Final = 60_000
#: How many requests are handed out at once.
MOST: Final = 16


class Requests:
    """Requests for corrections by id, JSON, and answers to them."""

    def __init__(self) -> None:
        self.asked: dict[str, bytes] = {}
        self._answers: dict[str, tuple[bytes, int]] = {}

    def some(self) -> dict[str, bytes]:
        """Return some of the requests."""
        return dict(list(self.asked.items())[:MOST])

    def end(self, request: str, answer: bytes, now_ms: int) -> None:
        """End a request with an answer."""
        self.asked.pop(request, None)
        self._answers[request] = (answer, now_ms + ANSWER_MS)

    def answer(self, request: str, now_ms: int) -> bytes | None:
        """Return the answer to a request; None while there is none, or once it was forgotten."""
        answer, until_ms = self._answers.get(request, (None, 0))
        return answer if until_ms > now_ms else None
