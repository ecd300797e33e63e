"""What real servers answer when they cannot serve, and what the ledger makes of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.fleets import (
    GROUP,
    SIGNALS,
    ClusterNode,
    Fleet,
    admission,
    admit,
    admit_one,
    commit,
    commit_one,
    filled,
    fleet_on,
    outcome,
    take,
    take_one,
    until,
)
from worker.config.keys import RedisConfig, Secret
from worker.engine.group_calls import call_for_all
from worker.ledger.connection import Purpose
from worker.ledger.errors import (
    GroupMissingError,
    LedgerError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from worker.ledger.replies import Admitted, Committed
from worker.runtime.embedded_server import EmbeddedServer


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


@pytest.fixture
async def spare(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server of its own, of the same kind, that a test may maltreat."""
    with EmbeddedServer(binary=server._binary, directory=tmp_path) as own:
        yield own


async def trouble(call: Any) -> LedgerError:
    """The error a call ends with."""
    with pytest.raises(LedgerError) as caught:
        await call
    return caught.value


async def unavailable(call: Any) -> LedgerUnavailableError:
    error = await trouble(call)
    assert isinstance(error, LedgerUnavailableError), error
    return error


_FILLED_AND_OPENED = (
    ("orders", "OrderFilled", "s-filled", "{}"),
    ("positions", "PositionOpened", "s-opened", "{}"),
)


# --- forgetful servers ---


async def test_scripts_are_loaded_again_when_the_server_forgot_them(fleet: Fleet) -> None:
    """SCRIPT FLUSH at any moment costs a round trip, not an error."""
    await fleet.send_all("ab")
    for call in (
        lambda: fleet["w1"].claim(5),
        lambda: fleet["w1"].heartbeat([], b"{}"),
        lambda: fleet["w1"].sweep(0),
        fleet["w1"].account,
    ):
        await fleet.redis.script_flush()
        assert await call() is not None
    assert fleet["w1"].lost_replies == 0


async def test_durable_calls_are_loaded_again_too(fleet: Fleet) -> None:
    """The pipeline with WAIT has its own way of loading."""
    ledger = fleet.join("w1", replicas=1, replicas_timeout_ms=10, patience_s=0.0)
    await fleet.send("a")
    delivery = await take_one(ledger)
    await fleet.redis.script_flush()
    error = await unavailable(admit_one(ledger, admission(delivery)))
    assert error.kind == "replicas"
    record = await fleet.record("s-1")
    assert record is not None
    assert record.state == "ADMITTED"


@pytest.mark.parametrize("how", ["destroyed", "flushed", "deleted"])
async def test_a_missing_group_is_told_apart_and_mended(fleet: Fleet, how: str) -> None:
    """The claim says so; ``ensure_group`` mends it; work goes on with the next entry."""
    await fleet.send("a")
    await take(fleet["w1"])
    if how == "destroyed":
        await fleet.redis.xgroup_destroy(SIGNALS, GROUP)
    elif how == "flushed":
        await fleet.redis.flushall()
    else:
        await fleet.redis.delete(SIGNALS)
    for call in (fleet["w1"].claim(5), fleet["w1"].sweep(0), fleet["w1"].account()):
        assert isinstance(await trouble(call), GroupMissingError)
    for _ in range(2):
        await fleet["w1"].ensure_group()
    entry_id = await fleet.send("fresh")
    assert [d.entry_id for d in await take(fleet["w1"])] == [entry_id]


async def test_after_a_flush_nobody_holds_anything(fleet: Fleet) -> None:
    """A heartbeat says lost, a commit fenced; nothing is written on the strength of the past."""
    await fleet.send("a")
    delivery = await take_one(fleet["w1"])
    await admit(fleet["w1"], delivery)
    await fleet.redis.flushall()
    await fleet["w1"].ensure_group()
    held = [(delivery.entry_id, delivery.token)]
    assert (await fleet["w1"].heartbeat(held, b"{}"))[0] == {delivery.entry_id}
    assert (await commit_one(fleet["w1"], filled(delivery))).status == "fenced"
    assert await fleet.stream("orders") == []


async def test_keys_of_a_wrong_type_are_an_error_not_a_crash(fleet: Fleet) -> None:
    """Somebody wrote a text where the ledger keeps a hash."""
    await fleet.send("a")
    delivery = await take_one(fleet["w1"])
    await fleet.redis.set(fleet.key("book"), "text")
    error = await trouble(admit_one(fleet["w1"], admission(delivery)))
    assert "WRONGTYPE" in str(error)
    assert not isinstance(error, LedgerUnavailableError | GroupMissingError | LedgerRefusedError)


async def test_an_output_stream_of_a_wrong_type_stops_a_commit_before_it_writes(
    fleet: Fleet,
) -> None:
    """Somebody wrote a text where a later event is to go: the earlier events are not written."""
    await fleet.send("a")
    delivery = await take_one(fleet["w1"])
    await admit(fleet["w1"], delivery)
    await fleet.redis.set(fleet.key("positions"), "text")
    item = filled(delivery, events=_FILLED_AND_OPENED)
    error = await trouble(commit_one(fleet["w1"], item))
    assert "WRONGTYPE" in str(error)
    assert await fleet.stream("orders") == []
    await fleet.redis.delete(fleet.key("positions"))
    assert (await commit_one(fleet["w1"], item)).status == "committed"


async def test_an_output_stream_of_a_wrong_type_stops_only_the_items_that_write_to_it(
    fleet: Fleet,
) -> None:
    """The item before it in the same call is committed to its end, what it realised included."""
    await fleet.send_all("ab")
    first, second = await take(fleet["w1"])
    await admit(fleet["w1"], first, "s-1")
    await admit(fleet["w1"], second, "s-2")
    await fleet.redis.set(fleet.key("positions"), "text")
    items = [
        filled(first, "s-1", realized=-5),
        filled(second, "s-2", events=_FILLED_AND_OPENED),
    ]
    written, refused = await call_for_all(fleet["w1"].commit, items)
    assert isinstance(written, Committed)
    assert written.status == "committed"
    assert await fleet.hash("realized") == {"USDT": "-5"}
    assert isinstance(refused, LedgerError)
    assert "WRONGTYPE" in str(refused)


# --- servers that cannot serve now ---


async def test_a_replica_is_not_the_primary(fleet: Fleet, spare: EmbeddedServer) -> None:
    """READONLY: look for the primary again."""
    await fleet.send("a")
    redis: Any = Redis.from_url(spare.url)
    await fleet.redis.config_set("repl-diskless-sync-delay", 0)
    await redis.replicaof("127.0.0.1", fleet.url.rsplit(":", 1)[1].split("/")[0])

    async def linked() -> bool:
        return bool((await redis.info("replication"))["master_link_status"] == "up")

    await until(linked, what="the replica has its primary's data")
    await redis.aclose()
    async with fleet_on_replica(spare.url) as replica:
        error = await unavailable(replica.join("w1", patience_s=0.0).claim(1))
        assert (error.kind, error.moved) == ("readonly", True)


@contextlib.asynccontextmanager
async def fleet_on_replica(url: str) -> AsyncIterator[Fleet]:
    """A fleet that does not create the group, for a replica would refuse."""
    redis: Any = Redis.from_url(url, protocol=2)
    fleet = Fleet(url, redis)
    try:
        yield fleet
    finally:
        await fleet.close()
        await redis.aclose()


async def test_out_of_memory_stops_admissions_but_not_ends(
    spare: EmbeddedServer,
) -> None:
    """Nothing new is reserved; what is under way can be written down, renewed and given back."""
    async with fleet_on(spare.url) as fleet:
        await fleet.send_all("abcd")
        a, b, c, d = await take(fleet["w1"])
        await admit(fleet["w1"], a, "s-1")
        await fleet.redis.config_set("maxmemory", 1)
        quick = fleet.join("w1", patience_s=0.0)
        error = await unavailable(admit_one(quick, admission(b, "s-2")))
        assert (error.kind, error.moved) == ("oom", False)
        assert await fleet.record("s-2") is None
        assert await fleet.reserved("opening") == {"x:s-1": "s-1"}
        await commit(quick, filled(a))
        assert (await quick.heartbeat([(b.entry_id, b.token)], b"{}"))[0] == set()
        assert await quick.release([(c.entry_id, c.token, 0, False)]) == 1
        assert await quick.park(d.entry_id, d.token, "s-4", 0, ("SystemError", "e", "{}"))
        assert not (await quick.authorize(b.entry_id, b.token, "x")).held  # it was not admitted
        await fleet.redis.config_set("maxmemory", 0)
        assert isinstance(await admit_one(quick, admission(b, "s-2")), Admitted)


async def test_out_of_memory_leaves_no_entry_without_an_owner(spare: EmbeddedServer) -> None:
    """A claim either takes an entry over or leaves it where it was."""
    async with fleet_on(spare.url) as fleet:
        first, second = await fleet.send_all("ab")
        a, b = await take(fleet["w1"])
        await fleet.expire(first)
        await fleet["w1"].release([(b.entry_id, b.token, 0, False)])
        await fleet.redis.config_set("maxmemory", 1)
        with contextlib.suppress(LedgerUnavailableError):
            await fleet.join("w2", patience_s=0.0).claim(5)
        await fleet.redis.config_set("maxmemory", 0)
        await fleet.expire(first)
        await fleet.expire(second)
        taken = {d.entry_id for d in await take(fleet["w3"])}
        assert taken == {first, second}
        assert a.entry_id == first


async def test_a_server_that_is_loading_is_waited_for(spare: EmbeddedServer) -> None:
    """LOADING passes by itself; the primary need not be looked for."""
    async with fleet_on(spare.url) as fleet:
        pipe = fleet.redis.pipeline(transaction=False)
        for n in range(1_000):
            pipe.set(f"big{n}", b"x" * 1_000)
        await pipe.execute()
        await fleet.redis.save()
        spare.kill()
        spare._arguments = (
            "--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024",
        )  # fmt: skip
        starting = asyncio.create_task(asyncio.to_thread(spare.start))
        quick = fleet.join("w1", patience_s=0.0)
        kinds: set[tuple[str, bool]] = set()

        async def served() -> bool:
            try:
                await quick.claim(1)
            except LedgerUnavailableError as error:
                kinds.add((error.kind, error.moved))
                return False
            return True

        await until(served, what="the server has loaded its data")
        await starting
        assert ("loading", False) in kinds
        assert kinds <= {("loading", False), ("connection", True)}


async def test_a_busy_script_is_waited_for(spare: EmbeddedServer) -> None:
    """BUSY: somebody's script runs; it passes by itself."""
    async with fleet_on(spare.url) as fleet:
        await fleet.redis.config_set("busy-reply-threshold", 1)
        slow: Any = Redis.from_url(spare.url)
        endless: asyncio.Task[object] = asyncio.create_task(slow.eval("while true do end", 0))
        quick = fleet.join("w1", patience_s=0.0, timeout_s=5.0)
        try:
            for _ in range(200):
                with contextlib.suppress(GroupMissingError):
                    await quick.claim(1)
        except LedgerUnavailableError as error:
            caught = error
        await fleet.redis.script_kill()
        with contextlib.suppress(Exception):
            await endless
        await slow.aclose()
        assert (caught.kind, caught.moved) == ("busy", False)


async def test_a_dead_server_is_a_lost_connection(spare: EmbeddedServer) -> None:
    """And everything goes on when it is back."""
    async with fleet_on(spare.url) as fleet:
        await fleet["w1"].claim(1)
        spare.kill()
        quick = fleet.join("w1", patience_s=0.0)
        error = await unavailable(quick.claim(1))
        assert (error.kind, error.moved) == ("connection", True)
        spare.start()
        await fleet["w1"].ensure_group()
        assert (await fleet["w1"].claim(1)).deliveries == []


async def test_a_frozen_server_is_a_lost_reply(spare: EmbeddedServer) -> None:
    """The call ends after its time; whether it was done is unknown; a repetition finds out."""
    async with fleet_on(spare.url) as fleet:
        await fleet.send("a")
        quick = fleet.join("w1", patience_s=0.0, timeout_s=0.2)
        await quick.heartbeat([], b"{}")
        spare.pause()
        error = await unavailable(quick.claim(1))
        spare.resume()
        assert (error.kind, error.moved) == ("timeout", True)
        assert quick.lost_replies >= 1
        deliveries = [*await take(quick), *await quick.resync([])]
        assert len({d.entry_id for d in deliveries}) == 1


async def test_calls_under_way_when_the_server_dies_all_end_in_ledger_errors(
    spare: EmbeddedServer,
) -> None:
    """No foreign exception comes through, whatever the client was doing at that moment."""
    async with fleet_on(spare.url) as fleet:
        ledger = fleet.join("w1", patience_s=0.0, timeout_s=60.0)
        await fleet.send_all(str(n) for n in range(200))
        deliveries = await take(ledger, 200)
        wire = fleet.connections[-1].ready(Purpose.SCRIPTS)
        assert wire is not None
        spare.pause()  # or some would be answered before it dies
        calls: list[Awaitable[object]] = [
            asyncio.ensure_future(ledger.admit([admission(d, f"s-{n}")]))
            for n, d in enumerate(deliveries)
        ]
        calls += [asyncio.ensure_future(ledger.heartbeat([], b"{}")) for _ in range(50)]
        calls += [
            asyncio.ensure_future(ledger.claim(0, after=b"$", wait_ms=1_000)) for _ in range(2)
        ]

        async def under_way() -> bool:
            return len(wire._waiting) >= 250

        await until(under_way, what="heartbeats and admissions have been sent")
        spare.kill()
        results = await asyncio.gather(*calls, return_exceptions=True)
        kinds = [
            result.kind if isinstance(result, LedgerUnavailableError) else repr(result)
            for result in results
        ]
        assert kinds == ["connection"] * len(calls)


# --- servers that refuse us ---


async def test_a_wrong_password_is_refused_for_good(spare: EmbeddedServer) -> None:
    """And none at all; neither appears in the sentence."""
    async with fleet_on(spare.url) as fleet:
        await fleet.redis.config_set("requirepass", "right-one")
        for password in ("", "wrong-one"):
            config = RedisConfig(url=Secret(spare.url), password=Secret(password))
            ledger = fleet.join("w1", config=config, patience_s=0.0)
            error = await trouble(ledger.claim(1))
            assert isinstance(error, LedgerRefusedError), error
            assert "wrong-one" not in str(error)
        config = RedisConfig(url=Secret(spare.url), password=Secret("right-one"))
        assert (await fleet.join("w1", config=config).claim(1)).deliveries == []


async def test_a_missing_right_is_refused_for_good(fleet: Fleet) -> None:
    """NOPERM on a command, and on a key, told with Redis's words."""
    rules = {"nocmd": ["~*", "+@all", "-evalsha", "-eval"], "nokey": ["~other:*", "+@all"]}
    for name, rule in rules.items():
        await fleet.redis.execute_command("ACL", "SETUSER", name, "on", ">pw", *rule)
        config = RedisConfig(url=Secret(fleet.url), username=name, password=Secret("pw"))
        error = await trouble(fleet.join("w1", config=config, patience_s=0.0).claim(1))
        assert isinstance(error, LedgerRefusedError), error
        assert "NOPERM" in str(error)
        await fleet.redis.execute_command("ACL", "DELUSER", name)


# --- a slot on the move ---


@pytest.fixture
async def two_nodes(
    server: EmbeddedServer, tmp_path: Path
) -> AsyncIterator[tuple[ClusterNode, ClusterNode]]:
    """Two cluster nodes that know each other; the first has all slots."""
    binary = server._binary
    with (
        ClusterNode(tmp_path / "a", binary=binary) as first,
        ClusterNode(tmp_path / "b", binary=binary) as second,
    ):
        await first.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await first.meet(second)

        async def ready() -> bool:
            info = await first.call("CLUSTER", "INFO")
            return b"cluster_state:ok" in info and b"cluster_known_nodes:2" in info

        await until(ready, what="the two nodes are a cluster")
        yield first, second


async def test_a_slot_being_moved_stops_every_script_before_it_writes(
    two_nodes: tuple[ClusterNode, ClusterNode],
) -> None:
    """Half the keys may be elsewhere: not one write, and the error says to look again."""
    first, second = two_nodes
    other = (await second.call("CLUSTER", "MYID")).decode()
    async with fleet_on(first.url) as fleet:
        await fleet.send_all("ab")
        a, b = await take(fleet["w1"])
        await admit(fleet["w1"], a, "s-1")
        slot = await fleet.redis.execute_command("CLUSTER", "KEYSLOT", SIGNALS)
        await fleet.redis.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", other)
        before = await fleet.leases()
        quick = fleet.join("w1", patience_s=0.0)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: quick.claim(5),
            lambda: admit_one(quick, admission(b, "s-2")),
            lambda: commit_one(quick, filled(a)),
            lambda: quick.heartbeat([(a.entry_id, a.token)], b"{}"),
            lambda: quick.release([(a.entry_id, a.token, 0, False)]),
            lambda: quick.park(a.entry_id, a.token, "s-1", 0, ("SystemError", "e", "{}")),
            lambda: quick.sweep(0),
            lambda: quick.elect(1_000),
            lambda: quick.throttle("x", 1_000),
            quick.leave,
        ]
        for call in calls:
            error = await unavailable(call())
            assert (error.kind, error.moved) == ("moved", True)
        await fleet.redis.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
        assert await fleet.leases() == before
        assert await fleet.stream("orders") == []
        await commit(quick, filled(a))
        await commit(quick, outcome(b, "s-2"))
