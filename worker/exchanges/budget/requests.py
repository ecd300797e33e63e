"""The gate before every request to one exchange: its budget, its order of turns, its holds."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from worker.exchanges.budget.bucket import Bucket, Charges
from worker.exchanges.budget.classes import PATIENCE_S, RequestClass
from worker.exchanges.budget.holds import PROBE_MS, Holds
from worker.exchanges.budget.limits import Decaying, Limit, Scope, Share
from worker.exchanges.budget.line import Line, Ticket, count
from worker.exchanges.budget.tables import Told
from worker.exchanges.errors import Outcome, RateLimitError
from worker.runtime.clock import Clock

#: The code of errors about requests that were not sent because the budget has no room for them.
BUDGET_CODE: Final = "request_budget"
#: Background asking takes at most this part of a limit.
BACKGROUND_PART: Final = 0.05
#: A place in line is kept this long after its turn should have come, milliseconds.
_KEPT_MS: Final = 2_000.0
#: An order that took its turn after a hold and is not sent by then is no probe, milliseconds.
_TAKEN_MS: Final = 1_000.0
#: The line is looked at again at least this often, milliseconds.
_LOOK_AGAIN_MS: Final = 1_000.0
#: Orders paid for that have not been sent yet; the oldest are forgotten.
_MAX_PAID: Final = 1_000
#: After a hold the workers probe one after the other, milliseconds; from this one on together.
_PROBE_EVERY_MS: Final = 1_000.0
_LAST_PROBE: Final = 5
_OWN: Final = "own_orders"


class BudgetMeter(Protocol):
    """Counts what goes through the gate; metrics in production."""

    def budget_used(self, exchange: str, request_class: str, part: float) -> None:
        """Add a request's cost, as a part of the tightest limit's maximum."""

    def budget_waited(self, exchange: str, request_class: str, seconds: float) -> None:
        """Note how long a request waited for its turn."""


class RequestGate:
    """One exchange's budget in this worker; every request passes it before it is signed.

    Args:
        name: the exchange's, for messages.
        limits: by name.
        clock: time.
        orders_per_second: what this worker allows itself; 0 for no such limit.
        key: name of the API key's budget; workers with the same one divide it.
        bans_addresses: whether the exchange bans the address, and so all keys behind it.

    Attributes:
        meter: counts, once it is set.
        on_refusal: told the budget's name and for how long the exchange wants nothing, ms.
    """

    def __init__(
        self,
        name: str,
        limits: Mapping[str, Limit],
        clock: Clock,
        *,
        orders_per_second: float = 0.0,
        key: str = "",
        bans_addresses: bool = False,
    ) -> None:
        own: dict[str, Limit] = {}
        if orders_per_second:
            most = max(1.0, orders_per_second)
            own[_OWN] = Decaying(maximum=most, per_second=orders_per_second, scope=Scope.WORKER)
        self._name = name
        self._clock = clock
        self._own: Charges = ((_OWN, 1.0),) if own else ()
        self._bucket = Bucket({**limits, **own}, clock.monotonic_ms())
        self.holds = Holds(clock)
        self.meter: BudgetMeter | None = None
        self.on_refusal: Callable[[str, float], None] | None = None
        #: The names under which workers share what is counted by key and by address.
        self.names = {Scope.KEY: key or name, Scope.ADDRESS: name}
        self.hold_name = name if bans_addresses else self.names[Scope.KEY]
        self._probe_delay_ms = 0.0
        self._line = Line()
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._paid: dict[str, None] = {}
        #: What operations have cost so far, by limit.
        self._spent: dict[str, dict[str, float]] = {}

    # -- requests ---------------------------------------------------------------------------------

    async def enter(
        self,
        request_class: RequestClass,
        charges: Charges,
        *,
        within_s: float | None = None,
        operation: str = "",
    ) -> None:
        """Wait for a request's turn and charge it.

        Args:
            request_class: its class.
            charges: what it costs.
            within_s: how long it may wait, seconds; by its class if None.
            operation: whose cost :meth:`spent` is to have.

        Raises:
            RateLimitError: its turn does not come in time; nothing is sent.
        """
        if operation:
            sums = self._spent.setdefault(operation, {})
            for name, cost in charges:
                sums[name] = sums.get(name, 0.0) + cost
        wait_ms = self._first_wait_ms(request_class, charges)
        if not wait_ms:
            self._spend(request_class, charges, 0.0)
            return
        patience_s = PATIENCE_S[request_class] if within_s is None else within_s
        if wait_ms > patience_s * 1000:
            raise self._too_late(wait_ms)
        began_ms = self._clock.monotonic_ms()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = self._line.stand(request_class, charges, turn=turn)
        ticket.due_ms = began_ms + patience_s * 1000
        self._look()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.failed()  # its turn came, and nothing is sent
            raise
        finally:
            if ticket in self._line:
                self._line.remove(ticket)
        self._note(request_class, charges, self._clock.monotonic_ms() - began_ms)

    # -- orders -----------------------------------------------------------------------------------

    def take_turn(
        self,
        key: str,
        request_class: RequestClass,
        charges: Charges,
        within_ms: float,
        cover: Charges = (),
    ) -> float:
        """Take an order's turn if it has come, and keep its place in line if not.

        Args:
            key: the order's own, by which it is known when it asks again.
            request_class: its class.
            charges: what sending it costs.
            within_ms: how long it may wait; a later turn is not kept.
            cover: what has to fit behind it.

        Returns:
            0 if the turn is taken and paid for, else milliseconds after which to ask again.
        """
        if key and key in self._paid and not self.holds.wait_ms():
            return 0.0
        charges = (*charges, *self._own)
        now_ms = self._clock.monotonic_ms()
        self._drop_lapsed(now_ms)  # its own place may be over, too
        ticket = self._line.find(key)
        wait_ms = self._wait_ms(request_class, charges, cover, ticket, now_ms)
        if not wait_ms:
            if ticket is not None:
                self._line.remove(ticket)
                self._news.set()
            self._spend(request_class, charges, 0.0, probe_ms=_TAKEN_MS)
            while len(self._paid) >= _MAX_PAID:
                del self._paid[next(iter(self._paid))]
            if key:
                self._paid[key] = None
            return 0.0
        if wait_ms > within_ms:
            if ticket is not None:
                self._line.remove(ticket)
            return wait_ms
        if ticket is None:
            ticket = self._line.stand(request_class, charges, key=key)
        ticket.due_ms = now_ms + wait_ms + _KEPT_MS
        return wait_ms

    def send_order(self, key: str, request_class: RequestClass, charges: Charges) -> None:
        """Let an order go now: it has been paid for, or is charged without waiting.

        Raises:
            RateLimitError: the exchange wants nothing at all for now; nothing is sent.
        """
        held_ms = self.holds.held_ms()
        if held_ms:
            raise self._too_late(held_ms)
        if key in self._paid:
            del self._paid[key]
        else:
            self._spend(request_class, (*charges, *self._own), 0.0)
        self.holds.sent()

    # -- what is learnt ---------------------------------------------------------------------------

    def told(self, told: Told) -> None:
        """Note what a reply tells of a limit."""
        now_ms = self._clock.monotonic_ms()
        self._bucket.tell(told.name, told.used, now_ms, now_ms + told.ends_in_ms)

    def relimit(self, limits: Mapping[str, Limit]) -> None:
        """Put other limits in the place of those of the same names."""
        self._bucket.relimit(limits)
        self._news.set()

    def fill(self, *names: str) -> None:
        """Note that the exchange says these limits are used up."""
        self._bucket.fill(names, self._clock.monotonic_ms())

    def share(self, scope: Scope, share: Share) -> None:
        """Set this worker's part of every limit of ``scope``."""
        if self.names.get(scope) == self.hold_name:
            # Workers that share a hold do not probe at its end all at once.
            self._probe_delay_ms = min(share.rank, _LAST_PROBE) * _PROBE_EVERY_MS
        self._bucket.share(scope, share)
        self._news.set()

    def hold(self, for_ms: float) -> None:
        """Send nothing for so long, then one request by itself."""
        self.holds.hold(for_ms + self._probe_delay_ms)
        self._news.set()

    def refused(self, for_s: float) -> None:
        """Note that the exchange refused a request for rate and wants none for so long, seconds."""
        self.holds.refused(for_s * 1000)
        self.hold(for_s * 1000)
        if self.on_refusal is not None:
            self.on_refusal(self.hold_name, for_s * 1000)

    def answered(self) -> None:
        """Note that the exchange has answered a request without refusing it for rate."""
        if self.holds.answered():
            self._news.set()

    def failed(self) -> None:
        """Note that a request ended without any answer of the exchange."""
        if self.holds.failed():
            self._news.set()

    def spent(self, operation: str) -> Mapping[str, float]:
        """Return what an operation has cost so far, by limit."""
        return dict(self._spent.get(operation, {}))

    def interval_s(
        self, operation: str, before: Mapping[str, float], part: float = BACKGROUND_PART
    ) -> float:
        """Return how rarely to do again what the operation has cost since ``before``, seconds.

        Args:
            operation: its name.
            before: what :meth:`spent` said.
            part: of every limit that it may take in the long run.
        """
        sums = self._spent.get(operation, {})
        charges = tuple((name, cost - before.get(name, 0.0)) for name, cost in sums.items())
        return self._bucket.interval_s(charges, part, self._clock.monotonic_ms())

    def used(self) -> float:
        """Return the part that is used of the limit that is used most."""
        return self._bucket.used(self._clock.monotonic_ms())

    async def close(self) -> None:
        """Let nobody wait any longer; idempotent."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])
        for ticket in self._line:
            if ticket.turn is not None and not ticket.turn.done():
                ticket.turn.set_exception(self._too_late(_LOOK_AGAIN_MS))
        self._line.clear()

    # -- inside -----------------------------------------------------------------------------------

    def _first_wait_ms(self, request_class: RequestClass, charges: Charges) -> float:
        now_ms = self._clock.monotonic_ms()
        return self._wait_ms(request_class, charges, (), None, now_ms)

    def _wait_ms(
        self,
        request_class: RequestClass,
        charges: Charges,
        cover: Charges,
        ticket: Ticket | None,
        now_ms: float,
    ) -> float:
        """Return how long until a request's turn, behind all that stand before it in line."""
        held_ms = self.holds.wait_ms()
        ahead: dict[str, float] = {}
        if self._line:
            rank = ticket.rank if ticket is not None else self._line.last_rank(request_class)
            self._drop_lapsed(now_ms)
            ahead = self._line.before(rank)
        wait_ms = self._bucket.wait_ms(
            charges, request_class, now_ms, ahead=ahead or None, cover=cover
        )
        return max(held_ms, wait_ms)

    def _drop_lapsed(self, now_ms: float) -> None:
        """Forget orders that did not come back, and give up requests that waited too long."""
        for ticket in self._line.lapsed(now_ms):
            if ticket.turn is not None and not ticket.turn.done():
                ticket.turn.set_exception(self._too_late(_LOOK_AGAIN_MS))

    def _look(self) -> None:
        """Have the line looked at now, by a task that ends once nobody waits in it."""
        self._news.set()
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(
                self._let_in(), name=f"request-gate:{self._name}"
            )

    async def _let_in(self) -> None:
        while any(one.turn is not None for one in self._line):
            self._news.clear()
            wait_ms = self._let_in_now()
            if wait_ms <= 0:
                continue
            sleeper = asyncio.ensure_future(
                self._clock.sleep(min(max(wait_ms, 1.0), _LOOK_AGAIN_MS) / 1000)
            )
            news = asyncio.ensure_future(self._news.wait())
            try:
                await asyncio.wait({sleeper, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeper.cancel()
                news.cancel()

    def _let_in_now(self) -> float:
        """Let in whose turn it is; return the milliseconds until somebody else's may be."""
        now_ms = self._clock.monotonic_ms()
        self._drop_lapsed(now_ms)
        soonest = _LOOK_AGAIN_MS
        ahead: dict[str, float] = {}
        for ticket in list(self._line):
            wait_ms = self.holds.wait_ms()
            if not wait_ms:
                wait_ms = self._bucket.wait_ms(
                    ticket.charges, RequestClass(ticket.rank[0]), now_ms, ahead=ahead or None
                )
            if ticket.turn is not None and not wait_ms:
                self._line.remove(ticket)
                if not ticket.turn.done():
                    self._bucket.add(ticket.charges, now_ms)
                    self.holds.sent()
                    ticket.turn.set_result(None)
                continue
            if wait_ms:
                soonest = min(soonest, wait_ms)
            if ticket.due_ms:
                soonest = min(soonest, ticket.due_ms - now_ms)
            count(ticket.charges, ahead)
        return max(soonest, 0.5)

    def _spend(
        self,
        request_class: RequestClass,
        charges: Charges,
        waited_ms: float,
        *,
        probe_ms: float = PROBE_MS,
    ) -> None:
        self._bucket.add(charges, self._clock.monotonic_ms())
        if self.holds.is_probing:
            self.holds.sent(probe_ms)
        self._note(request_class, charges, waited_ms)

    def _note(self, request_class: RequestClass, charges: Charges, waited_ms: float) -> None:
        if self.meter is not None:
            label = request_class.label
            self.meter.budget_used(self._name, label, self._bucket.part(charges))
            self.meter.budget_waited(self._name, label, waited_ms / 1000)

    def _too_late(self, wait_ms: float) -> RateLimitError:
        return RateLimitError(
            f"{self._name}: nothing was sent, the request budget has no room for "
            f"{wait_ms / 1000:.1f} s",
            outcome=Outcome.THROTTLED,
            code=BUDGET_CODE,
            retry_after_s=wait_ms / 1000,
        )
