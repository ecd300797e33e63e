"""redis.conf keeps what it promises on real servers: nothing lost, nothing evicted, TLS alone."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deploy import ledger_jobs
from tests.deploy.redis_servers import KINDS, REDIS, binary, make_users
from tests.deploy.tools import changed, run, said, tool
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.trading_state import TradingState
from worker.ledger.errors import LedgerError
from worker.ledger.script_source import NAMES
from worker.ledger.script_source import source as script_text
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import free_port

#: Without any one of these an order could be forgotten, or the door would be open.
WANTED: Final = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
    "stop-writes-on-bgsave-error": "yes",
    "aclfile": "/etc/redis/users.acl",
    "protected-mode": "yes",
    "enable-debug-command": "no",
    "min-replicas-to-write": "1",
    "tls-auth-clients": "yes",
}


def problems(directory: Path) -> list[str]:
    """The settings of a copy of deploy/redis that are not what they must be."""
    found: dict[str, str] = {}
    for file in sorted(directory.glob("*.conf")):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            found[name] = value
    return [f"{k} is {found.get(k)}" for k, v in WANTED.items() if found.get(k) != v]


def test_the_settings_that_matter_are_there() -> None:
    """Durability, no eviction, an ACL file and closed doors: all set, each to its safe value."""
    assert problems(REDIS) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("redis.conf", "appendonly yes", "appendonly no"),
        ("redis.conf", "appendfsync everysec", "appendfsync no"),
        ("redis.conf", "noeviction", "allkeys-lru"),
        ("redis.conf", "aclfile", "#aclfile"),
        ("replicated.conf", "min-replicas-to-write 1", "min-replicas-to-write 0"),
        ("tls.conf", "tls-auth-clients yes", "tls-auth-clients optional"),
    ],
)
def test_a_weakened_setting_is_found(tmp_path: Path, file: str, old: str, new: str) -> None:
    """Each of them weakened in a copy fails the check."""
    for source in REDIS.glob("*.conf"):
        changed(source, tmp_path / source.name, [(old, new)] if source.name == file else [])
    assert len(problems(tmp_path)) == 1


class Installed:
    """The files under deploy/redis as an installation has them, below a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make_users(directory)
        for source in REDIS.glob("*.conf"):
            text = source.read_text().replace("/etc/redis", str(directory))
            text = text.replace("dir /data", f"dir {directory}")
            (directory / source.name).write_text(text)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, kind: str, file: str, *arguments: str, port: int | None = None) -> int:
        """Start a server from one of the files; returns its port."""
        port = port or free_port()
        data = self.directory / f"data-{port}"
        data.mkdir(exist_ok=True)
        command = [binary(kind), str(self.directory / file), "--dir", str(data), *arguments]
        if "tls.conf" not in " ".join(arguments):
            command += ["--port", str(port)]
        self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return port

    def kill(self) -> None:
        """End every server as a crash does."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def password(self, user: str) -> str:
        return (self.directory / f"redis_{user}").read_text()

    def client(self, port: int, user: str) -> redis.Redis:
        return redis.Redis(
            port=port,
            username=user,
            password=self.password(user),
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    def config(self, url: str, user: str, **more: Any) -> Config:
        section = RedisConfig(
            url=Secret(url), username=user, password=Secret(self.password(user)), **more
        )
        return Config(redis=section)


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    """An installation whose servers end with the test."""
    installation = Installed(tmp_path)
    yield installation
    installation.kill()


def until(done: Callable[[], Any], *, seconds: float = 15) -> Any:
    """Ask until there is an answer other than a failure of the connection."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return done()
        except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _written(worker: Any) -> None:
    """Wait until the append-only file has everything."""
    deadline = time.monotonic() + 15
    while worker.info("persistence")["aof_buffer_length"]:
        assert time.monotonic() < deadline, "the append-only file still lacks entries"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_answered_survives_a_crash(installed: Installed, kind: str) -> None:
    """Killed with SIGKILL, the server comes back with every entry it has handed to the kernel.

    It does so before it answers, but for a disk so slow that the last fsync still runs.
    """
    port = installed.start(kind, "redis.conf")
    until(installed.client(port, "producer").ping)
    producer = installed.client(port, "producer")
    for number in range(200):
        producer.xadd("{main}:signals", {"data": str(number)})
    _written(installed.client(port, "worker"))
    installed.kill()
    installed.start(kind, "redis.conf", port=port)
    reader = installed.client(port, "reader")
    until(reader.ping)
    assert reader.xlen("{main}:signals") == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_server_refuses_signals_and_still_lets_go(installed: Installed, kind: str) -> None:
    """Out of memory nothing is evicted, new signals are refused, and trading can be halted."""
    port = installed.start(kind, "redis.conf", "--maxmemory", "4mb")
    producer = installed.client(port, "producer")
    until(producer.ping)
    for name in NAMES:  # as workers do when they connect
        installed.client(port, "worker").script_load(script_text(name))
    producer.xadd("{main}:signals", {"data": "first"})
    filling = producer.pipeline(transaction=False)
    for _ in range(1_000):
        filling.xadd("{main}:signals", {"data": "x" * 20_000})
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        filling.execute()
    reader = installed.client(port, "reader")
    first = reader.xrange("{main}:signals", count=1)
    assert first, "everything was evicted"
    assert first[0][1] == {b"data": b"first"}, "the oldest entry was evicted"
    config = installed.config(f"redis://127.0.0.1:{port}/0", "operator")
    assert asyncio.run(_halt(config)) is TradingState.ACTIVE
    assert reader.hget("{main}:control", "trading_state") == b"HALTED"


async def _halt(config: Config) -> TradingState:
    async with AccountReader(config) as reader:
        return (await reader.trading.ask(TradingState.HALTED, reason="full", actor="test")).before


@pytest.mark.parametrize("kind", KINDS)
def test_a_primary_without_replicas_takes_no_orders(installed: Installed, kind: str) -> None:
    """By replicated.conf a primary nobody follows refuses writes; with a replica it takes them."""
    auth = ("--masterauth", installed.password("replica"))
    port = installed.start(kind, "replicated.conf", *auth)
    producer = installed.client(port, "producer")
    until(producer.ping)
    with pytest.raises(redis.exceptions.ResponseError, match=r"NOREPLICAS|Not enough"):
        producer.xadd("{main}:signals", {"data": "{}"})
    follower = installed.start(kind, "replicated.conf", *auth, "--replicaof", f"127.0.0.1 {port}")
    deadline = time.monotonic() + 20
    while True:
        try:
            producer.xadd("{main}:signals", {"data": "{}"})
            break
        except redis.exceptions.ResponseError:
            assert time.monotonic() < deadline, "the replica never counted"
            time.sleep(0.05)
    reader = installed.client(follower, "reader")
    while reader.xlen("{main}:signals") != 1:
        assert time.monotonic() < deadline, "the replica never got the entry"
        time.sleep(0.02)


# --- TLS ---


def _certificates(directory: Path) -> None:
    """An authority, and certificates of a server, of a client, and of a server elsewhere."""
    openssl = tool("openssl")

    def made(*arguments: str) -> None:
        result = run(openssl, *arguments, cwd=directory)
        assert result.returncode == 0, said(result)

    for authority in ("ca", "stranger"):
        made("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-days", "2",
             "-subj", f"/CN={authority}")  # fmt: skip
    for name, host in (("tls", "IP:127.0.0.1"), ("client", "DNS:worker"), ("other", "DNS:other")):
        made("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
             "-addext", f"subjectAltName={host}")  # fmt: skip
        made("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
             "-CAcreateserial", "-out", f"{name}.crt", "-days", "2",
             "-copy_extensions", "copy")  # fmt: skip


@pytest.fixture
def tls(installed: Installed) -> Path:
    """Certificates where tls.conf looks for them."""
    directory = installed.directory / "tls"
    directory.mkdir()
    _certificates(directory)
    return directory


def _start_with_tls(installed: Installed) -> int:
    port = free_port()
    include = str(installed.directory / "tls.conf")
    text = Path(include).read_text().replace("tls-port 6379", f"tls-port {port}")
    Path(include).write_text(text)
    installed.start("redis", "redis.conf", "--include", include, port=port)
    return port


def test_a_worker_works_over_tls(installed: Installed, tls: Path) -> None:
    """With tls.conf the whole of the ledger runs over rediss:// with a client certificate."""
    port = _start_with_tls(installed)
    options = {
        "tls_ca_file": str(tls / "ca.crt"),
        "tls_cert_file": str(tls / "client.crt"),
        "tls_key_file": str(tls / "client.key"),
    }
    url = f"rediss://127.0.0.1:{port}/0"
    producer = installed.config(url, "producer", **options)
    worker = installed.config(url, "worker", **options)
    _once_up(lambda: ledger_jobs.work(worker, producer))

    for broken in (
        {"tls_ca_file": str(tls / "stranger.crt")},
        {"tls_cert_file": "", "tls_key_file": ""},
    ):
        section = msgspec.structs.replace(producer.redis, **broken)
        with pytest.raises(LedgerError):
            asyncio.run(ledger_jobs.produce(Config(redis=section), ("a",)))
    plain = installed.config(f"redis://127.0.0.1:{port}/0", "producer")
    with pytest.raises(LedgerError):
        asyncio.run(ledger_jobs.produce(plain, ("a",)))


def test_a_certificate_of_another_host_is_refused(installed: Installed, tls: Path) -> None:
    """A server whose certificate names another host gets no password and no signal."""
    for end in ("crt", "key"):
        (tls / f"tls.{end}").write_bytes((tls / f"other.{end}").read_bytes())
    port = _start_with_tls(installed)
    config = installed.config(
        f"rediss://127.0.0.1:{port}/0",
        "producer",
        tls_ca_file=str(tls / "ca.crt"),
        tls_cert_file=str(tls / "client.crt"),
        tls_key_file=str(tls / "client.key"),
    )
    with pytest.raises(LedgerError, match=r"(?i)certificate|hostname|127\.0\.0\.1"):
        _once_up(lambda: ledger_jobs.produce(config, ("a",)))


def _once_up(job: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Do the job as soon as something listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            asyncio.run(job())
        except LedgerError as error:
            if "Connect call failed" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
