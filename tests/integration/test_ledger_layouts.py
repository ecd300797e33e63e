"""A worker and a script that disagree about a layout: refused before anything is written."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.integration.fleets import Fleet, admission, commit, fleet_on, outcome, take
from worker.ledger.errors import LedgerError
from worker.ledger.items import AdmitItem, CommitItem
from worker.ledger.layouts import ADMIT, ADMIT_PLAIN, COMMIT, COMMIT_PLAIN, EVENT, DeadLetterTail
from worker.ledger.replies import Delivery
from worker.runtime.embedded_server import EmbeddedServer

TAIL = DeadLetterTail(
    reason="malformed", error="no", entry_id="1-0", deliveries="1", worker="w1", at="now"
)


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


async def taken(fleet: Fleet, count: int) -> list[Delivery]:
    await fleet.send_all([f"group {number}" for number in range(count)])
    return await take(fleet["w1"], count)


def widened(columns: tuple[object, ...], fixed: int) -> tuple[object, ...]:
    """One more column after the fixed ones, as of a worker with another layout."""
    return (*columns[:fixed], "one more", *columns[fixed:])


def narrowed(columns: tuple[object, ...], fixed: int) -> tuple[object, ...]:
    """The last of the fixed columns less."""
    return (*columns[: fixed - 1], *columns[fixed:])


def change_encoding(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[AdmitItem | CommitItem],
    change: Callable[[tuple[object, ...], int], tuple[object, ...]],
    fixed: int,
) -> None:
    """Have every item of a kind encoded with other columns."""
    encode = kind.encode

    def encode_changed(self: Any, worker: str) -> Any:
        columns, texts = encode(self, worker)
        return change(columns, fixed), texts

    monkeypatch.setattr(kind, "encode", encode_changed)


@pytest.mark.parametrize("count", [1, 2, len(ADMIT) - 1, len(ADMIT)])
@pytest.mark.parametrize("change", [widened, narrowed])
async def test_an_admission_with_another_number_of_fields_is_refused(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, count: int, change: Any
) -> None:
    """Also for one order, and where the fields are as many as those of another number of orders."""
    deliveries = await taken(fleet, count)
    change_encoding(monkeypatch, AdmitItem, change, len(ADMIT_PLAIN))
    orders = [admission(one, f"s-{number}") for number, one in enumerate(deliveries)]
    problem = rf"admit: \d+ fields for {count} orders of {len(ADMIT)} each"
    with pytest.raises(LedgerError, match=problem):
        await fleet["w1"].admit(orders)
    assert await fleet.hash("book") == {}
    assert await fleet.record("s-0") is None


@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.parametrize("fixed", [1, len(COMMIT_PLAIN), len(COMMIT), len(COMMIT) + len(EVENT)])
@pytest.mark.parametrize("change", [widened, narrowed])
@pytest.mark.parametrize("dead", [None, TAIL])
async def test_an_outcome_with_another_number_of_fields_is_refused(
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    fixed: int,
    change: Any,
    dead: DeadLetterTail | None,
) -> None:
    """Of its own or of its event; with no event written and nothing acknowledged."""
    deliveries = await taken(fleet, count)
    change_encoding(monkeypatch, CommitItem, change, fixed)
    ends = [outcome(one, f"s-{number}", dead=dead) for number, one in enumerate(deliveries)]
    with pytest.raises(LedgerError, match="commit: "):
        await fleet["w1"].commit(ends)
    assert await fleet.stream("orders") == await fleet.stream("dead") == []
    assert len(await fleet.pending()) == count


class WiderTail(DeadLetterTail):
    """A dead letter with a seventh pair."""

    def pairs(self) -> list[str]:
        """The six pairs and one more."""
        return [*super().pairs(), "host", "h1"]


async def test_a_seventh_pair_in_a_dead_letter_is_refused(fleet: Fleet) -> None:
    """A replay would take a part of it for the entry's own."""
    (delivery,) = await taken(fleet, 1)
    with pytest.raises(LedgerError, match="a dead letter does not end with the fields"):
        await fleet["w1"].commit([outcome(delivery, dead=WiderTail(*TAIL))])
    assert await fleet.stream("dead") == []
    assert len(await fleet.pending()) == 1


async def test_a_dead_letter_with_another_end_is_not_replayed(fleet: Fleet) -> None:
    """What of it was the entry's own cannot be told; it stays as it is."""
    (delivery,) = await taken(fleet, 1)
    await commit(fleet["w1"], outcome(delivery, dead=TAIL))
    ((_, letter),) = await fleet.redis.xrange(fleet.key("dead"))
    other = await fleet.redis.xadd(fleet.key("dead"), letter | {b"host": b"h1"})
    with pytest.raises(LedgerError, match="a dead letter does not end with the fields"):
        await fleet["w1"]._scripts.run("replay", other, "", 1_000)
    assert len(await fleet.stream("dead")) == 2
    assert len(await fleet.redis.xrange("{main}:signals")) == 1


@pytest.mark.parametrize(
    ("name", "before"), [("authorize", ()), ("heartbeat", (15_000, "{}", "")), ("release", ())]
)
async def test_a_list_that_is_not_made_of_whole_items_is_refused(
    fleet: Fleet, name: str, before: tuple[Any, ...]
) -> None:
    """The last item would be read as something else."""
    (delivery,) = await taken(fleet, 1)
    earlier = await fleet.entry(delivery.entry_id)
    with pytest.raises(LedgerError, match=f"{name}: 5 arguments for "):
        await fleet["w1"]._scripts.run(
            name, "w1", *before, delivery.entry_id, delivery.token, 0, 0, 0
        )
    assert await fleet.entry(delivery.entry_id) == earlier
