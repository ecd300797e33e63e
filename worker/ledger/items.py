"""What is asked of an admission and a commit, and how it travels to their scripts."""

from collections.abc import Iterable
from typing import Final

import msgspec

from worker.domain.event import EventText
from worker.ledger.stored import ADMITTED_RECORD, ENDED_RECORD, encode

#: Values in one argument: a script can take only so many apart at once.
VALUES_A_PART: Final = 2_048


class AdmitItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order's admission; amounts in millionths of the quote currency, 0 for no limit.

    ``only_look`` is for an order that may exist already and will not be sent: no limit stops it.
    """

    entry: str
    token: int
    signal: str
    digest: str
    exchange: str
    position_key: str
    action: str
    quote: str
    intent: str
    notional: int
    max_positions: int
    max_exposure: int
    max_loss: int
    max_rate: int
    only_look: bool = False

    def encode(self, worker: str) -> tuple[tuple[object, ...], list[bytes]]:
        """As ``admit.lua`` reads it: the fields by their place, and the beginning of the record."""
        fields = (
            self.entry,
            self.token,
            self.signal,
            self.digest,
            self.exchange,
            self.position_key,
            self.action,
            self.quote,
            self.notional,
            self.max_positions,
            self.max_exposure,
            self.max_loss,
            self.max_rate,
            self.only_look,
        )
        record = (self.entry, self.digest, self.signal, "ADMITTED", worker, self.intent)
        return fields, [ADMITTED_RECORD + encode(record)[1:]]


class CommitItem(msgspec.Struct, frozen=True, kw_only=True):
    """One entry's outcome; amounts in millionths of the quote currency.

    ``admitted_at`` and ``unresolved_since`` go into the record.
    ``reservation`` is ``opening`` or ``closing`` where admission reserved the position, else empty;
    ``exposure`` is the change against what was reserved or held before, ``reserved`` what of that
    the admission added.

    ``expires_ms`` is until when (Unix milliseconds) the signal says itself that it may be traded, 0
    if it says nothing: its record is kept until then at least.

    ``events`` are (stream, type, id, JSON), each with ``traceparent`` beside it where there is one.
    ``position`` None leaves the book alone, "" removes
    the position. ``dead`` is a flat list of fields and values: with it the entry's own fields go to
    the dead letter stream, byte for byte, these after them.
    """

    entry: str
    token: int
    signal: str = ""
    digest: str = ""
    state: str = ""
    outcome: str = ""
    admitted_at: int = 0
    unresolved_since: int = 0
    events: tuple[EventText, ...] = ()
    reservation: str = ""
    position_key: str = ""
    position: str | None = None
    quote: str = ""
    exposure: int = 0
    reserved: int = 0
    realized: int = 0
    dead: tuple[str, ...] | None = None
    traceparent: str = ""
    duplicate: bool = False
    take_next: bool = True
    expires_ms: int = 0

    def encode(self, worker: str) -> tuple[tuple[object, ...], list[bytes | str]]:
        """As ``commit.lua`` reads it: fields and heads of events by their place; record and JSON.

        The JSON travels as it is: whatever is taken apart exists twice in the server.
        """
        heads: list[str] = []
        data: list[str] = []
        for stream, kind, identity, text in self.events:
            heads += stream, kind, identity
            data.append(text)
        fields = (
            self.entry,
            self.token,
            self.signal,
            self.digest,
            self.reservation,
            self.position_key,
            self.position if self.position is not None else False,
            self.quote,
            self.exposure,
            self.reserved,
            self.realized,
            self.dead if self.dead is not None else False,
            self.traceparent,
            self.duplicate,
            self.take_next,
            self.expires_ms,
            len(data),
            *heads,
        )
        record = (
            self.entry,
            self.digest,
            self.signal,
            self.state,
            worker,
            "",
            self.admitted_at,
            self.unresolved_since,
            "",
            self.token,
            self.outcome,
        )
        return fields, [ENDED_RECORD + encode(record)[1:], *data]


def arguments(items: Iterable[AdmitItem | CommitItem], worker: str) -> list[bytes | str | int]:
    """Items as their scripts read them: how many arguments the fields take, these, all the rest."""
    values: list[object] = []
    rest: list[bytes | str] = []
    for item in items:
        fields, more = item.encode(worker)
        values += fields
        rest += more
    starts = range(0, len(values), VALUES_A_PART)
    parts = [_packed(values[start : start + VALUES_A_PART]) for start in starts]
    return [len(parts), *parts, *rest]


def _packed(values: list[object]) -> bytes:
    """Values one behind the other: what an array of them is without its first bytes."""
    return encode(values)[1 if len(values) < 16 else 3 :]
