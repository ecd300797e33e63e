"""Single safeguards switched off, each with what it protects from."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final
from unittest import mock

import msgspec

from tests.simulation import scenarios
from tests.simulation.exchange import SimulatedExchange
from tests.simulation.redis_account import SimulationServer
from tests.simulation.steps import Mutation
from tests.simulation.world import World
from worker.engine.grants import Grants
from worker.exchanges.ports import ExchangeAdapter, SendWindow
from worker.ledger.calls import RedisLedger
from worker.ledger.items import CommitItem
from worker.ledger.replies import Committed, Delivery
from worker.pipeline import execution, permissions
from worker.pipeline.custody import Custody
from worker.pipeline.flow import AdmittedOrder, Arrival, Failed, NeverSent, Postponed
from worker.pipeline.look_up import LookUp
from worker.pipeline.risk import RiskManagementHandler

Patch = Callable[[], AbstractContextManager[Any]]


class Mutant(msgspec.Struct, frozen=True, kw_only=True):
    """One safeguard less, and the scenario in which that breaks a promise."""

    name: str
    scenario: Callable[[SimulationServer, Mutation], World]
    patches: tuple[Patch, ...] = ()
    scripts: Mutation = {}

    def applied(self) -> ExitStack:
        """The patches in force until the returned stack is closed."""
        stack = ExitStack()
        for patch in self.patches:
            stack.enter_context(patch())
        return stack


def _resume_without_look_up() -> AbstractContextManager[Any]:
    original = RiskManagementHandler.resume

    def resume(self: RiskManagementHandler, *args: Any) -> AdmittedOrder | Postponed:
        order = original(self, *args)
        if isinstance(order, AdmittedOrder):
            return msgspec.structs.replace(order, sent_before=NeverSent())
        return order

    return mock.patch.object(RiskManagementHandler, "resume", resume)


def _believe_not_found_at_once() -> AbstractContextManager[Any]:
    original = LookUp.find

    async def find(
        self: LookUp,
        adapter: ExchangeAdapter,
        order: AdmittedOrder,
        custody: Custody,
        _after: float | None,
    ) -> Any:
        return await original(self, adapter, order, custody, None)

    return mock.patch.object(LookUp, "find", find)


def _requests_without_deadline() -> AbstractContextManager[Any]:
    original = SimulatedExchange.open_window

    def open_window(self: SimulatedExchange) -> SendWindow:
        return msgspec.structs.replace(original(self), valid_ms=10**9)

    return mock.patch.object(SimulatedExchange, "open_window", open_window)


def _outcome_apart_from_acknowledgement() -> AbstractContextManager[Any]:
    original = RedisLedger.commit

    async def commit(self: RedisLedger, items: Sequence[CommitItem]) -> list[Committed]:
        replies = await original(self, [msgspec.structs.replace(item, events=()) for item in items])
        for item in items:
            for stream, kind, identity, data in item.events:
                await self._scripts.run("announce", kind, identity, data, 1000, stream, item.signal)
        return replies

    return mock.patch.object(RedisLedger, "commit", commit)


def _refuse_without_looking() -> AbstractContextManager[Any]:
    def propose_look_up(
        _self: RiskManagementHandler, refused: Failed, _arrival: Arrival, _custody: Custody
    ) -> Failed:
        return refused

    return mock.patch.object(RiskManagementHandler, "propose_look_up", propose_look_up)


def _the_same_entry_twice() -> AbstractContextManager[Any]:
    def knows(_self: Grants, _delivery: Delivery) -> bool:
        return False

    return mock.patch.object(Grants, "knows", knows)


def _take_the_newer_token() -> AbstractContextManager[Any]:
    def knows(self: Grants, delivery: Delivery) -> bool:
        known = self._held.get(delivery.entry_id)
        if known is not None:
            known.token = max(known.token, delivery.token)
        return known is not None

    return mock.patch.object(Grants, "knows", knows)


#: Two safeguards meet an end that knows nothing of its entry's admission; this is the second.
_IGNORANT_ENDS: Final[Mutation] = {
    "commit": ("if known ~= '' and reservation == '' then return STATUS.FENCED end", "")
}

MUTANTS: Final = (
    Mutant(
        name="lease checked before sending",
        scenario=scenarios.cannot_renew,
        patches=(lambda: mock.patch.object(Custody, "covers", return_value=True),),
    ),
    Mutant(
        name="token fence in the scripts",
        scenario=scenarios.speaks_late_of_failure,
        scripts={
            "lib/fence": (
                "return entry and entry[ENTRY.WORKER] == worker and entry[ENTRY.TOKEN] == token",
                "return entry",
            ),
            **_IGNORANT_ENDS,
        },
    ),
    Mutant(
        name="look-up of what was delivered before",
        scenario=scenarios.dies_after_the_exchange_took_it,
        patches=(_resume_without_look_up,),
    ),
    Mutant(
        name="record before sending",
        scenario=scenarios.dies_after_the_exchange_took_it,
        scripts={"admit": ("  put_signal(id, fields[before + ADMIT.SIGNAL])\n", "")},
    ),
    Mutant(
        name="outcome and acknowledgement in one step",
        scenario=scenarios.dies_while_committing,
        patches=(_outcome_apart_from_acknowledgement,),
        scripts={
            "announce": ("append_event('system', ARGV[1], ARGV[2], ARGV[3], '')",
                         "append_event(ARGV[5] or 'system', ARGV[1], ARGV[2], "
                         "ARGV[3], ARGV[6] or '')")
        },
    ),
    Mutant(
        name="not found is proof only after the deadline",
        scenario=scenarios.lands_late,
        patches=(_believe_not_found_at_once,),
    ),
    Mutant(
        name="order within a group",
        scenario=scenarios.opens_and_closes,
        scripts={
            "lib/enter_groups": ("if before and entries[before] then", "if false then")
        },
    ),
    Mutant(
        name="deadline of every request",
        scenario=scenarios.stops_before_sending,
        patches=(_requests_without_deadline,),
    ),
    Mutant(
        name="permission to send grows old",
        scenario=scenarios.halted_on_the_way,
        patches=(
            lambda: mock.patch.object(execution, "PERMISSION_TTL_MS", float("inf")),
            lambda: mock.patch.object(permissions, "PERMISSION_TTL_MS", float("inf")),
        ),
    ),
    Mutant(
        name="limit on positions",
        scenario=scenarios.opens_more_than_allowed,
        scripts={
            "lib/account_limits": ("if held + add > most then", "if false then")
        },
    ),
    Mutant(
        name="a used signal id is recognised",
        scenario=scenarios.comes_twice,
        scripts={"admit": ("  if record then\n", "  if false then\n"),
                 "lib/used_signal_ids": ("  if not record then return STATUS.COMMITTED end\n",
                                  "  if true then return STATUS.COMMITTED end\n")},
    ),
    Mutant(
        name="look before refusing what may have been sent",
        scenario=scenarios.expired_but_traded,
        patches=(_refuse_without_looking,),
    ),
    Mutant(
        name="an entry in hand is not begun again",
        scenario=scenarios.found_before_handed_on,
        patches=(_the_same_entry_twice,),
    ),
    Mutant(
        name="an older grant is lost to a newer one",
        scenario=scenarios.is_granted_what_it_holds,
        patches=(_take_the_newer_token,),
        scripts=_IGNORANT_ENDS,
    ),
    Mutant(
        name="a refusal stands",
        scenario=scenarios.refused_then_asked_late,
        scripts={"admit": ("asked == token .. question", "false"), **_IGNORANT_ENDS},
    ),
    Mutant(
        name="an announcement is written once",
        scenario=scenarios.announces_twice,
        scripts={"announce": ("row[2][n + 1] == ARGV[2] then return 0 end",
                              "row[2][n + 1] == ARGV[2] then break end")},
    ),
)  # fmt: skip
