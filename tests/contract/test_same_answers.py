"""Random calls of three workers: Redis and memory answer the same, call by call."""

from random import Random
from typing import Any

import pytest

from tests.contract.benches import Bench, MemoryBench, redis_bench, send
from tests.integration.fleets import admission, filled, outcome
from worker.domain.trading_state import TradingState
from worker.ledger.items import AdmitItem, CommitItem
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.replies import Admitted, Claim, Committed, Delivery
from worker.ledger.stored import EndedPart, OrderRow, encode_order, encode_record
from worker.ledger.turn_layouts import Rests
from worker.ledger.turns import ApplyItem, Turn
from worker.runtime.embedded_server import EmbeddedServer

WORKERS = ("w1", "w2", "w3")
CALLS = 250
HELD = '{"held": 1}'
DEAD = DeadLetterTail("malformed", "e", "1-1", "1", "w1", "")


class Story:
    """Calls drawn from a seed, made on one bench; whatever they answer is noted without times.

    The same seed draws the same calls for as long as the answers are the same.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self._bench = bench
        self._random = Random(seed)
        self._ledgers = {
            name: bench.ledger(name, max_waiting=6, max_group_waiting=2) for name in WORKERS
        }
        #: Every grant that was ever told, with whom it was told to: stale ones are used too.
        self._grants: list[tuple[str, Delivery]] = []
        self._turns: list[tuple[str, Turn]] = []
        self._ids: list[str] = []
        self._signals: dict[str, str] = {}
        self.answers: list[Any] = []

    async def run(self) -> list[Any]:
        """Make all calls; returns what was answered."""
        names = [name.removeprefix("do_") for name in dir(self) if name.startswith("do_")]
        weights = {"send": 6, "claim": 6, "admit": 8, "commit": 8, "apply": 3}
        chances = [weights.get(name, 1) for name in names]
        for _ in range(CALLS):
            (name,) = self._random.choices(names, chances)
            answer = await getattr(self, f"do_{name}")()
            self.answers.append((name, answer))
            self.answers.append(await self._kept())
        return self.answers

    # -- calls ---------------------------------------------------------------------------------

    async def do_send(self) -> int:
        action = self._random.choice(["open", "open", "close"])
        data = f'{{"exchange":"x","symbol":"A","action":"{action}"}}'
        self._ids += await send(self._bench, self._random.choice("abc"), data=data)
        return len(self._ids)

    async def do_claim(self) -> Any:
        worker = self._worker()
        room, turns = self._random.randint(0, 4), self._random.randint(0, 2)
        claim: Claim = await self._ledgers[worker].claim(room, turns=turns)
        more = claim.more, None if claim.more else self._number(claim.tail.decode())
        given = self._told(worker, claim.deliveries)
        return more, claim.vanished, given, self._turns_told(worker, claim.turns)

    async def do_admit(self) -> Any:
        worker, grants = self._some()
        if not grants:
            return None
        answers = await self._ledgers[worker].admit([self._admission(one) for one in grants])
        return [
            ("admitted", one.position, one.pause_ms > 0) if isinstance(one, Admitted) else one
            for one in answers
        ]

    async def do_commit(self) -> Any:
        worker, grants = self._some()
        if not grants:
            return None
        answers: list[Committed] = await self._ledgers[worker].commit(
            [self._end(one) for one in grants]
        )
        return [
            (one.status, self._told(worker, [one.following] if one.following else []))
            for one in answers
        ]

    async def do_expire(self) -> None:
        ids = [*self._ids, *(turn.entry_id for _, turn in self._turns)]
        if ids:
            await self._bench.expire(self._random.choice(ids))

    async def do_release(self) -> int:
        worker, grants = self._some()
        hold_ms, died = self._random.choice((0, 0, 60_000)), self._random.random() < 0.3
        released = await self._ledgers[worker].release(
            [(one.entry_id, one.token, hold_ms, died) for one in grants]
        )
        turns = [turn for name, turn in self._turns[-2:] if name == worker]
        return released + await self._ledgers[worker].release(
            [(turn.entry_id, turn.token, 0, False) for turn in turns]
        )

    async def do_apply(self) -> Any:
        if not self._turns:
            return None
        worker, turn = self._random.choice(self._turns[-4:])
        position = self._random.choice(("", HELD))
        (live, *_) = turn.orders
        is_over = self._random.random() < 0.6
        signal = live.row.signal
        end = EndedPart(entry=live.row.entry, signal=signal, state="FILLED", digest="d")
        item = ApplyItem(
            turn=turn.entry_id,
            token=turn.token,
            book=turn.book,
            position=position,
            signal=signal,
            client_order_id=live.row.client_order_id,
            exchange_key=live.row.exchange_key,
            row=None if is_over else live.row,
            due_ms=self._random.choice((0, 600_000)),
            quote="USDT",
            exposure=self._random.choice((0, -30)),
            realized=self._random.choice((0, 3)),
            record=encode_record(end),
            keep_ms=600_000,
            events=(("orders", "OrderFilled", f"{signal}-{len(self.answers)}", "{}"),),
        )
        return await self._ledgers[worker].apply(item)

    async def do_heartbeat(self) -> Any:
        worker, grants = self._some()
        held = [(one.entry_id, one.token) for one in grants]
        held += [(turn.entry_id, turn.token) for name, turn in self._turns[-2:] if name == worker]
        beat = await self._ledgers[worker].heartbeat(held, b"{}")
        return sorted(map(self._number, beat.lost)), beat.trading_state

    async def do_park(self) -> Any:
        worker, grants = self._some()
        event = ("OrderUnresolved", f"e-{len(self.answers)}", "{}")
        return [
            await self._ledgers[worker].park(
                one.entry_id, one.token, self._signal(one), self._random.choice((0, 60_000)), event
            )
            for one in grants[:1]
        ]

    async def do_adopt(self) -> Any:
        worker = self._worker()
        return self._told(worker, self._sorted(await self._ledgers[worker].adopt(50)))

    async def do_resync(self) -> Any:
        worker, grants = self._some()
        known = [one.entry_id for one in grants]
        known += [turn.entry_id for _, turn in self._turns[-1:]]
        found = await self._ledgers[worker].resync(known)
        entries = [one for one in found if isinstance(one, Delivery)]
        turns = sorted(
            (one for one in found if isinstance(one, Turn)), key=lambda turn: turn.entry_id
        )
        return self._told(worker, self._sorted(entries)), self._turns_told(worker, turns)

    async def do_authorize(self) -> Any:
        worker, grants = self._some()
        answers = [
            await self._ledgers[worker].authorize(one.entry_id, one.token, "x") for one in grants
        ]
        return [(one.held, one.trading_state, one.pause_ms > 0) for one in answers]

    async def do_state(self) -> None:
        state = self._random.choice([TradingState.ACTIVE] * 3 + list(TradingState))
        await self._bench.set_state(state)

    async def do_throttle(self) -> bool:
        return await self._ledgers["w1"].throttle("y", 600_000) > 0

    async def do_elect(self) -> Any:
        worker = self._worker()
        election = await self._ledgers[worker].elect(self._random.choice((0, 600_000)), worker)
        return election.elected, election.readiness_note

    async def do_sweep(self) -> Any:
        swept = await self._ledgers["w1"].sweep(600_000)
        return swept.orphans, swept.trimmed, swept.stranded, swept.oversize

    # -- drawing -------------------------------------------------------------------------------

    def _worker(self) -> str:
        return self._random.choice(WORKERS)

    def _some(self) -> tuple[str, list[Delivery]]:
        """A worker and a few grants, mostly its own and mostly of late."""
        worker = self._worker()
        if self._random.random() < 0.1:
            pool = [one for _, one in self._grants]
        else:
            pool = [one for name, one in self._grants if name == worker]
        pool = pool[-6:]
        count = min(self._random.randint(1, 3), len(pool))
        return worker, self._random.sample(pool, count)

    def _signal(self, delivery: Delivery) -> str:
        """The signal of an entry; some entries carry one that another has carried."""
        number = self._number(delivery.entry_id)
        return f"s-{number - number % 5 if number % 5 == 1 else number}"

    def _admission(self, delivery: Delivery) -> AdmitItem:
        number = self._number(delivery.entry_id)
        action = "close" if b'"close"' in delivery.fields.get(b"data", b"") else "open"
        return admission(
            delivery,
            self._signal(delivery),
            exchange="xy"[number % 2],
            action=action,
            position_key=f"x:{number % 4}",
            notional=100 if action == "open" else 0,
            max_positions=3,
            max_exposure=450,
            max_loss=self._random.choice((0, 60)),
            max_rate=self._random.choice((0, 40)),
            only_look=self._random.random() < 0.1,
            digest=self._random.choice(("d", "d", "d", "e")),
        )

    def _end(self, delivery: Delivery) -> CommitItem:
        number, signal = self._number(delivery.entry_id), self._signal(delivery)
        fields: dict[str, Any] = {"take_next": self._random.random() < 0.7, "digest": "d"}
        drawn = self._random.random()
        if drawn < 0.2:
            return outcome(delivery, signal, **fields)
        if drawn < 0.3:
            return outcome(delivery, signal, duplicate=True, dead=DEAD, events=(), **fields)
        position = self._random.choice((None, "", HELD, HELD))
        if drawn < 0.7:
            fields["rests"] = self._rests(delivery, f"x:{number % 4}", signal)
        return filled(
            delivery,
            signal,
            reservation=self._random.choice(("opening", "closing")),
            position_key=f"x:{number % 4}",
            position=position,
            exposure=self._random.choice((0, -100, 7)),
            reserved=self._random.choice((0, 50)),
            realized=self._random.choice((0, 5, -20)),
            **fields,
        )

    def _rests(self, delivery: Delivery, key: str, signal: str) -> Rests:
        row = OrderRow(
            client_order_id=f"c-{signal}",
            signal=signal,
            entry=str(self._number(delivery.entry_id)),
            role="entry",
            position_key=key,
            state="ACTIVE",
            exchange_order_id=f"e-{signal}",
            request="{}",
            attempts=1,
            placed_ms=0,
        )
        due_ms = self._random.choice((0, 0, 600_000))
        return Rests(row.client_order_id, row.exchange_key, encode_order(row), due_ms)

    # -- noting --------------------------------------------------------------------------------

    def _number(self, entry_id: str) -> int:
        return self._ids.index(entry_id) if entry_id in self._ids else -1

    def _sorted(self, deliveries: list[Delivery]) -> list[Delivery]:
        """In the order of the stream: the ledgers' order is that of milliseconds."""
        return sorted(deliveries, key=lambda one: self._number(one.entry_id))

    def _told(self, worker: str, deliveries: list[Delivery]) -> list[Any]:
        """What was granted, in words that both sides must share."""
        self._grants += [(worker, one) for one in deliveries]
        return [
            (
                self._number(one.entry_id),
                one.token,
                one.deliveries,
                one.is_surplus,
                one.overdue_ms > 0,
                one.fields,
                one.record and (one.record.state, one.record.digest, one.record.position),
            )
            for one in deliveries
        ]

    def _turns_told(self, worker: str, turns: list[Turn]) -> list[Any]:
        self._turns += [(worker, turn) for turn in turns]
        return [
            (
                turn.entry_id,
                turn.deliveries,
                turn.overdue_ms > 0,
                turn.book,
                [(live.row, live.record.state, live.cancel) for live in turn.orders],
            )
            for turn in turns
        ]

    async def _kept(self) -> Any:
        """What the account says of itself after a call."""
        numbers = await self._ledgers["w1"].account()
        events = [
            [(one[b"type"], one[b"id"], one[b"subject"]) for one in await self._bench.stream(name)]
            for name in ("orders", "positions", "system")
        ]
        letters = [one[b"reason"] for one in await self._bench.stream("dead")]
        sums = {quote: amount for quote, amount in numbers.exposure.items() if amount}
        return (
            sums,
            {quote: amount for quote, amount in numbers.realized.items() if amount},
            (numbers.open_positions, numbers.unresolved, numbers.lag, numbers.pending),
            (numbers.leases, numbers.waiting_part, numbers.fullest_part, numbers.fullest_group),
            await self._bench.rows(),
            events,
            letters,
        )


@pytest.mark.parametrize("seed", range(12))
async def test_both_ledgers_answer_the_same(one_server: EmbeddedServer, seed: int) -> None:
    """Whatever is called in whatever order, each answer and all that is kept are the same."""
    async with redis_bench(one_server.url) as bench:
        in_redis = await Story(bench, seed).run()
    assert len(in_redis) == 2 * CALLS
    in_memory = await Story(MemoryBench(), seed).run()
    for number, (expected, found) in enumerate(zip(in_redis, in_memory, strict=True)):
        assert found == expected, f"call {number // 2}: {in_redis[: number + 1][-6:]}"
