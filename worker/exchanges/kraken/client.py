"""The ccxt class of Kraken with our nonces, signing one private request after the other."""

from collections.abc import Callable
from typing import Any, Final

from worker.exchanges.ccxt.call import current_call
from worker.exchanges.kraken.turns import RequestTurns

#: How many workers may share a key that has a nonce window.
SEATS: Final = 16


class Nonces:
    """Rising nonces made of the exchange's time, Unix milliseconds.

    Workers on one key each have a seat there, the remainder of their nonces by :data:`SEATS`, so
    that no two ever use the same nonce.

    Args:
        now_ms: the exchange's time.
        seats: 1 where the key is one worker's, else :data:`SEATS`.
    """

    def __init__(self, now_ms: Callable[[], int], seats: int) -> None:
        self._now_ms = now_ms
        self._seats = seats
        self._last = 0
        self.seat = 0

    def take(self) -> int:
        """Return the next nonce."""
        nonce = max(self._last + 1, self._now_ms())
        nonce += (self.seat - nonce) % self._seats
        self._last = nonce
        return nonce


def in_turn(
    base: type[Any], turns: RequestTurns, nonces: Nonces, check: Callable[[], None]
) -> type[Any]:
    """Return ccxt's class ``base`` with private requests signed and sent one by one.

    Args:
        base: the class.
        turns: whose request may be signed.
        nonces: where nonces come from.
        check: raises if the request must not be sent (any more); called just before signing.
    """

    class InTurn(base):  # type: ignore[misc]
        """The class with its private requests in order."""

        def incrementing_nonce(self) -> int:
            """Return a nonce above all before it."""
            return nonces.take()

        async def fetch2(
            self,
            path: str,
            api: Any = "public",
            method: str = "GET",
            params: Any = None,
            config: Any = None,
        ) -> Any:
            """Sign and send one request; a private one when those before it have arrived."""
            arguments = (path, api, method, params or {}, config or {})
            if "private" not in api:
                return await super().fetch2(*arguments)
            turn = await turns.take()
            call = current_call.get()
            try:
                check()
                if call is not None:
                    call.on_writing = turn.writing
                return await super().fetch2(*arguments)
            finally:
                turn.end()
                if call is not None:
                    call.on_writing = None

    InTurn.__name__ = InTurn.__qualname__ = base.__name__
    return InTurn
