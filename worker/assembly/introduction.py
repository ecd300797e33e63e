"""A worker's introduction to its account, which must be stored in a format that it knows."""

from typing import Protocol

from worker.assembly.backing import Backing
from worker.engine.engine import ExecutionEngine
from worker.ledger.errors import LedgerError
from worker.ledger.stored_format import FORMAT
from worker.observe.health import Health
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: Between two tries to reach the account, doubled each time up to the longest, seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Parts(Protocol):
    """The parts of a worker that its introduction needs."""

    clock: Clock
    health: Health
    state: WorkerState
    engine: ExecutionEngine

    backing: Backing


async def introduce(worker: Parts) -> bool:
    """Bring the account up to this version's stored format, then introduce the engine to it.

    Nothing is taken from the account before, and nothing written to it.

    Returns:
        Whether that is done; False if the worker was told to stop before Redis could be asked.

    Raises:
        ConfigError: the account is stored in a newer format.
        OlderWorkersError: it is stored in an older one, with which workers may be at work.
    """
    pause_s = FIRST_PAUSE_S
    while not worker.state.draining:
        try:
            converted = await worker.backing.bring_up_to_date()
        except LedgerError as error:
            problem = str(error)
        else:
            if converted:
                log.info("format_converted", format=FORMAT, positions=converted)
            await worker.engine.introduce()
            return True
        worker.health.set("redis", ok=False, detail=problem)
        log.error("redis_unavailable", error=problem, retry_in_s=pause_s)
        await worker.clock.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    return False
