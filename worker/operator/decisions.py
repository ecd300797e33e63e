"""What only a person can know: what became of an order in doubt, what is really held."""

from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.event import (
    CloseReason,
    EventText,
    Header,
    Severity,
    SystemError,  # noqa: A004 (its public name)
    encode,
    share,
)
from worker.domain.identity import event_id
from worker.domain.limits import millionths, millionths_signed
from worker.domain.money import text
from worker.domain.position import Position, correct_position
from worker.domain.position_events import changed, closed
from worker.domain.verdict import Verdict
from worker.ledger.access import Access
from worker.ledger.errors import map_exceptions
from worker.ledger.scripts import Scripts
from worker.ledger.stored import read_place
from worker.runtime.clock import Clock, utc
from worker.runtime.errors import WorkerError

_decode_position: Final = msgspec.json.Decoder(Position).decode
_encode: Final = msgspec.json.Encoder().encode


class DecisionError(WorkerError):
    """What was decided cannot be so; the message says why."""


class Decisions:
    """Written down with who decided and why, on the stream ``system``.

    Args:
        access: the account.
        scripts: how scripts are run.
        clock: the events' time.
        output_length: about how many entries an output stream keeps.
    """

    def __init__(
        self, access: Access, scripts: Scripts, *, clock: Clock, output_length: int
    ) -> None:
        self._access = access
        self._scripts = scripts
        self._clock = clock
        self._output_length = output_length

    async def decide(self, signal_id: str, verdict: Verdict) -> None:
        """Say what became of a signal's unresolved order.

        The account's keeper acts on it the next time it asks the exchange, unless the exchange
        tells something else then.

        Raises:
            DecisionError: no order of this signal is unresolved.
            LedgerError: Redis cannot be asked.
        """
        became = "is not there"
        if verdict.filled:
            became = f"filled {text(verdict.filled)} at {text(verdict.price)}"
        _, kind, identity, data = self._audit(
            "ORDER_DECIDED",
            f"{verdict.actor} decided that the order of {signal_id} {became}: {verdict.reason}",
            f"{signal_id}-{self._clock.now_ms()}",
            self._header(signal_id),
        )
        said = await self._scripts.run(
            "decide", signal_id, _encode(verdict), kind, identity, data, self._output_length
        )
        if said == b"decided":
            return
        if not said:
            raise DecisionError(f"no order of signal {signal_id} is known")
        if said == b"LOST":
            raise DecisionError(
                f"the admission of signal {signal_id} was lost with a primary: nothing can be "
                "decided of its order; cancel or close it on the exchange, which tells it then"
            )
        raise DecisionError(
            f"the order of signal {signal_id} is not unresolved: it is {said.decode()}"
        )

    async def correct(
        self,
        exchange: str,
        symbol: str,
        *,
        quantity: Decimal,
        price: Decimal,
        actor: str,
        reason: str,
    ) -> tuple[Position, Position]:
        """Make a position in the book what it really is.

        Args:
            exchange: whose.
            symbol: as signals spell it.
            quantity: what is held, base units; 0 for nothing.
            price: at which the difference traded, quote units.
            actor: who says so.
            reason: why, for whoever looks next.

        Returns:
            The position before and after.

        Raises:
            DecisionError: there is no such position, a signal is working on it, or it changed.
            LedgerError: Redis cannot be asked.
        """
        place = f"{exchange}:{symbol}"
        raw = await self._position(place)
        before = _decode_position(raw)
        if quantity == before.quantity:
            raise DecisionError(f"the book has {text(quantity)} of {symbol} on {exchange} already")
        after, realized = correct_position(before, quantity, price)
        header = self._header(before.signal_id, before)
        now_ms = self._clock.now_ms()
        subject = f"{before.position_id}-{now_ms}"
        if quantity:
            event = encode(
                changed(after, realized, f"corrected by {actor}: {reason}"),
                event_id(subject, "corrected"),
                header,
            )
        else:
            told = closed(after, utc(now_ms), CloseReason.EXTERNAL)
            event = encode(told, event_id(subject, "closed"), header)
        audit = self._audit(
            "POSITION_CORRECTED",
            f"{actor} corrected {symbol} on {exchange} from {text(before.quantity)} to "
            f"{text(quantity)}, traded at {text(price)}: {reason}",
            subject,
            header,
        )
        said = await self._scripts.run(
            "correct",
            place,
            raw,
            _encode(after) if quantity else b"",
            symbol.partition("/")[2].partition(":")[0],
            millionths(after.cost) - millionths(before.cost),
            millionths_signed(realized),
            *event[1:],
            *audit[1:],
            before.signal_id,
            self._output_length,
        )
        if said == b"busy":
            raise DecisionError(f"a signal is working on {symbol} on {exchange}: try again")
        if said == b"changed":
            raise DecisionError(
                f"the position in {symbol} on {exchange} has just changed: look at it again"
            )
        return before, after

    async def _position(self, place: str) -> bytes:
        (raw,) = await self._access.ask(("HGET", self._access.key("book"), place))
        with map_exceptions():
            if isinstance(raw, Exception):
                raise raw
        position = read_place(raw).position if raw else b""
        if not position:
            raise DecisionError(f"the book has no position {place.replace(':', ' ', 1)}")
        return position

    def _audit(self, code: str, sentence: str, subject: str, header: str) -> EventText:
        event = SystemError(
            component="operator", code=code, reason=sentence, severity=Severity.WARNING
        )
        return encode(event, event_id(subject, code.lower()), header)

    def _header(self, signal_id: str, position: Position | None = None) -> str:
        return share(
            Header(
                occurred_at=utc(self._clock.now_ms()),
                account=self._access.account,
                exchange=position.exchange if position else "",
                symbol=position.symbol if position else "",
                signal_id=signal_id,
                strategy_id=position.strategy_id if position else None,
                worker="",
            )
        )
