"""Every way to reach Redis, on real processes: replicas, Sentinel, Cluster, socket, ACL, TLS."""

import asyncio
import contextlib
import ipaddress
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.accounts import Account, configuration, from_now, working
from tests.integration.fleets import (
    SIGNALS,
    ClusterNode,
    Fleet,
    admission,
    admit,
    admit_one,
    commit,
    filled,
    fleet_on,
    take,
    take_one,
    until,
)
from worker.config.keys import RedisConfig, Secret
from worker.ledger.errors import LedgerError, LedgerUnavailableError
from worker.ledger.replies import Admitted
from worker.ledger.stored import decode_record
from worker.runtime.embedded_server import EmbeddedServer, find_server, free_port

BUNDLED = find_server(prefer_bundled=True)
REPLICATION = ("--repl-diskless-sync-delay", "0")


async def call(url: str, *command: object) -> Any:
    """One command on a connection of its own."""
    client: Any = Redis.from_url(url, protocol=2, socket_connect_timeout=2)
    try:
        return await client.execute_command(*command)
    finally:
        await client.aclose()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """A primary and its replica."""
    for name in ("primary", "replica"):
        (tmp_path / name).mkdir()
    with EmbeddedServer(
        binary=BUNDLED, directory=tmp_path / "primary", arguments=REPLICATION
    ) as primary:
        follows = ("--replicaof", f"127.0.0.1 {primary.port}", "--repl-timeout", "60")
        with EmbeddedServer(
            binary=BUNDLED, directory=tmp_path / "replica", arguments=(*REPLICATION, *follows)
        ) as replica:
            yield primary, replica


async def linked(primary: EmbeddedServer) -> None:
    """Wait until the replica has what the primary has."""

    async def online() -> bool:
        return "online" in str(await call(primary.url, "INFO", "replication"))

    await until(online, what="the replica is online")


# --- replicas ---


async def test_an_order_waits_for_its_replicas(
    pair: tuple[EmbeddedServer, EmbeddedServer],
) -> None:
    """``replicas_required``: admitted once the replica has the record, and it really has."""
    primary, replica = pair
    await linked(primary)
    async with fleet_on(primary.url) as fleet:
        ledger = fleet.join("w1", replicas=1)
        await fleet.send("a")
        await admit(ledger, await take_one(ledger))
        raw = await call(replica.url, "GET", fleet.key("record:s-1"))
        assert decode_record(raw).state == "ADMITTED"


async def test_without_its_replicas_no_order_may_be_sent(
    pair: tuple[EmbeddedServer, EmbeddedServer],
) -> None:
    """However often, and from whichever connection, it is asked: the replica does not have it."""
    primary, replica = pair
    await linked(primary)
    async with fleet_on(primary.url) as fleet:
        await fleet.send("a")
        delivery = await take_one(fleet["w1"])
        replica.pause()
        for _ in range(2):
            fresh = fleet.join("w1", replicas=1, replicas_timeout_ms=50, patience_s=0.2)
            with pytest.raises(LedgerUnavailableError) as caught:
                await admit_one(fresh, admission(delivery))
            assert caught.value.kind == "replicas"
        replica.resume()
        patient = fleet.join("w1", replicas=1, patience_s=5.0)
        assert isinstance(await admit_one(patient, admission(delivery)), Admitted)
        assert await fleet.hash("totals") == {"USDT": "100"}
        replica.pause()
        hasty = fleet.join("w1", replicas=1, replicas_timeout_ms=50, patience_s=0.2)
        with pytest.raises(LedgerUnavailableError) as caught:
            await hasty.authorize(delivery.entry_id, delivery.token, "paper")
        assert caught.value.kind == "replicas"
        replica.resume()


# --- sentinel ---


@contextlib.contextmanager
def sentinel_for(primary: EmbeddedServer, directory: Path) -> Iterator[int]:
    """One sentinel that alone decides; its port."""
    port = free_port()
    directory.mkdir()
    settings = directory / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds mymaster 300\n"
        "sentinel failover-timeout mymaster 2000\n"
    )
    with subprocess.Popen(
        [BUNDLED, str(settings), "--sentinel"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield port
        finally:
            process.kill()


async def test_a_worker_follows_a_sentinels_failover(
    pair: tuple[EmbeddedServer, EmbeddedServer], tmp_path: Path
) -> None:
    """The primary is killed under load; on the new one every signal ends exactly once."""
    primary, replica = pair
    await linked(primary)
    with sentinel_for(primary, tmp_path / "sentinel") as port:
        own = f"redis://127.0.0.1:{port}"

        async def sees_the_replica() -> bool:
            with contextlib.suppress(Exception):
                return bool(await call(own, "SENTINEL", "REPLICAS", "mymaster"))
            return False

        await until(sees_the_replica, what="the sentinel knows the replica")
        url = f"redis+sentinel://127.0.0.1:{port}/mymaster/0"
        before, after = Account(primary.url), Account(replica.url)
        async with working(configuration(url)) as worker:
            for number in range(20):
                await before.send(f"a-{number}", symbol=f"AA{number}/USDT")
            await before.end("a-0")
            primary.kill()

            async def promoted() -> bool:
                with contextlib.suppress(RedisConnectionError):  # a promotion drops its clients
                    return bool((await call(replica.url, "ROLE"))[0] == b"master")
                return False

            await until(promoted, what="the replica has been promoted", timeout_s=15)
            for number in range(10):
                await after.send(f"b-{number}", symbol=f"AB{number}/USDT")
            ends = [await after.end(f"b-{number}") for number in range(10)]
            assert {end["type"] for end in ends} == {"OrderFilled"}
            await after.quiet()
            orders = await after.events("orders")
            assert len({event["event_id"] for event in orders}) == len(orders)
            assert worker.backing.address == f"127.0.0.1:{replica.port}"
        await before.close()
        await after.close()


async def test_no_sentinel_at_all_is_an_outage(tmp_path: Path) -> None:
    """Not a crash: it may come back."""
    config = RedisConfig(url=Secret(f"redis+sentinel://127.0.0.1:{free_port()}/mymaster"))
    fleet = Fleet("", None)
    with pytest.raises(LedgerUnavailableError) as caught:
        await fleet.join("w1", config=config, patience_s=0.0).claim(1)
    assert caught.value.kind == "connection"
    await fleet.close()


# --- cluster ---


class Cluster:
    """Three primaries with a replica each."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        self.nodes = nodes
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes[:3])

    async def form(self) -> None:
        """Slots, introductions, replicas; until every node agrees."""
        first = self.nodes[0]
        for number, node in enumerate(self.nodes[:3]):
            last = 16383 if number == 2 else 5461 * (number + 1) - 1
            await node.call("CLUSTER", "ADDSLOTSRANGE", 5461 * number, last)
        for node in self.nodes[1:]:
            await first.meet(node)

        async def acquainted() -> bool:
            infos = [await node.call("CLUSTER", "INFO") for node in self.nodes]
            return all(b"cluster_known_nodes:6" in info for info in infos)

        await until(acquainted, what="six nodes know each other")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            await replica.call("CLUSTER", "REPLICATE", await primary.call("CLUSTER", "MYID"))

        async def ready() -> bool:
            infos = [await node.call("CLUSTER", "INFO") for node in self.nodes]
            roles = [await node.call("ROLE") for node in self.nodes[3:]]
            return all(b"cluster_state:ok" in info for info in infos) and all(
                role[0] == b"slave" and role[3] == b"connected" for role in roles
            )

        await until(ready, what="the cluster serves and its replicas follow")

    async def owner(self) -> ClusterNode:
        """The living primary that says it serves the account's slot."""
        slot = int(await self.nodes[3].call("CLUSTER", "KEYSLOT", SIGNALS))
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                continue
            if (await node.call("ROLE"))[0] != b"master":
                continue
            for line in (await node.call("CLUSTER", "NODES")).splitlines():
                if b"myself" in line and serves(line, slot):
                    return node
        raise LookupError(slot)


def serves(line: bytes, slot: int) -> bool:
    """Whether a line of CLUSTER NODES lists the slot."""
    for part in line.decode().split()[8:]:
        first, _, last = part.partition("-")
        if not part.startswith("[") and int(first) <= slot <= int(last or first):
            return True
    return False


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(ClusterNode(tmp_path / f"node{n}", binary=BUNDLED))
            for n in range(6)
        ]
        made = Cluster(nodes)
        await made.form()
        yield made


async def test_a_worker_follows_a_failed_over_shard(cluster: Cluster) -> None:
    """The account's primary is killed under load; its replica's account is worked on."""
    lost = await cluster.owner()
    heir = cluster.nodes[cluster.nodes.index(lost) + 3]
    before, after = Account(lost.url), Account(heir.url)
    async with working(configuration(cluster.url)) as worker:
        for number in range(20):
            await before.send(f"a-{number}", symbol=f"AA{number}/USDT")
        await before.end("a-0")
        assert worker.backing.address == f"127.0.0.1:{lost.port}"
        lost.kill()

        async def promoted() -> bool:
            with contextlib.suppress(RedisConnectionError):
                return bool((await heir.call("ROLE"))[0] == b"master")
            return False

        await until(promoted, what="the replica has taken over", timeout_s=15)
        for number in range(10):
            await after.send(f"b-{number}", symbol=f"AB{number}/USDT")
        ends = [await after.end(f"b-{number}") for number in range(10)]
        assert {end["type"] for end in ends} == {"OrderFilled"}
        await after.quiet()
        orders = await after.events("orders")
        assert len({event["event_id"] for event in orders}) == len(orders)
        assert worker.backing.address == f"127.0.0.1:{heir.port}"
    await before.close()
    await after.close()


async def test_a_worker_follows_its_slot(cluster: Cluster) -> None:
    """The account moves to another primary under load: nothing lost, nothing twice."""
    source = await cluster.owner()
    target = next(node for node in cluster.nodes[:3] if node is not source)
    before, after = Account(source.url), Account(target.url)
    names = [f"a-{number}" for number in range(40)]
    async with working(configuration(cluster.url)) as worker:
        for number, name in enumerate(names):
            await before.send(name, symbol=f"AA{number}/USDT", expires_at=from_now(hours=1))
        await before.end(names[0])
        await move_slot(source, target, cluster)
        await after.send("b", symbol="ETH/USDT")
        names.append("b")
        ends = [await after.end(name) for name in names]
        assert {end["type"] for end in ends} == {"OrderFilled"}
        await after.quiet()
        orders = await after.events("orders")
        assert len({event["event_id"] for event in orders}) == len(orders) == 82
        assert len(await after.events("positions")) == 41
        assert worker.backing.address == f"127.0.0.1:{target.port}"
    await before.close()
    await after.close()


async def move_slot(source: ClusterNode, target: ClusterNode, cluster: Cluster) -> None:
    """What ``CLUSTER SETSLOT``'s documentation says, key by key."""
    slot = await source.call("CLUSTER", "KEYSLOT", SIGNALS)
    source_id, target_id = [await node.call("CLUSTER", "MYID") for node in (source, target)]
    await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := await source.call("CLUSTER", "GETKEYSINSLOT", slot, 10):
        await source.call(
            "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "REPLACE", "KEYS", *keys
        )
    await target.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    await source.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    for node in cluster.nodes[:3]:
        await node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)


# --- socket and users ---


async def test_a_unix_socket(tmp_path: Path) -> None:
    """``unix://``: no port is used."""
    socket = tmp_path / "s"
    with EmbeddedServer(binary=BUNDLED, arguments=("--unixsocket", str(socket))) as server:
        async with fleet_on(server.url) as fleet:
            ledger = fleet.join("w1", config=RedisConfig(url=Secret(f"unix://{socket}?db=0")))
            await fleet.send("a")
            await commit(ledger, filled(await take_one(ledger), reservation=""))
            clients = await fleet.redis.client_list()
            mine = [one for one in clients if one["name"] == "w1"]
            assert mine
            assert all(str(socket) in one["addr"] for one in mine)


async def test_a_database_of_its_own(tmp_path: Path) -> None:
    """The number in the URL is used: nothing lands in database 0."""
    with EmbeddedServer(binary=BUNDLED, directory=tmp_path) as server:
        url = server.url.replace("/0", "/3")
        async with fleet_on(url) as fleet:
            await fleet.send("a")
            assert len(await take(fleet["w1"])) == 1
        assert await call(server.url, "DBSIZE") == 0


#: What a worker of account ``main`` needs, and nothing else.
RIGHTS = ("~{main}:*", "-@all", "+@read", "+@write", "+@stream", "+@scripting", "+@connection",
          "+wait", "+info", "+time", "-@dangerous", "+info")  # fmt: skip


async def test_a_user_with_just_enough_rights(tmp_path: Path) -> None:
    """Everything from claim to leave, as a user that can reach no other account."""
    with EmbeddedServer(binary=BUNDLED, directory=tmp_path) as server:
        await call(server.url, "ACL", "SETUSER", "worker", "on", ">pass word", *RIGHTS)
        async with fleet_on(server.url) as fleet:
            url = f"redis://worker:pass%20word@127.0.0.1:{server.port}/0"
            ledger = fleet.join("w1", config=RedisConfig(url=Secret(url)))
            await ledger.ensure_group()
            await fleet.send("a")
            (delivery,) = (await ledger.claim(5)).deliveries
            await admit(ledger, delivery)
            await ledger.heartbeat([(delivery.entry_id, delivery.token)], b"{}")
            assert (await ledger.elect(1_000)).elected
            await commit(ledger, filled(delivery))
            await ledger.sweep(0)
            assert (await ledger.account()).open_positions == 1
            assert await ledger.leave() == 0
            users = {one["user"] for one in await fleet.redis.client_list() if one["name"] == "w1"}
            assert users == {"worker"}


# --- TLS ---


def certificate(directory: Path, name: str, signer: Any = None) -> Any:
    """A certificate for 127.0.0.1, its files under ``name``; self-signed without a signer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[1].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
    )
    made = builder.sign(signer[0] if signer else key, hashes.SHA256())
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    (directory / f"{name}.crt").write_bytes(made.public_bytes(pem))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(pem, private, serialization.NoEncryption())
    )
    return key, made


def tls_binary() -> str | None:
    """An installed server that can speak TLS."""
    binary = shutil.which("redis-server")
    if binary is None:
        return None
    port = str(free_port())
    probe = subprocess.run(
        [binary, "--port", "0", "--tls-port", port, "--tls-cert-file", "/nonexistent"],
        capture_output=True, timeout=10, check=False,
    )  # fmt: skip
    return binary if b"configure TLS" in probe.stdout + probe.stderr else None


TLS_BINARY = tls_binary()


@pytest.mark.skipif(TLS_BINARY is None, reason="no installed server speaks TLS")
async def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    """Trusted and known: served. An unknown authority, or no certificate of ours: refused."""
    authority = certificate(tmp_path, "authority")
    certificate(tmp_path, "server", authority)
    certificate(tmp_path, "client", authority)
    certificate(tmp_path, "stranger")
    port = free_port()
    arguments = (
        "--tls-port", str(port),
        "--tls-cert-file", str(tmp_path / "server.crt"),
        "--tls-key-file", str(tmp_path / "server.key"),
        "--tls-ca-cert-file", str(tmp_path / "authority.crt"),
        "--tls-auth-clients", "yes",
    )  # fmt: skip
    with EmbeddedServer(binary=TLS_BINARY, arguments=arguments) as server:
        async with fleet_on(server.url) as fleet:

            def over_tls(authority: str, own: str | None) -> Any:
                config = RedisConfig(
                    url=Secret(f"rediss://127.0.0.1:{port}/0"),
                    tls_ca_file=str(tmp_path / f"{authority}.crt"),
                    tls_cert_file=str(tmp_path / f"{own}.crt") if own else "",
                    tls_key_file=str(tmp_path / f"{own}.key") if own else "",
                )
                return fleet.join("w1", config=config, patience_s=0.0)

            await fleet.send("a")
            trusted = over_tls("authority", "client")
            await commit(trusted, filled(await take_one(trusted), reservation=""))
            for authority_name, own in (("stranger", "client"), ("authority", None)):
                with pytest.raises(LedgerError):
                    await over_tls(authority_name, own).claim(1)


async def test_a_server_that_comes_and_goes_while_many_wait(tmp_path: Path) -> None:
    """Thirty calls at once over three restarts: each ends as it should, none hangs."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    with EmbeddedServer(binary=BUNDLED, directory=tmp_path, arguments=arguments) as server:
        async with fleet_on(server.url) as fleet:
            ledger = fleet.join("w1", patience_s=10.0)
            await fleet.send_all(str(n) for n in range(90))
            for _ in range(3):
                deliveries = await take(ledger, 30)
                calls = [
                    asyncio.ensure_future(
                        ledger.commit([filled(one, f"s-{one.entry_id}", reservation="")])
                    )
                    for one in deliveries
                ]
                await asyncio.sleep(0)
                server.kill()
                server.start()
                await asyncio.wait_for(asyncio.gather(*calls), 20)
            await fleet.redis.connection_pool.disconnect()
            assert len(await fleet.stream("orders")) == 90
            assert await fleet.pending() == {}
