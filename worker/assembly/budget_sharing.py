"""The budgets of requests of one worker, shared with the other workers over the ledger."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from worker.exchanges.budget.limits import Scope, Share
from worker.exchanges.budget.requests import BudgetMeter, RequestGate
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.errors import LedgerError
from worker.runtime.logger import get_logger

log = get_logger()


class Throttle(Protocol):
    """The ledger's call that keeps the fleet from asking an exchange."""

    async def throttle(self, exchange: str, pause_ms: int) -> int:
        """Keep the whole fleet from asking for ``pause_ms``."""


class SharedBudgets:
    """The gates of a worker's exchanges by the names under which workers share budgets.

    What the ledger's replies bring goes to the gates, and what an exchange tells one worker goes to
    the ledger, so that all others know it. Without Redis the last shares stay in force.
    """

    def __init__(self) -> None:
        self._gates: list[RequestGate] = []
        self._names: tuple[str, ...] = ()
        self._known: set[str] = set()
        self._last: dict[str, tuple[int, int]] = {}
        self._ledger: Throttle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(
        self, adapters: Iterable[ExchangeAdapter], ledger: Throttle, meter: BudgetMeter
    ) -> None:
        """Share the budgets of these exchanges from now on.

        Args:
            adapters: those without a gate are left out.
            ledger: takes the holds.
            meter: counts what goes through the gates.
        """
        self._ledger = ledger
        names: dict[str, None] = {}
        for adapter in adapters:
            gate = adapter.request_gate
            if gate is None:
                continue
            self._gates.append(gate)
            gate.meter = meter
            gate.on_refusal = self._report
            names |= dict.fromkeys(gate.names.values())
        self._names = tuple(names)

    def names(self) -> Sequence[str]:
        """Return the names of the budgets."""
        return self._names

    def learn_shares(self, shares: Mapping[str, tuple[int, int]]) -> None:
        """Take how many live workers use each budget, and this one's number among them.

        The first answer makes this worker known to the others, who hear of it with their own next
        heartbeat: until then it takes half of its part.
        """
        for gate in self._gates:
            for scope, name in gate.names.items():
                if name in shares:
                    # After Redis forgot the others, the first to come back would take all: a part
                    # grows only once a second heartbeat says so.
                    count, rank = max(shares[name], self._last.get(name, (0, 0)))
                    is_new = name not in self._known
                    gate.share(Scope(scope), Share(max(count, 1), rank, is_new))
        self._last.update(shares)
        self._known.update(shares)

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        """Take for how many milliseconds an exchange wants no request of a budget."""
        for gate in self._gates:
            for_ms = holds.get(gate.hold_name, 0.0)
            if for_ms > 0:
                gate.hold(for_ms)

    def _report(self, name: str, for_ms: float) -> None:
        task = asyncio.get_running_loop().create_task(self._tell(name, for_ms))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, name: str, for_ms: float) -> None:
        log.warning("exchange_held", budget=name, seconds=round(for_ms / 1000, 1))
        if self._ledger is None:
            return
        try:
            await self._ledger.throttle(name, max(1, int(for_ms)))
        except LedgerError as error:  # the others find out by themselves
            log.debug("hold_not_shared", budget=name, error=str(error))
