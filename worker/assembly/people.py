"""The keeper's duties towards people: carry out what they ask for, watch what they change."""

from functools import partial

from worker.config.keys import Config
from worker.keeper.duties.correct import CarryOutCorrections
from worker.keeper.duties.end_flatten import EndFlatten
from worker.keeper.duties.watch import WatchPeople
from worker.keeper.duty import Duty
from worker.ledger.access import Access
from worker.ledger.calls import Ledger
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.scripts import Scripts
from worker.ledger.watching import watch
from worker.operator.trading import Trading
from worker.runtime.clock import Clock


def duties_to_people(
    config: Config, access: Access, scripts: Scripts, ledger: Ledger, clock: Clock
) -> tuple[Duty, Duty, Duty]:
    """Return them, for one account."""
    length = config.redis.output_max_length
    calls = OperatorCalls(scripts, output_length=length)
    silent_after_ms = int(config.worker.lease_seconds * 1000)
    return (
        CarryOutCorrections(calls, account=config.account, clock=clock),
        WatchPeople(
            partial(watch, scripts),
            ledger,
            account=config.account,
            output_length=length,
            clock=clock,
        ),
        EndFlatten(Trading(access, calls, clock=clock, silent_after_ms=silent_after_ms)),
    )
