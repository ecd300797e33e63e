"""The record of one exchange call: what was sent, what was answered, and to which request."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from worker.exchanges.budget.classes import RequestClass


@dataclass(slots=True)
class Call:
    """One adapter call as the wire saw it; ``current_call`` holds the running call.

    ``sent`` counts requests that could create an order and were about to be written; ``body`` is
    the last complete reply, None until there is one. Of requests under way at once (markets are
    loaded so) each failure is judged by the reply it came from.
    """

    operation: str
    creating: bool = False
    #: While an order is created, the exchange's time to sign with: fixed before the lease check.
    stamp_ms: int | None = None
    #: While an order is created, the local monotonic time after which it must not be sent.
    expires_mono_ms: float | None = None
    #: Called when a request's first byte is about to be written.
    on_writing: Callable[[], None] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    sent: int = 0
    path: str = ""
    status: int = 0
    retry_after_s: float = 0.0
    #: How soon the limit is free again, as the last reply's headers say, seconds.
    resets_s: float = 0.0
    body: bytes | None = None
    #: The class of its requests in the budget.
    request_class: RequestClass = RequestClass.REST
    #: Requests that have their turn already.
    prepaid: int = 0
    #: Whether a request of it had its turn, so that after a hold it may be the probe.
    has_entered: bool = False
    #: Called with path, status and headers of every reply.
    on_reply: Callable[[str, int, Mapping[str, str]], None] | None = None
    #: The exchange's time, Unix milliseconds; texts that say until when are read by it.
    exchange_ms: Callable[[], float] | None = None
    #: Each failed request's error, with path, status, pause and body of its reply.
    failures: list[tuple[BaseException, str, int, float, bytes | None]] | None = None

    def note_reply(self, path: str, status: int, pause_s: float, body: bytes | None) -> None:
        """Note what is known of the reply to a request: 0 and None before there is one."""
        self.path, self.status, self.retry_after_s, self.body = path, status, pause_s, body

    def keep_failure(self, error: BaseException) -> None:
        """Keep the last reply as the one that ``error`` came from."""
        kept = (error, self.path, self.status, self.retry_after_s, self.body)
        self.failures = [*(self.failures or ()), kept]

    def recall_failure(self, error: BaseException) -> None:
        """Make the reply that ``error`` came from the last one; keep none any longer."""
        for kept, path, status, pause_s, body in self.failures or ():
            if kept is error:
                self.note_reply(path, status, pause_s, body)
        self.failures = None


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


@contextmanager
def keeping_failure() -> Iterator[None]:
    """Keep the reply to the one request sent inside with what ccxt makes of it, if that fails."""
    try:
        yield
    except Exception as error:
        call = current_call.get()
        if call is not None:
            call.keep_failure(error)
        raise
