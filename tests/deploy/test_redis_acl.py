"""Each user of Redis can do its whole job and nothing else, on real servers."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.asyncio import Redis

from tests.deploy import acl, ledger_jobs
from tests.deploy.redis_servers import KINDS, REDIS, USERS, Server, make_users, serving
from tests.deploy.tools import ROOT, changed, said
from worker.client import SignalProducer, new_signal, unique_events
from worker.ledger.errors import LedgerError, LedgerRefusedError
from worker.ledger.script_source import NAMES

TEMPLATE: Final = REDIS / "users.acl.template"
ROOT_USER: Final = "user root on >root ~* &* +@all\n"
#: Sub-keys of every kind the account has, and one of a stranger's.
KEYS: Final = (
    "signals", "orders", "positions", "system", "dead", "control", "bell", "book", "leases",
    "record:x", "entries", "workers", "keeper", "epoch", "replayed:1-1", "verdicts", "totals",
    "realized", "day:1",
)  # fmt: skip


@pytest.fixture(params=KINDS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with the project's users, and an administrator for the tests."""
    file = make_users(tmp_path_factory.mktemp("acl"))
    file.chmod(0o600)
    file.write_text(file.read_text() + ROOT_USER)
    (file.parent / "redis_root").write_text("root")
    with serving(request.param, file) as running:
        yield running


@pytest.fixture
def clean(server: Server) -> Server:
    """The server with nothing in it."""
    server.client("root").flushall()
    return server


class Commands:
    """Every command and subcommand of a server: its flags and how many words it takes."""

    def __init__(self, client: redis.Redis) -> None:
        self.flags: dict[str, frozenset[str]] = {}
        self.arity: dict[str, int] = {}
        client.set_response_callback("COMMAND", lambda reply, **_: reply)
        for info in client.execute_command("COMMAND"):
            self._note(info)

    def _note(self, info: Any) -> None:
        for sub in info[9]:
            self._note(sub)
        if info[9]:
            return  # only a way to name its subcommands
        name = info[0].decode().lower()
        self.flags[name] = frozenset(flag.decode() for flag in info[2])
        self.arity[name] = abs(info[1])


@pytest.fixture(scope="module")
def commands(server: Server) -> Commands:
    """The server's commands."""
    return Commands(server.client("root"))


def do(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a job on a loop of its own."""
    return asyncio.run(work)


def worked(server: Server) -> set[str]:
    """The worker's whole job; which scripts it ran."""
    found = do(ledger_jobs.work(server.config("worker"), server.config("producer")))
    assert isinstance(found, set)
    return found


# --- what each may do ---


def test_the_worker_can_do_everything_the_ledger_does(clean: Server) -> None:
    """As the user `worker`, every script of the fleet runs, branch by branch."""
    assert worked(clean) == set(NAMES) - {"correct", "decide", "mend_stream", "replay"}


def test_the_reader_can_read_everything(clean: Server) -> None:
    """As `reader`: status, positions, a signal's story, dead letters, all streams, KEDA's calls."""
    worked(clean)
    do(ledger_jobs.read(clean.config("reader")))
    do(_autoscale(clean))


async def _autoscale(server: Server) -> None:
    client = Redis(port=server.port, username="reader", password=server.password("reader"))
    try:
        await ledger_jobs.autoscale(client)
    finally:
        await client.aclose()


def test_the_operator_can_steer(clean: Server) -> None:
    """As `operator`: all a reader may, and everything that a person decides."""
    worked(clean)
    do(ledger_jobs.operate(clean.config("operator")))
    users = [clean.config(user) for user in ("worker", "producer", "operator")]
    do(ledger_jobs.decide(*users))
    clean.client("root").xadd("{main}:dead", {"data": "x", "reason": "r"})
    do(ledger_jobs.discard(clean.config("operator")))


def test_the_admin_can_mend_every_stream(clean: Server) -> None:
    """As `admin`: streams with work under way, all of it under ids ahead of the clock."""
    worked(clean)
    do(ledger_jobs.mend(*(clean.config(user) for user in ("worker", "producer", "admin"))))


def test_the_client_library_gets_by_with_these_users(clean: Server) -> None:
    """The producer's client sends as `producer`; its consumer follows all events as `reader`."""
    with SignalProducer(redis=clean.config("producer").redis) as producer:
        first = new_signal(
            "c-1", "paper", "BTC/USDT", direction="long", strength=1, confluence_score=9
        )
        assert producer.send(first)
        assert producer.send(first), "sending again is no error"
    event = {"type": "SystemError", "id": "e-1", "subject": "", "data": "{}"}
    for _ in range(2):
        clean.client("worker").xadd("{main}:system", event)  # type: ignore[arg-type]

    async def follow() -> str:
        events = unique_events(redis=clean.config("reader").redis, from_id="0")
        received = await anext(events)
        await events.aclose()
        return received.type

    assert do(asyncio.wait_for(follow(), 10)) == "SystemError"


@pytest.mark.parametrize(
    ("user", "arguments"),
    [
        ("reader", ["status", "--json"]),
        ("reader", ["check"]),
        ("worker", ["check"]),
        ("operator", ["check"]),
        ("reader", ["positions", "--json"]),
        ("operator", ["halt", "--reason", "rehearsal"]),
        ("operator", ["resume"]),
        ("operator", ["flatten", "--reason", "rehearsal", "--timeout", "5"]),
        ("operator", ["dead", "list"]),
        ("reader", ["dead", "list", "--count"]),
        ("operator", ["dead", "discard", "--all"]),
        ("admin", ["mend-stream"]),
    ],
)
def test_the_commands_get_by_with_these_users(
    clean: Server, user: str, arguments: list[str]
) -> None:
    """The command line's own commands, run as the user that the deployment guide names."""
    if "flatten" not in arguments:
        worked(clean)  # it leaves an order under way, for which flattening would wait
    environ = {
        "WORKER_REDIS__URL": f"redis://127.0.0.1:{clean.port}/0",
        "WORKER_REDIS__USERNAME": user,
        "WORKER_REDIS__PASSWORD": clean.password(user),
    }
    result = subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, said(result)


def test_a_revoked_command_is_missed(clean: Server, commands: Commands) -> None:
    """Take any one command from the worker and its job fails: nothing is granted in reserve."""
    admin = clean.client("root")
    granted = acl.parse(TEMPLATE.read_text())["worker"].commands
    unneeded = []
    for command in sorted(granted):
        if command in commands.flags:
            admin.flushall()
            admin.script_flush()
            admin.execute_command("ACL", "SETUSER", "worker", f"-{command}")
            try:
                worked(clean)
            except (LedgerError, AssertionError):
                pass
            else:
                unneeded.append(command)
            finally:
                admin.execute_command("ACL", "SETUSER", "worker", f"+{command}")
    assert not unneeded
    admin.flushall()
    worked(clean)


# --- what none may do ---


def test_each_is_granted_exactly_these_commands(server: Server, commands: Commands) -> None:
    """Asked for every command it knows, the server lets each user run those of the file alone."""
    admin = server.client("root")
    connection = {name for name in commands.flags if _runs(admin, commands, "replica_like", name)}
    for name, user in acl.parse(TEMPLATE.read_text()).items():
        allowed = {each for each in commands.flags if _runs(admin, commands, name, each)}
        expected = {each for each in user.commands if each in commands.flags}
        expected |= {each for selector in user.selectors for each in selector.commands}
        if "+@connection" in user.categories:
            expected |= connection
        # Signing in is open to everybody: that is how one becomes a user.
        always = {"auth", "hello", "quit", "reset"}
        assert allowed - always == expected - always, name


@pytest.fixture(scope="module", autouse=True)
def _connection_user(server: Server) -> None:
    """A user of the category alone, to learn what a server counts to it."""
    server.client("root").execute_command(
        "ACL", "SETUSER", "replica_like", "on", "nopass", "-@all", "+@connection", "-@dangerous"
    )


def _runs(admin: redis.Redis, commands: Commands, user: str, command: str) -> bool:
    """Whether the server would let ``user`` run ``command``, whatever the keys."""
    words = command.split("|")
    fill = ["1"] * max(commands.arity[command] - len(words), 0)
    try:
        answer = admin.execute_command("ACL DRYRUN", user, *words, *fill)
    except redis.ResponseError as error:
        if "wrong number" in str(error):
            raise
        return True  # it stumbled over the made-up arguments, not over the right
    text = answer.decode() if isinstance(answer, bytes) else str(answer)
    return "no permissions to run" not in text


@pytest.mark.parametrize(
    ("user", "writable"),
    [
        ("producer", {"signals"}),
        ("worker", set(KEYS)),
        ("reader", set()),
        (
            "operator",
            {
                "signals",
                "control",
                "system",
                "bell",
                "dead",
                "replayed:1-1",
                "verdicts",
                "book",
                "positions",
                "totals",
                "realized",
                "day:1",
            },
        ),
        ("admin", set(KEYS)),
        ("metrics", set()),
        ("replica", set()),
    ],
)
def test_each_writes_to_its_own_keys_only(server: Server, user: str, writable: set[str]) -> None:
    """Each user can change only the keys of its job, and none of another account."""
    admin = server.client("root")
    found = set()
    for key in KEYS:
        for account in ("{main}", "{other}"):
            if _changes(admin, user, f"{account}:{key}"):
                assert account == "{main}", f"{user} reaches {account}:{key}"
                found.add(key)
    assert found == writable


def _changes(admin: redis.Redis, user: str, key: str) -> bool:
    attempts = (
        ("XADD", key, "*", "a", "b"), ("XDEL", key, "1-1"), ("XTRIM", key, "MAXLEN", "0"),
        ("HSET", key, "a", "b"), ("SET", key, "1"), ("DEL", key), ("ZADD", key, "1", "a"),
        ("RPUSH", key, "a"), ("EXPIRE", key, "1"), ("RENAME", key, key), ("COPY", key, key),
    )  # fmt: skip
    return any(admin.execute_command("ACL DRYRUN", user, *words) == b"OK" for words in attempts)


def test_a_script_cannot_do_what_its_caller_may_not(clean: Server) -> None:
    """EVAL gives no rights: a reader's and an operator's script is stopped at the first write."""
    for user, body in (
        ("reader", "return redis.call('XADD', KEYS[1], '*', 'a', 'b')"),
        ("reader", "return redis.call('HSET', '{main}:control', 'trading_state', 'ACTIVE')"),
        ("operator", "return redis.call('HSET', '{main}:entries', 'a', 'b')"),
        ("operator", "return redis.call('XADD', '{main}:orders', '*', 'a', 'b')"),
        ("worker", "return redis.call('SET', '{other}:keeper', 'me')"),
        ("worker", "return redis.call('KEYS', '*')"),
    ):
        with pytest.raises(
            redis.ResponseError,
            match=r"can't run this command|can't access|denied|NOPERM|permission",
        ):
            clean.client(user).eval(body, 1, "{main}:signals")
    assert not clean.client("root").keys("*")


def test_the_producer_cannot_read_or_run_anything(clean: Server) -> None:
    """A stolen producer's password appends signals, and that is all it does."""
    producer = clean.client("producer")
    assert producer.xadd("{main}:signals", {"data": "{}"})
    for words in (
        ("XRANGE", "{main}:signals", "-", "+"), ("XREAD", "STREAMS", "{main}:orders", "0"),
        ("EVAL", "return 1", "0"), ("GET", "{main}:keeper"), ("XLEN", "{main}:signals"),
        ("KEYS", "*"), ("INFO",), ("SUBSCRIBE", "x"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "x"),
    ):  # fmt: skip
        with pytest.raises(redis.exceptions.NoPermissionError):
            producer.execute_command(*words)


@pytest.mark.parametrize("user", ["default", *USERS])
def test_nobody_comes_in_with_a_wrong_password(server: Server, user: str) -> None:
    """No user, the default one included, is let in without its password."""
    for password in ("", "wrong", f"@{user}@"):
        with pytest.raises(redis.exceptions.RedisError):
            server.stranger(user, password).ping()
    with pytest.raises(redis.exceptions.AuthenticationError):
        server.stranger(None, None).ping()


def test_the_worker_names_a_refusal(clean: Server) -> None:
    """A right that is missing is a refusal for good, not something to wait for."""
    admin = clean.client("root")
    admin.execute_command("ACL", "SETUSER", "worker", "-xgroup|create")
    try:
        with pytest.raises(LedgerRefusedError, match="refuses"):
            worked(clean)
    finally:
        admin.execute_command("ACL", "SETUSER", "worker", "+xgroup|create")


# --- the file itself ---


def test_the_file_grants_what_the_code_sends(commands: Commands) -> None:
    """The template's commands are those of the scripts and calls in the code, no more, no fewer."""
    assert acl.problems(TEMPLATE, commands.flags) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (" +zscore", "", r"worker needs \+zscore"),
        (" +wait", " +wait +flushall", r"worker does not need \+flushall"),
        (" +zintercard", "", r"reader needs \+zintercard"),
        (" +xread ", " +xread +xadd ", r"reader does not need \+xadd"),
        (" +xadd +xtrim +xdel", " +xadd +xtrim", r"operator needs \+xdel"),
        ("user default off", "user default on", "the default user must be off"),
        ("~{@account@}:* -@all", "~* -@all", "worker is not confined"),
        ("-@dangerous +xadd", "+xadd", "producer has the categories"),
        ("on #@producer@", "on nopass", "producer is not confined"),
        ("#@operator@", "#@worker@", "operator has no password of its own"),
        ("user metrics", "user grafana", "users are"),
    ],
)
def test_a_broken_line_is_found(
    commands: Commands, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """Each way of granting too much or too little makes the check of a copy fail."""
    broken = changed(TEMPLATE, tmp_path / "users.acl.template", [(old, new)])
    assert re.search(sentence, "\n".join(acl.problems(broken, commands.flags)))


def test_passwords_are_kept_and_differ(tmp_path: Path) -> None:
    """Running make_users.sh again changes nothing; a deleted password is replaced, alone."""
    file = make_users(tmp_path / "s", "desk-2")
    before = {user: (tmp_path / "s" / f"redis_{user}").read_text() for user in USERS}
    text = file.read_text()
    assert "{desk-2}:signals" in text
    assert "@" not in re.sub(r"[+-]@\w+", "", text), "a placeholder was left"
    assert len(set(before.values())) == len(USERS)
    assert all(len(password) == 64 for password in before.values())
    assert not any(password in text for password in before.values())
    make_users(tmp_path / "s", "desk-2")
    assert file.read_text() == text
    (tmp_path / "s" / "redis_reader").unlink()
    make_users(tmp_path / "s", "desk-2")
    after = {user: (tmp_path / "s" / f"redis_{user}").read_text() for user in USERS}
    assert {user for user in USERS if before[user] != after[user]} == {"reader"}


def test_one_account_cannot_touch_another(tmp_path: Path) -> None:
    """Users made for one account reach no key of another."""
    with serving("valkey", make_users(tmp_path / "s", "desk-2")) as server:
        assert server.client("producer").xadd("{desk-2}:signals", {"data": "{}"})
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.client("producer").xadd("{main}:signals", {"data": "{}"})
