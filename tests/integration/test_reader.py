"""What the commands read of an account is what the workers wrote, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from tests.integration.fleets import admit_one, commit_one, limit_rows
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.position import Position
from worker.domain.signal import Direction
from worker.domain.trading_state import TradingState
from worker.ledger.access import STREAMS
from worker.ledger.calls import RedisLedger
from worker.ledger.errors import LedgerError, LedgerRefusedError
from worker.ledger.items import AdmitItem, CommitItem, RecordEnd
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.scripts import RedisScripts
from worker.ledger.streams import SubmissionError
from worker.operator.attention import needs_attention
from worker.operator.dead_letters import DeadLetterError
from worker.operator.history import History
from worker.operator.reader import AccountReader
from worker.operator.status import Status
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer


class Account:
    """An account seen from both sides: a worker's ledger, and the reader."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.config = Config(redis=RedisConfig(url=Secret(server.url)))
        self.reader = AccountReader(self.config)
        self.redis: Any = Redis.from_url(server.url)
        self.ledger = RedisLedger(
            RedisScripts(self.reader.access.connections, signals="{main}:signals"),
            clock=SystemClock(),
            worker="w1",
            lease_ms=15_000,
        )

    async def submit(self, *payloads: dict[str, Any], key: str = "") -> list[str]:
        group = {"key": key.encode()} if key else {}
        return await self.reader.submit(
            [{"data": msgspec.json.encode(payload), **group} for payload in payloads]
        )

    async def end(self, signal_id: str, *, kind: str = "OrderFilled", dead: str = "") -> None:
        """Take the next entry and end it with one event, or as a dead letter."""
        delivery = (await self.ledger.claim(1)).deliveries[0]
        event = {"type": kind, "event_id": f"{signal_id}-end", "signal_id": signal_id}
        data = msgspec.json.encode(event).decode()
        tail = DeadLetterTail(
            reason=dead,
            error="data: why",
            entry_id=delivery.entry_id,
            deliveries="1",
            worker="w1",
            at="2026-01-01T00:00:00Z",
        )
        await commit_one(
            self.ledger,
            CommitItem(
                entry=delivery.entry_id,
                token=delivery.token,
                signal="" if dead else signal_id,
                digest="d",
                record=RecordEnd(state="FILLED", outcome='{"state":"FILLED"}'),
                events=() if dead else (("orders", kind, f"{signal_id}-end", data),),
                dead=tail if dead else None,
                duplicate=bool(dead),
                take_next=False,
            ),
        )

    async def admit(self, signal_id: str, symbol: str = "BTC/USDT") -> tuple[str, int]:
        """Take the next entry and reserve its place."""
        delivery = (await self.ledger.claim(1)).deliveries[0]
        intent = {"signal": {"exchange": "paper", "symbol": symbol, "signal_id": signal_id}}
        await admit_one(
            self.ledger,
            AdmitItem(
                entry=delivery.entry_id,
                token=delivery.token,
                signal=signal_id,
                digest="d",
                exchange="paper",
                position_key=f"paper:{symbol}",
                action="open",
                plan=msgspec.json.encode(intent).decode(),
                notional=5_000_000,
                limits=limit_rows(positions=10),
            ),
        )
        return delivery.entry_id, delivery.token


@pytest.fixture
async def account(server: EmbeddedServer) -> AsyncIterator[Account]:
    account = Account(server)
    yield account
    await account.reader.close()
    await account.redis.aclose()


async def test_an_account_nobody_has_used_is_a_good_day(account: Account) -> None:
    """Without a single key the status is ACTIVE, zero everywhere; nobody works, and that is all."""
    status = await account.reader.status()
    assert status.trading_state is TradingState.ACTIVE
    assert (status.lag, status.pending, status.in_flight, status.waiting) == (0, 0, 0, 0)
    assert not status.group_exists
    assert [(one.code, one.severity) for one in needs_attention(status)] == [("NO_WORKER", "info")]


async def test_flow_numbers_tell_unseen_from_leased_from_waiting(account: Account) -> None:
    """Of four signals in one group and one unread: one leased, three waiting, one unseen."""
    await account.ledger.ensure_group()
    await account.submit(*({"n": n} for n in range(4)), key="g")
    await account.ledger.claim(4)
    await account.submit({"n": 4}, key="g")
    status = await account.reader.status()
    assert (status.pending, status.in_flight, status.waiting, status.lag) == (4, 1, 3, 1)
    assert status.oldest_pending_age_ms is not None
    assert status.oldest_unseen_age_ms is not None
    assert status.oldest_pending_age_ms >= status.oldest_unseen_age_ms
    assert status.stream_length == 5


async def test_lag_is_counted_where_the_server_has_lost_it(account: Account) -> None:
    """After XDEL of an unread entry the server's lag is null; the true number is reported."""
    await account.ledger.ensure_group()
    ids = await account.submit(*({"n": n} for n in range(5)), key="g")
    await account.ledger.claim(1)
    await account.redis.xdel("{main}:signals", ids[2])
    groups = await account.redis.xinfo_groups("{main}:signals")
    assert groups[0]["lag"] is None
    assert (await account.reader.status()).lag == 3


async def test_without_a_group_everything_is_unseen(account: Account) -> None:
    """Before the first worker has run, every entry counts as unseen and needs attention."""
    await account.submit({"n": 0}, {"n": 1})
    status = await account.reader.status()
    assert status.lag == 2
    (gravest, *_) = needs_attention(status)
    assert (gravest.code, gravest.severity) == ("NO_WORKER", "critical")
    assert gravest.text == "no worker is alive and 2 signals wait"


async def test_an_unresolved_order_is_named(account: Account) -> None:
    """A parked order is listed with its signal, market and age, and comes first."""
    await account.ledger.ensure_group()
    await account.submit({"signal_id": "s1"})
    entry, token = await account.admit("s1", "ETH/USDT")
    await account.ledger.park(entry, token, "s1", 60_000, ("SystemError", "e1", "{}"))
    status = await account.reader.status()
    assert [(one.signal_id, one.exchange, one.symbol) for one in status.unresolved] == [
        ("s1", "paper", "ETH/USDT")
    ]
    assert (status.in_flight, status.waiting, status.pending, status.opening) == (0, 0, 1, 1)
    gravest, order = needs_attention(status)[:2]
    assert gravest.text == (
        "no worker is alive and 1 order is under way, 1 order is unresolved, 1 signal waits"
    )
    assert (order.code, order.subject) == ("ORDER_UNRESOLVED", "s1")
    assert order.text.startswith("order of s1 (paper ETH/USDT) is unresolved")


async def test_a_worker_is_alive_until_a_lease_has_passed_in_silence(account: Account) -> None:
    """A heartbeat makes a worker alive with its own words; one of an hour ago makes it silent."""
    await account.ledger.heartbeat([], b'{"in_flight":3}')
    await account.redis.hset("{main}:workers", "old", "1000 {}")
    status = await account.reader.status()
    assert {worker.name: worker.alive for worker in status.workers} == {"old": False, "w1": True}
    assert status.workers_alive == 1
    assert status.workers[1].status == {"in_flight": 3}
    (lost,) = [one for one in needs_attention(status) if one.code == "WORKER_LOST"]
    assert (lost.subject, lost.severity) == ("old", "warning")


async def test_every_halt_leaves_an_event_and_no_reason_is_lost(account: Account) -> None:
    """A second halt changes no state, yet is on the record; both reasons stay."""
    trading = account.reader.trading
    for reason in ("storm", "flood"):
        await trading.ask(TradingState.HALTED, reason=reason, actor="me")
    status = await account.reader.status()
    assert (status.trading_state, status.reason, status.actor) == (
        "HALTED", "storm; flood", "me",
    )  # fmt: skip
    said = await account.redis.xrange("{main}:system")
    assert [fields[b"type"] for _, fields in said] == [b"TradingStateChanged", b"OperatorAction"]
    changed, again = (msgspec.json.decode(fields[b"data"]) for _, fields in said)
    assert (changed["previous"], changed["trading_state"]) == ("ACTIVE", "HALTED")
    assert (again["action"], again["reason"], again["before"], again["after"]) == (
        "halt", "flood", "HALTED", "HALTED",
    )  # fmt: skip


async def test_nobody_loosens_what_another_asked_for(account: Account) -> None:
    """A reduce of one person leaves the halt of another in force until somebody resumes."""
    trading = account.reader.trading
    await trading.ask(TradingState.HALTED, reason="storm", actor="ann")
    change = await trading.ask(TradingState.REDUCING, reason="calmer", actor="bob")
    assert (change.control.trading_state, change.control.actor) == ("HALTED", "ann")
    change = await trading.ask(TradingState.REDUCING, reason="over", actor="ann")
    assert (change.before, change.control.trading_state) == ("HALTED", "REDUCING")
    assert change.control.reason == "calmer; over"
    assert (await trading.resume(reason="", actor="eve")).control.trading_state == "ACTIVE"


async def test_changes_at_once_are_all_remembered(account: Account) -> None:
    """Ten people who ask at the same time are ten requests."""
    trading = account.reader.trading
    await asyncio.gather(
        *(trading.ask(TradingState.REDUCING, reason=f"r{n}", actor=f"p{n}") for n in range(10))
    )
    asked = (await trading.read()).asks
    assert {one.asker for one in asked} == {f"p{n}" for n in range(10)}
    assert len(await account.redis.xrange("{main}:system")) == 10


async def test_a_state_written_without_requests_is_not_loosened(account: Account) -> None:
    """What an older version halted stays halted when another person only asks for less."""
    await account.redis.hset("{main}:control", mapping={"trading_state": "HALTED", "actor": "old"})
    change = await account.reader.trading.ask(TradingState.REDUCING, reason="r", actor="new")
    assert change.control.trading_state == "HALTED"
    assert [one.asker for one in change.asks] == ["old", "new"]


async def test_a_flatten_holds_a_halt_back_and_gives_it_way_again(account: Account) -> None:
    """While it runs orders may close; a later halt counts; what others asked for returns."""
    trading = account.reader.trading
    await trading.ask(TradingState.HALTED, reason="storm", actor="ann")
    change = await trading.begin_flatten(reason="out", actor="bob", lasts_ms=60_000)
    assert change.control.trading_state == "REDUCING"
    assert await trading.is_flattening("bob")
    change = await trading.end_flatten(TradingState.ACTIVE, reason="out", actor="bob")
    assert (change.control.trading_state, change.control.actor) == ("HALTED", "ann")
    await trading.begin_flatten(reason="out", actor="bob", lasts_ms=60_000)
    change = await trading.ask(TradingState.HALTED, reason="stop it", actor="eve")
    assert change.control.trading_state == "HALTED"
    await trading.resume(reason="", actor="ann")
    assert not await trading.is_flattening("bob")


async def test_the_next_change_ends_a_flatten_that_is_over(account: Account) -> None:
    """Also without a keeper: whoever asks next for anything brings back what others asked for."""
    trading = account.reader.trading
    await trading.ask(TradingState.HALTED, reason="storm", actor="ann")
    await trading.begin_flatten(reason="out", actor="bob", lasts_ms=0)
    held = needs_attention(await account.reader.status())[0]
    assert held.text.endswith("a flatten holds back HALTED of ann (storm)")
    change = await trading.ask(TradingState.REDUCING, reason="calm", actor="eve")
    assert (change.control.trading_state, change.control.actor) == ("HALTED", "ann")
    assert [(one.asker, one.flattens) for one in change.asks] == [
        ("ann", False), ("bob", False), ("eve", False),
    ]  # fmt: skip


async def test_who_holds_a_state_is_read_from_the_heartbeats(account: Account) -> None:
    """Live workers that say it, live ones that do not, and the silent are told apart."""
    await account.ledger.heartbeat([], b'{"trading_state":"HALTED"}')
    at = (await account.redis.time())[0] * 1000
    await account.redis.hset(
        "{main}:workers",
        mapping={"w2": f'{at} {{"trading_state":"ACTIVE"}}', "w3": "1000 {}"},
    )
    holding = await account.reader.trading.holding(TradingState.REDUCING)
    assert (holding.held, holding.missing, holding.silent) == (("w1",), ("w2",), ("w3",))


async def test_positions_are_read_from_the_book(account: Account) -> None:
    """A position in the book comes back as the struct that was stored."""
    position = Position(
        position_id="p1",
        exchange="paper",
        symbol="BTC/USDT",
        direction=Direction.LONG,
        quantity=Decimal("0.5"),
        entry_quantity=Decimal("0.5"),
        entry_value=Decimal(32_500),
        opened_at=datetime(2026, 1, 1, tzinfo=UTC),
        signal_id="s1",
    )
    await account.redis.hset("{main}:book", "paper:BTC/USDT", msgspec.json.encode(position))
    book = await account.reader.positions()
    assert book.positions == {"paper:BTC/USDT": position}
    assert (await account.reader.status()).open_positions == 1


async def test_a_submission_cut_short_says_how_far_it_came(account: Account) -> None:
    """With the stream's key of the wrong type nothing is added, and the error says 0 of 2."""
    await account.redis.set("{main}:signals", "x")
    with pytest.raises(SubmissionError, match="0 of 2 signals") as caught:
        await account.submit({"n": 0}, {"n": 1})
    assert caught.value.ids == []


async def test_follow_waits_for_streams_that_do_not_exist_yet(account: Account) -> None:
    """A reader of an empty account gets the first event ever written."""
    tail = account.reader.tail(("orders", "system"))
    assert await tail.read(1) == []
    waiting = asyncio.create_task(tail.read(5_000))
    await account.redis.xadd("{main}:orders", {"type": "T", "subject": "s"})
    (entry,) = await waiting
    assert (entry.stream, entry.text("type")) == ("orders", "T")


async def test_an_orders_story_has_record_events_and_arrival(account: Account) -> None:
    """After the commit the story holds the record's times and the signal's own events only."""
    await account.ledger.ensure_group()
    first, _ = await account.submit({"signal_id": "s1"}, {"signal_id": "s2"})
    await account.end("s1")
    await account.end("s2")
    history = await account.reader.order("s1")
    assert history.entry_id == first
    assert history.record is not None
    assert history.record.state == "FILLED"
    assert history.record.ended_at is not None
    assert [(event.type, event.event_id) for event in history.events] == [("OrderFilled", "s1-end")]
    assert history.complete


async def test_an_events_place_is_found_in_a_long_stream(account: Account) -> None:
    """Thousands of older entries do not hide an event: the record says where to look."""
    pipeline = account.redis.pipeline(transaction=False)
    for number in range(6_000):
        pipeline.xadd("{main}:orders", {"subject": "x"}, id=f"{1_000 + number}-1")
    await pipeline.execute()
    await account.ledger.ensure_group()
    await account.submit({"signal_id": "s1"})
    await account.end("s1")
    assert [event.type for event in (await account.reader.order("s1")).events] == ["OrderFilled"]


async def test_an_unresolved_order_shows_as_such(account: Account) -> None:
    """While nobody knows its outcome the story says UNRESOLVED, with the event that said so."""
    await account.ledger.ensure_group()
    await account.submit({"signal_id": "s1"})
    entry, token = await account.admit("s1")
    await account.ledger.park(entry, token, "s1", 60_000, ("SystemError", "e1", "{}"))
    history = await account.reader.order("s1")
    assert history.record is not None
    assert history.record.state == "UNRESOLVED"
    assert [event.type for event in history.events] == ["SystemError"]


async def test_a_signal_nobody_took_is_found_by_its_id(account: Account) -> None:
    """A signal still on the stream is known, one never submitted is not."""
    await account.submit({"signal_id": "s1"})
    waiting, unknown = await account.reader.order("s1"), await account.reader.order("s2")
    assert isinstance(waiting, History)
    assert waiting.is_known
    assert waiting.record is None
    assert not unknown.is_known


async def _bury(account: Account, fields: dict[str, bytes], reason: str) -> str:
    await account.ledger.ensure_group()
    await account.reader.submit([fields])
    await account.end("x", dead=reason)
    return (await account.reader.dead.latest(1))[0].id


async def test_a_dead_letter_keeps_the_entry_as_it_was(account: Account) -> None:
    """What is shown as its own fields are the entry's, and what was added stands apart."""
    own = {"data": b'{"signal_id":"s1"\xff', "key": b"g"}
    letter = await account.reader.dead.get(await _bury(account, own, "malformed"))
    assert letter.fields == own
    assert (letter.reason, letter.error, letter.deliveries) == ("malformed", "data: why", 1)


async def test_replay_puts_back_exactly_the_entrys_own_fields(account: Account) -> None:
    """The new entry is the old one byte for byte; the dead letter is gone."""
    own = {"data": b'{"signal_id":"s1"\xff', "key": b"g"}
    letter_id = await _bury(account, own, "malformed")
    entry_id = await account.reader.dead.replay(letter_id)
    stored = dict(await account.redis.xrange("{main}:signals"))
    assert stored[entry_id.encode()] == {name.encode(): value for name, value in own.items()}
    assert await account.reader.dead.latest(10) == []


async def test_replay_asked_twice_adds_one_entry(account: Account) -> None:
    """After a lost reply the same question has the same answer."""
    letter_id = await _bury(account, {"data": b"{"}, "malformed")
    first = await account.reader.dead.replay(letter_id)
    assert await account.reader.dead.replay(letter_id) == first
    assert await account.redis.xlen("{main}:signals") == 2


async def test_a_used_signal_id_is_not_replayed(account: Account) -> None:
    """A conflict's id has a record, so replaying is refused, and the dead letter stays."""
    await account.ledger.ensure_group()
    await account.submit({"signal_id": "s1"})
    await account.end("s1")
    letter_id = await _bury(account, {"data": b'{"signal_id":"s1","n":2}'}, "conflict")
    with pytest.raises(DeadLetterError, match=r"s1 has been used .*new signal_id"):
        await account.reader.dead.replay(letter_id)
    assert (await account.reader.dead.get(letter_id)).signal_id == "s1"


async def test_a_dead_letter_without_content_is_not_replayed(account: Account) -> None:
    """An entry that was trimmed before it was read leaves nothing to put back."""
    await account.ledger.ensure_group()
    (entry,) = await account.submit({"signal_id": "s1"})
    delivery = (await account.ledger.claim(1)).deliveries[0]
    await account.redis.xdel("{main}:signals", entry)
    tail = DeadLetterTail(
        reason="malformed", error="e", entry_id=entry, deliveries="1", worker="w1", at="t"
    )
    letter_item = CommitItem(entry=entry, token=delivery.token, dead=tail, duplicate=True)
    await commit_one(account.ledger, letter_item)
    (letter,) = await account.reader.dead.latest(1)
    with pytest.raises(DeadLetterError, match="none of its entry's fields"):
        await account.reader.dead.replay(letter.id)


async def test_discarding_is_for_good(account: Account) -> None:
    """A discarded dead letter is gone; discarding or replaying it again is refused."""
    letter_id = await _bury(account, {"data": b"{"}, "malformed")
    await account.reader.dead.discard(letter_id)
    for again in (account.reader.dead.discard, account.reader.dead.replay):
        with pytest.raises(DeadLetterError, match=f"no dead letter {letter_id}"):
            await again(letter_id)


async def test_a_key_of_the_wrong_type_is_an_error_of_the_ledger(account: Account) -> None:
    """An error the server gives for one command is raised as the ledger's own, whoever asks."""
    for key in ("book", "control"):
        await account.redis.set(f"{{main}}:{key}", "x")
    for read in (
        account.reader.positions,
        account.reader.trading.read,
        account.reader.status,
    ):
        with pytest.raises(LedgerError, match="WRONGTYPE"):
            await read()


async def test_server_facts_tell_product_and_role(account: Account) -> None:
    """The server's own words: what it is, and that it is the primary."""
    facts = await account.reader.server()
    assert facts.product.split()[0] in {"redis", "valkey"}
    assert facts.role == "master"


async def test_a_wrong_password_is_a_refusal_not_an_outage(server: EmbeddedServer) -> None:
    """Redis answering "no" is told apart from Redis not answering."""
    locked = Config(redis=RedisConfig(url=Secret(server.url), password=Secret("wrong")))
    async with AccountReader(locked) as reader:
        with pytest.raises(LedgerRefusedError):
            await reader.status()


def test_every_stream_of_the_contract_can_be_followed() -> None:
    """The five stream names are the contract's."""
    assert STREAMS == ("signals", "orders", "positions", "system", "dead")
    assert Status.__struct_fields__[0] == "account"


async def test_a_state_set_behind_the_requests_can_be_resumed(account: Account) -> None:
    """Nobody asks for it any more, so the requests stay as they are; the state changes."""
    trading = account.reader.trading
    await trading.resume(reason="", actor="me")
    await account.redis.hset("{main}:control", "trading_state", "HALTED")
    change = await trading.resume(reason="again", actor="me")
    assert (change.before, change.control.trading_state) == ("HALTED", "ACTIVE")
    assert (await trading.read()).control.trading_state is TradingState.ACTIVE


async def test_every_try_leaves_an_event(account: Account) -> None:
    """Also a resume of what trades already."""
    for _ in range(2):
        await account.reader.trading.resume(reason="", actor="me")
    assert len(await account.redis.xrange("{main}:system")) == 2
