"""Each user of Redis can do its whole job and nothing else, on real servers."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.asyncio import Redis

from tests.deploy import acl, ledger_jobs
from tests.deploy.ledger_jobs import POSITION
from tests.deploy.redis_servers import KINDS, REDIS, USERS, Server, make_users, serving
from tests.deploy.tools import ROOT, changed, said
from worker.client import SignalProducer, new_signal, unique_events
from worker.ledger.errors import LedgerError, LedgerRefusedError, NotPermittedError, translate
from worker.ledger.redis_users import users_for
from worker.ledger.script_source import NAMES, source

TEMPLATE: Final = REDIS / "users.acl.template"
#: The tests' own user.
TESTER: Final = "user tester on >tester ~* &* +@all\n"
#: Sub-keys of every kind the account has, and one of a stranger's.
KEYS: Final = (
    "signals", "orders", "positions", "system", "dead", "control", "bell", "book", "leases",
    "record:x", "entries", "workers", "keeper", "epoch", "replayed:1-1", "verdicts", "totals",
    "realized", "day:1", "corrections", "corrected:1", "watched", "unresolved", "released",
    "throttle", "rate", "said", "key:x", "budget:x",
)  # fmt: skip
#: What everybody may do with a connection of his own, and what newer servers add to it.
CONNECTION: Final = frozenset(
    {"ping", "echo", "select", "client|setname", "client|getname", "client|id", "client|setinfo"}
)
NEWER_OF_CLIENT: Final = frozenset({"client|no-touch", "client|capa", "client|import-source"})


@pytest.fixture(params=KINDS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with the project's users, and one for the tests."""
    file = make_users(tmp_path_factory.mktemp("acl"))
    file.chmod(0o600)
    file.write_text(file.read_text() + TESTER)
    (file.parent / "redis_tester").write_text("tester")
    with serving(request.param, file) as running:
        yield running


@pytest.fixture
def clean(server: Server) -> Server:
    """The server with nothing in it."""
    server.client("tester").flushall()
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
    return Commands(server.client("tester"))


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
    assert worked(clean) == set(acl.SCRIPTS["worker"])


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
    clean.client("tester").xadd("{main}:dead", {"data": "x", "reason": "r"})
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
        ("reader", ["workers"]),
        ("reader", ["pnl"]),
        ("reader", ["signals"]),
        ("reader", ["orders"]),
        ("reader", ["limits"]),
        ("reader", ["balance"]),
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
    admin = clean.client("tester")
    granted = acl.parse(TEMPLATE.read_text())["worker"].commands - acl.CONNECTION - acl.CLUSTER
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
    admin = server.client("tester")
    connection = {name for name in commands.flags if name in CONNECTION}
    newer = {each for each in commands.flags if each.startswith("client|")} & NEWER_OF_CLIENT
    for name, user in acl.parse(TEMPLATE.read_text()).items():
        allowed = {each for each in commands.flags if _runs(admin, commands, name, each)}
        expected = {each for each in acl.all_commands(user) if each in commands.flags}
        if "client" in user.commands:
            expected |= connection | newer
        if "command" in user.commands:
            expected |= {each for each in commands.flags if each.startswith("command|")}
        # Signing in is open to everybody: that is how one becomes a user.
        always = {"auth", "hello", "quit", "reset"}
        assert allowed - always == expected - always, name


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


#: Ways to change or to use up a key, by command.
CHANGES: Final = (
    ("XADD", "*", "a", "b"), ("XDEL", "1-1"), ("XTRIM", "MAXLEN", "0"), ("XSETID", "1-1"),
    ("XGROUP", "CREATE", "g", "0"), ("XGROUP", "DESTROY", "g"), ("XGROUP", "SETID", "g", "0"),
    ("XACK", "g", "1-1"), ("XREADGROUP",), ("HSET", "a", "b"), ("HDEL", "a"),
    ("HINCRBY", "a", "1"), ("HSETNX", "a", "b"), ("HMSET", "a", "b"), ("SET", "1"),
    ("SETEX", "1", "1"), ("GETDEL",), ("GETSET", "1"), ("APPEND", "1"), ("INCR",), ("DEL",),
    ("UNLINK",), ("ZADD", "1", "a"), ("ZREM", "a"), ("RPUSH", "a"), ("LPOP",), ("SADD", "a"),
    ("EXPIRE", "1"), ("PEXPIRE", "1"), ("PERSIST",), ("RESTORE", "0", "x"), ("PFADD", "a"),
    ("SORT", "STORE", "x"), ("EVALSHA",), ("EVAL",), ("FCALL",), ("EVAL_RO",), ("EVALSHA_RO",),
    ("GEOADD", "1", "1", "a"), ("SETBIT", "1", "1"), ("LPUSH", "a"),
)  # fmt: skip
#: Which of them each user may, by key; whoever is not here may none.
WRITES: Final[dict[str, dict[str, set[str]]]] = {
    "producer": {"signals": {"XADD"}},
    "operator": {
        "signals": {"XADD", "EVALSHA"},
        "control": {"HSET"},
        "verdicts": {"HSET"},
        "corrections": {"HSET", "HDEL"},
        "system": {"XADD"},
        "bell": {"XADD"},
        "dead": {"XDEL"},
        "replayed:1-1": {"SET"},
    },
}


@pytest.mark.parametrize("user", USERS)
def test_each_changes_its_own_keys_only(server: Server, user: str) -> None:
    """Each user can make only the changes of its job, on their keys, and none of another account.

    Those of `worker` and `admin` are not tied to keys, only to the account.
    """
    admin = server.client("tester")
    found: dict[str, set[str]] = {}
    for key in KEYS:
        for account in ("{main}", "{other}"):
            for words in CHANGES:
                if _is_allowed(admin, user, f"{account}:{key}", words):
                    assert account == "{main}", f"{user} may {words[0]} {account}:{key}"
                    found.setdefault(key, set()).add(words[0])
    if user in {"worker", "admin"}:
        granted = {
            each.split("|")[0].upper() for each in acl.parse(TEMPLATE.read_text())[user].commands
        }
        expected = {words[0] for words in CHANGES if words[0] in granted}
        assert found == dict.fromkeys(KEYS, expected)
    else:
        assert found == WRITES.get(user, {})


def _is_allowed(admin: redis.Redis, user: str, key: str, words: tuple[str, ...]) -> bool:
    command, *rest = words
    line: list[str] = [command, key, *rest]
    if command in {"EVALSHA", "EVAL", "FCALL", "EVAL_RO", "EVALSHA_RO"}:
        line = [command, "x", "1", key]
    if command == "XGROUP":
        line = [command, rest[0], key, *rest[1:]]
    if command == "XREADGROUP":
        line = [command, "GROUP", "g", "c", "STREAMS", key, ">"]
    answer: bool = admin.execute_command("ACL DRYRUN", user, *line) == b"OK"
    return answer


@pytest.mark.parametrize("user", USERS)
def test_nobody_sends_a_script(clean: Server, user: str) -> None:
    """Neither EVAL nor a function, in whatever form; only `worker` and `admin` load scripts."""
    client = clean.client(user)
    forms = [
        ("EVAL", "return 1", "0"), ("EVAL", "while true do end", "1", "{main}:signals"),
        ("EVAL_RO", "return 1", "0"), ("FCALL", "f", "0"), ("FCALL_RO", "f", "0"),
        ("FUNCTION", "LOAD", "#!lua name=f"), ("SCRIPT", "FLUSH"),
    ]  # fmt: skip
    if user not in {"worker", "admin"}:
        forms.append(("SCRIPT", "LOAD", "return 1"))
    for words in forms:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*words)


def test_a_script_cannot_do_what_its_caller_may_not(clean: Server) -> None:
    """EVALSHA gives no rights: as `operator`, no script changes a key that is not this user's."""
    worked(clean)
    tester, operator = clean.client("tester"), clean.client("operator")
    others = (b"signals", b"control", b"verdicts", b"corrections", b"system", b"bell", b"dead")

    def kept() -> dict[bytes, object]:
        keys = sorted(tester.scan_iter("*"))
        return {key: tester.dump(key) for key in keys if not key.endswith(others)}

    before = kept()
    refused: list[tuple[str, LedgerError]] = []
    assert len(before) > 5
    arguments: dict[str, tuple[str, ...]] = {
        "throttle": ("paper", "60000"), "elect": ("me", "60000", ""), "leave": ("w3-1-0000",),
        "seat": ("me", "digest", "1", "1000"), "sweep": ("1", "0"), "watch": ("state", "HALTED"),
        "heartbeat": ("me", "60000", "{}", ""), "announce": ("SystemError", "1", "{}", "0"),
        "resync": ("me", "1000", ""), "claim": ("me", "60000", "9", "", "9"),
        "correct": ("paper:sa", "", POSITION, "USDT", "1", "1", *"abcdefg", "10", "", "", "0"),
    }  # fmt: skip
    for name in NAMES:
        digest = sha1(source(name).encode(), usedforsecurity=False).hexdigest()
        try:
            operator.evalsha(digest, 1, "{main}:signals", *arguments.get(name, ("x", "1", "1")))
        except redis.ResponseError as error:
            refused.append((name, translate(error)))
    assert kept() == before
    assert not [name for name, error in refused if "NOSCRIPT" in str(error)]
    denied = [name for name, error in refused if isinstance(error, NotPermittedError)]
    assert len(denied) >= 8, "the scripts were tried in earnest"
    for words in (("SET", "{other}:keeper", "me"), ("KEYS", "*")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            clean.client("worker").execute_command(*words)


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
    admin = clean.client("tester")
    admin.execute_command("ACL", "SETUSER", "worker", "-xgroup|create")
    try:
        with pytest.raises(LedgerRefusedError, match="refuses"):
            worked(clean)
    finally:
        admin.execute_command("ACL", "SETUSER", "worker", "+xgroup|create")


@pytest.mark.parametrize(
    ("user", "words", "sentence"),
    [
        ("reader", ("XADD", "{main}:signals", "*", "a", "b"),
         "refuses XADD .* it takes the user producer, operator, worker or admin$"),
        ("producer", ("EVALSHA", "0" * 40, "0"), "refuses EVALSHA .* operator, worker or admin$"),
        ("reader", ("XDEL", "{main}:dead", "1-1"), "refuses XDEL .* the user operator or worker$"),
        ("operator", ("ACL", "LOAD"), r"refuses ACL\|LOAD .* it takes the user admin$"),
        ("operator", ("SET", "{main}:keeper", "me"), "refuses .* keys"),
        ("worker", ("GET", "{other}:keeper"), "refuses .* keys of one account"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_command_and_who_may(
    server: Server, user: str, words: tuple[str, ...], sentence: str
) -> None:
    """A right that is missing is told in one sentence: what was refused, and which users may."""
    with pytest.raises(redis.exceptions.NoPermissionError) as caught:
        server.client(user).execute_command(*words)
    told = translate(caught.value)
    assert isinstance(told, NotPermittedError)
    assert re.search(sentence, str(told)), told


def test_a_script_that_is_refused_names_the_command(clean: Server) -> None:
    """Inside of a script too, where the server words it otherwise."""
    worked(clean)
    digest = sha1(source("throttle").encode(), usedforsecurity=False).hexdigest()
    with pytest.raises(redis.ResponseError) as caught:
        clean.client("operator").evalsha(digest, 1, "{main}:signals", "paper", "60000")
    told = translate(caught.value)
    assert isinstance(told, NotPermittedError)
    assert "Redis refuses" in str(told)


def test_the_sentences_agree_with_the_file(commands: Commands) -> None:
    """The users that a refusal names are those that the template lets run the command."""
    users = acl.parse(TEMPLATE.read_text())
    for command in commands.flags:
        may = {name for name, user in users.items() if command in acl.all_commands(user)}
        may -= {"replica"}
        if command in acl.CONNECTION | acl.CLUSTER or not may:
            continue
        assert set(re.split(", | or ", users_for(command))) == may, command


def test_a_command_is_told_so(clean: Server) -> None:
    """On the command line: exit 1, one sentence, no traceback."""
    environ = {
        "WORKER_REDIS__URL": f"redis://127.0.0.1:{clean.port}/0",
        "WORKER_REDIS__USERNAME": "reader",
        "WORKER_REDIS__PASSWORD": clean.password("reader"),
    }
    result = subprocess.run(
        [sys.executable, "-m", "worker", "halt", "--reason", "r"],
        cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1, said(result)
    assert re.search(
        r"^execution-worker: Redis refuses EVALSHA .* it takes the user operator, worker or admin$",
        result.stderr.strip(),
    )


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
        (" -@all +xdel", " -@all", r"operator needs \+xdel"),
        (" -@all +xdel", " -@all +xdel +xtrim", r"operator does not need \+xtrim"),
        (" -client|tracking ", " ", r"producer differs in client\|tracking"),
        (" +cluster|slots", "", "reader and clusters do not agree"),
        (" -@all +xdel", " +@all", "operator has the categories"),
        ("user default off", "user default on", "the default user must be off"),
        ("~{@account@}:* -@all", "~* -@all", "worker is not confined"),
        (" +xadd\n", " +xadd +@read\n", "producer has the categories"),
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
