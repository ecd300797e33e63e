"""The keeper's duties towards people: carry out what they ask for, watch what they change."""

from worker.assembly.backing import Backing
from worker.config.keys import Config
from worker.keeper.duties.correct import CarryOutCorrections
from worker.keeper.duties.end_flatten import EndFlatten
from worker.keeper.duties.watch import WatchPeople
from worker.keeper.duty import Duty
from worker.operator.trading import Trading
from worker.runtime.clock import Clock


def duties_to_people(config: Config, backing: Backing, clock: Clock) -> tuple[Duty, Duty, Duty]:
    """Return them, for one account."""
    silent_after_ms = int(config.worker.lease_seconds * 1000)
    return (
        CarryOutCorrections(backing.corrections, account=config.account, clock=clock),
        WatchPeople(
            backing.watch,
            backing.ledger,
            account=config.account,
            output_length=config.redis.output_max_length,
            clock=clock,
        ),
        EndFlatten(Trading(backing.trading, clock=clock, silent_after_ms=silent_after_ms)),
    )
