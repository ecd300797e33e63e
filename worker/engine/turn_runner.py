"""Runs the turns that the ledger grants this worker, each in a task of its own."""

from collections.abc import Callable, Iterable
from typing import Final

from worker.engine.counting import count_end
from worker.engine.grants import Grants
from worker.engine.leases import Leases
from worker.engine.tasks import Tasks
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.ledger.turns import ApplyItem, Turn
from worker.ledger.words import Status
from worker.observe.metrics import Metrics
from worker.pipeline.custody import Custody
from worker.pipeline.settlement import Ending
from worker.runtime.clock import Clock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import LogSignal, bind_ids, get_logger
from worker.turns.follow import FollowOrders, Later, Over

log = get_logger()

#: A turn that an exception ended is due again after this.
FAILED_HOLD_MS: Final = 5_000
#: What a turn found out and Redis could not take is written again after this.
APPLY_PAUSE_S: Final = 0.1
#: Turns at the same time: this part of the worker's concurrency, and so many at least.
ROOM_PART, LEAST_ROOM = 4, 4


class TurnRunner:
    """Takes turns to their ends.

    Args:
        ledger: the Redis side.
        follow: takes the steps.
        grants: what is in hand.
        leases: gives turns back.
        tasks: the engine's.
        metrics: counts it all.
        clock: time.
        concurrency: how many entries the worker may have in hand.
        on_room: called when a turn is no longer in hand.
        on_fatal: called with a broken invariant.
        log_signal: logs the one line of every signal.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        follow: FollowOrders,
        grants: Grants,
        leases: Leases,
        tasks: Tasks,
        metrics: Metrics,
        clock: Clock,
        concurrency: int,
        on_room: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
        log_signal: LogSignal,
    ) -> None:
        self._ledger = ledger
        self._follow = follow
        self._grants = grants
        self._leases = leases
        self._tasks = tasks
        self._metrics = metrics
        self._clock = clock
        self._most = max(concurrency // ROOM_PART, LEAST_ROOM)
        self._on_room = on_room
        self._on_fatal = on_fatal
        self._log_signal = log_signal
        self.in_hand = 0

    @property
    def room(self) -> int:
        """Return how many more turns this worker may take."""
        return self._most - self.in_hand

    def take(self, turns: Iterable[Turn]) -> None:
        """Start work on granted turns, but for grants that are in hand already."""
        for turn in turns:
            if self._grants.knows(turn):
                continue
            self._metrics.turn_granted()
            self.in_hand += 1
            self._tasks.spawn(self._run(turn, self._grants.take(turn)))

    async def _run(self, turn: Turn, custody: Custody) -> None:
        bind_ids(entry_id=turn.entry_id)
        try:
            step = await self._follow.step(turn, custody)
            match step:
                case ApplyItem():
                    await self._apply(step, custody)
                case Over():
                    if await self._apply(step.item, custody):
                        self._count(turn, step.ending)
                case Later():
                    log.info("turn_put_off", turn=turn.entry_id, reason=step.reason)
                    await self._leases.give_back([custody], hold_ms=step.after_ms)
        except InvariantError as error:
            self._on_fatal(error)
        except Exception:
            log.exception("turn_failed", turn=turn.entry_id)
            self._metrics.turn_failed()
            await self._leases.give_back([custody], hold_ms=FAILED_HOLD_MS)
        finally:
            self._grants.let_go(custody)
            self.in_hand -= 1
            self._on_room()

    async def _apply(self, item: ApplyItem, custody: Custody) -> bool:
        """Write what a turn has found out, however long Redis takes while the turn is ours.

        Returns:
            Whether it is written.
        """
        while True:
            try:
                status = await self._ledger.apply(item)
            except LedgerUnavailableError:
                if custody.is_lost:
                    return False
                await self._clock.sleep(APPLY_PAUSE_S)
                continue
            if status is Status.CHANGED:
                log.info("turn_overtaken", turn=item.turn)
                await self._leases.give_back([custody])
            elif status is Status.FENCED:
                log.warning("turn_lost", turn=item.turn, token=item.token)
                self._metrics.fenced()
            return status is Status.COMMITTED

    def _count(self, turn: Turn, ending: Ending) -> None:
        """Count and log the end of a signal whose order rested."""
        (live, *_) = turn.orders
        elapsed_s = max(self._clock.now_ms() - live.row.placed_ms, 0) / 1000
        count_end(self._metrics, ending.outcome, ending, elapsed_s)
        line = {
            "signal_id": ending.item.signal,
            "entry_id": live.row.entry,
            "outcome": ending.outcome,
            "deliveries": turn.deliveries,
            "duration_ms": round(elapsed_s * 1000, 2),
            **ending.fields,
        }
        self._log_signal("signal_ended", line)
