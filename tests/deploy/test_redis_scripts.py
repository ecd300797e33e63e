"""Scripts under the shipped users: workers load them, people get by, and `admin` ends one."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.deploy import acl, ledger_jobs
from tests.deploy.processes import WorkerProcess, until
from tests.deploy.redis_servers import KINDS, Server, make_users, serving
from tests.deploy.tools import ROOT, said
from worker.config.keys import Config
from worker.domain.trading_state import TradingState
from worker.ledger.script_source import NAMES, source
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import free_port

TESTER = "user tester on >tester ~* &* +@all\n"
DIGESTS = [sha1(source(name).encode(), usedforsecurity=False).hexdigest() for name in NAMES]


def users_of(directory: Path) -> Path:
    """The project's users, and one for the tests."""
    file = make_users(directory)
    file.chmod(0o600)
    file.write_text(file.read_text() + TESTER)
    (directory / "redis_tester").write_text("tester")
    return file


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that has never seen a script."""
    with serving(request.param, users_of(tmp_path / "s"), "--busy-reply-threshold", "200") as it:
        yield it


def command(server: Server, user: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a user of Redis."""
    environ = {
        "WORKER_REDIS__URL": f"redis://127.0.0.1:{server.port}/0",
        "WORKER_REDIS__USERNAME": user,
        "WORKER_REDIS__PASSWORD": server.password(user),
    }
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def told(server: Server) -> list[tuple[str, str]]:
    """Every change of the trading state that the stream `system` has."""
    entries: Any = server.client("tester").xrange("{main}:system")
    changes = [
        json.loads(fields[b"data"])
        for _, fields in entries
        if fields[b"type"] == b"TradingStateChanged"
    ]
    return [(change["previous"], change["trading_state"]) for change in changes]


def test_halting_needs_no_worker(server: Server) -> None:
    """On a Redis without scripts and without workers a person halts and resumes all the same."""
    tester = server.client("tester")
    for words, state in ((("halt", "--reason", "now"), "HALTED"), (("resume",), "ACTIVE")):
        for _ in range(2):
            done = command(server, "operator", *words)
            assert done.returncode == 0, said(done)
            assert tester.hget("{main}:control", "trading_state") == state.encode()
    assert told(server) == [("ACTIVE", "HALTED"), ("HALTED", "ACTIVE")], "each is told once"
    assert tester.hget("{main}:control", "reason") != b"now"
    assert tester.xlen("{main}:bell") == 1
    assert tester.script_exists(*DIGESTS) == [False] * len(DIGESTS)


def test_without_scripts_nobody_is_overwritten(server: Server) -> None:
    """Several ask at once: the state has what all of them ask for, with one event of each."""
    actors = [f"p{number}" for number in range(5)]

    async def ask(actor: str) -> None:
        async with AccountReader(server.config("operator")) as reader:
            await reader.trading.ask(TradingState.REDUCING, reason="now", actor=actor)
            await reader.trading.ask(TradingState.REDUCING, reason="now", actor=actor)

    async def ask_all() -> None:
        await asyncio.gather(*map(ask, actors))

    asyncio.run(ask_all())
    tester = server.client("tester")
    asks: Any = tester.hget("{main}:control", "asks")
    assert sorted(ask["asker"] for ask in json.loads(asks)) == actors
    entries: Any = tester.xrange("{main}:system")
    assert len({fields[b"id"] for _, fields in entries}) == len(entries) >= len(actors)
    assert tester.script_exists(*DIGESTS) == [False] * len(DIGESTS)


def test_other_commands_say_that_a_worker_is_needed(server: Server) -> None:
    """A script that is not there: one sentence on what is the matter and what to do."""
    letter = server.client("tester").xadd("{main}:dead", {"data": "x", "reason": "malformed"})
    assert isinstance(letter, bytes)
    done = command(server, "operator", "dead", "replay", letter.decode())
    assert done.returncode == 1
    assert "does not have the script replay" in done.stderr
    assert "start a worker" in done.stderr
    assert "Traceback" not in done.stderr
    server.client("tester").hset("{main}:book", "paper:A/B", ledger_jobs.POSITION)
    correction = ("correct", "paper", "A/B", "--quantity", "0", "--price", "1", "--reason", "r")
    book = server.client("tester").hgetall("{main}:book")
    refused = command(server, "operator", *correction)
    assert refused.returncode == 1
    assert server.client("tester").hgetall("{main}:book") == book


@pytest.mark.slow
def test_workers_load_every_script(server: Server, tmp_path: Path) -> None:
    """At the start, after a flush, after a restart of Redis: those of operators too."""
    tester = server.client("tester")

    def are_loaded() -> bool:
        try:
            return all(tester.script_exists(*DIGESTS))
        except redis.RedisError:
            return False

    settings = {"REDIS__USERNAME": "worker", "REDIS__PASSWORD": server.password("worker")}
    url = f"redis://127.0.0.1:{server.port}/0"
    worker = WorkerProcess(url, tmp_path / "worker.log", settings)
    try:
        until(worker.ready, "the worker is ready")
        assert are_loaded()
        tester.script_flush()
        until(are_loaded, "they are loaded after a flush")
        server.embedded.kill()
        server.embedded.start()
        until(are_loaded, "they are loaded after a restart")
        until(worker.ready, "the worker is ready again")
        log = tester.execute_command("ACL LOG")
        assert not log, f"nobody was refused anything: {log}"
        for words in (("reduce", "--reason", "r"), ("resume",)):
            done = command(server, "operator", *words)
            assert done.returncode == 0, said(done)
        assert not tester.execute_command("ACL LOG")
        assert worker.stop() == 0
    finally:
        worker.kill()


def test_admin_ends_a_script_that_does_not_end(server: Server) -> None:
    """A stolen worker password stops Redis for everybody until `admin` kills the script."""
    thief = server.client("worker")
    digest = thief.script_load("while true do end")
    assert isinstance(digest, str)
    ended: list[BaseException] = []

    def run() -> None:
        thief.connection_pool.connection_kwargs["socket_timeout"] = None
        thief.connection_pool.reset()
        try:
            thief.evalsha(digest, 1, "{main}:signals")
        except redis.RedisError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:

        def is_busy() -> bool:
            try:
                server.client("reader").xlen("{main}:signals")
            except redis.exceptions.BusyLoadingError:
                return False
            except redis.ResponseError as error:
                return "BUSY" in str(error)
            return False

        until(is_busy, "everybody is answered with BUSY")
        for user in ("operator", "reader", "worker"):
            with pytest.raises(redis.ResponseError, match="permission"):
                server.client(user).script_kill()
        admin = server.client("admin")
        with pytest.raises(redis.ResponseError, match="BUSY"):
            admin.execute_command("FUNCTION", "KILL")
        assert admin.script_kill()
    finally:
        thread.join(10)
    assert not thread.is_alive()
    assert "killed" in str(ended[0]).lower()
    done = command(server, "operator", "halt", "--reason", "thief")
    assert done.returncode == 0, said(done)


def test_a_script_that_has_written_is_not_killed(server: Server) -> None:
    """As the runbook says: the process has to go, and nothing of the script is kept."""
    thief = server.client("worker")
    digest = thief.script_load("redis.call('SET', KEYS[1], '1') while true do end")
    assert isinstance(digest, str)

    def run() -> None:
        thief.connection_pool.connection_kwargs["socket_timeout"] = None
        thief.connection_pool.reset()
        with pytest.raises(redis.RedisError):
            thief.evalsha(digest, 1, "{main}:x")

    thread = threading.Thread(target=run)
    thread.start()

    def refusal() -> str:
        try:
            return str(server.client("admin").script_kill())
        except redis.ResponseError as error:
            return str(error)

    until(lambda: "UNKILLABLE" in refusal(), "it has written")
    server.embedded.kill()
    thread.join(10)
    server.embedded.start()
    assert server.client("tester").get("{main}:x") is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_users_work_in_a_cluster(kind: str, tmp_path: Path) -> None:
    """A cluster's client asks for commands and slots first: each program's user may."""
    cluster = (
        "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
        "--cluster-require-full-coverage", "no",
    )  # fmt: skip
    with serving(kind, users_of(tmp_path / "s"), *cluster) as server:
        tester = server.client("tester")
        tester.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until(lambda: tester.cluster("info")["cluster_state"] == "ok", "the cluster is one")

        def config(user: str) -> Config:
            return server.config(user, url=f"redis+cluster://127.0.0.1:{server.port}")

        ran = asyncio.run(ledger_jobs.work(config("worker"), config("producer")))
        assert ran == set(acl.SCRIPTS["worker"])
        asyncio.run(ledger_jobs.read(config("reader")))
        asyncio.run(ledger_jobs.operate(config("operator")))
        refused = [entry for entry in tester.acl_log() if "setinfo" not in str(entry["object"])]
        assert refused == []
