"""Changing a password of Redis: honest users go on, a thief with the old one is out."""

import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tests.deploy.processes import Books, Fleet, Load, settled, until
from tests.deploy.redis_servers import KINDS, REDIS, USERS, Server, make_users, serving
from tests.deploy.tools import DEPLOY, ROOT, run, said

#: Where Debian's redis-tools is missing, as much of it as the script uses.
REDIS_CLI = (
    "redis-cli" if shutil.which("redis-cli") else f"{sys.executable} -m tests.deploy.redis_cli"
)
TESTER = "user tester on >tester ~* &* +@all\n"


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that reads the users.acl which make_users.sh has written."""
    with serving(request.param, make_users(tmp_path / "secrets")) as running:
        yield running


def rotate(server: Server, *arguments: str, **environ: str) -> CompletedProcess[str]:
    """Run rotate.sh as the documents say."""
    options = ["--server", f"127.0.0.1:{server.port}"]
    assignments = [f"{name}={value}" for name, value in {"REDIS_CLI": REDIS_CLI, **environ}.items()]
    script = ["sh", str(REDIS / "rotate.sh"), *options, *arguments]
    return run("env", *assignments, *script, cwd=ROOT)


def is_let_in(server: Server, user: str, password: str) -> bool:
    """Whether a new connection can be opened with a password."""
    try:
        return bool(server.stranger(user, password).ping())
    except redis.AuthenticationError:
        return False


def opened(server: Server, user: str) -> redis.Connection:
    """A connection that is signed in and stays open."""
    connection = redis.Connection(
        port=server.port, username=user, password=server.password(user), protocol=2
    )
    connection.connect()
    assert answers(connection)
    return connection


def answers(connection: redis.Connection) -> bool:
    """Whether the other end is still there; a connection that was cut is not opened again."""
    try:
        connection.send_packed_command(connection.pack_command("PING"), check_health=False)
        return bool(connection.read_response() == b"PONG")
    except (redis.ConnectionError, OSError):
        return False


@pytest.mark.parametrize("user", USERS)
def test_a_password_is_changed_in_two_steps(server: Server, user: str) -> None:
    """Both are good until the second step; then the old one and what it had opened are not."""
    old = server.password(user)
    first = rotate(server, str(server.secrets), user)
    assert first.returncode == 0, said(first)
    new = server.password(user)
    assert new != old
    assert is_let_in(server, user, old), "who has not been restarted comes in"
    assert is_let_in(server, user, new)
    thief = redis.Connection(port=server.port, username=user, password=old, protocol=2)
    thief.connect()
    assert answers(thief)
    assert f"--finish {server.secrets} {user}" in first.stdout
    second = rotate(server, "--finish", str(server.secrets), user)
    assert second.returncode == 0, said(second)
    assert not answers(thief)
    assert not is_let_in(server, user, old)
    assert is_let_in(server, user, new)
    for other in USERS:
        assert is_let_in(server, other, server.password(other)), other


@pytest.mark.parametrize("user", USERS)
def test_a_stolen_password_is_changed_at_once(server: Server, user: str) -> None:
    """After one step neither the old password nor an open connection is of use."""
    old, thief = server.password(user), opened(server, user)
    done = rotate(server, "--now", str(server.secrets), user)
    assert done.returncode == 0, said(done)
    assert server.password(user) != old
    assert not answers(thief)
    assert not is_let_in(server, user, old)
    assert is_let_in(server, user, server.password(user))


def test_a_thief_that_waits_for_events_is_cut_off(server: Server) -> None:
    """A blocked read ends as well, and its events are not delivered."""
    thief = server.client("reader")
    thief.ping()
    thief.connection_pool.connection_kwargs["socket_timeout"] = None
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            thief.xread({"{main}:orders": "$"}, block=0)
        except redis.RedisError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    metrics = server.client("metrics")
    until(lambda: metrics.info("clients")["blocked_clients"] == 1, "the thief waits")
    done = rotate(server, "--now", str(server.secrets), "reader")
    thread.join(10)
    assert done.returncode == 0, said(done)
    assert not thread.is_alive()
    assert len(ended) == 1


def test_nothing_changes_without_the_admins_password(server: Server, tmp_path: Path) -> None:
    """A wrong one: told, and every password is as good as before."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    before = {user: server.password(user) for user in USERS}
    text = (server.secrets / "users.acl").read_text()
    done = rotate(server, str(server.secrets), "worker", ADMIN_PASSWORD_FILE=str(wrong))
    assert done.returncode == 1
    assert "the password of worker was not changed" in done.stderr
    assert {user: server.password(user) for user in USERS} == before
    assert (server.secrets / "users.acl").read_text() == text
    assert not list(server.secrets.glob("*.old"))
    again = rotate(server, str(server.secrets), "worker")
    assert again.returncode == 0, said(again)
    under_way = rotate(server, str(server.secrets), "worker")
    assert under_way.returncode == 1
    assert "under way" in under_way.stderr


def test_the_admins_password_can_be_elsewhere(server: Server, tmp_path: Path) -> None:
    """Kept offline it stays the same through every change, and is brought along when needed."""
    offline = tmp_path / "offline"
    shutil.move(server.secrets / "redis_admin", offline)
    refused = rotate(server, "--now", str(server.secrets), "worker")
    assert refused.returncode == 1
    assert "ADMIN_PASSWORD_FILE" in refused.stderr
    done = rotate(server, "--now", str(server.secrets), "worker", ADMIN_PASSWORD_FILE=str(offline))
    assert done.returncode == 0, said(done)
    assert not (server.secrets / "redis_admin").exists()
    assert is_let_in(server, "admin", offline.read_text())
    first = rotate(server, str(server.secrets), "admin", ADMIN_PASSWORD_FILE=str(offline))
    assert first.returncode == 0, said(first)
    new = tmp_path / "new"
    shutil.move(server.secrets / "redis_admin", new)
    last = rotate(server, "--finish", str(server.secrets), "admin", ADMIN_PASSWORD_FILE=str(new))
    assert last.returncode == 0, said(last)
    assert is_let_in(server, "admin", new.read_text())
    assert not is_let_in(server, "admin", offline.read_text())


def test_nothing_that_runs_has_the_admins_password() -> None:
    """compose.yaml, the manifests, the unit and the image name it nowhere."""
    files = [path for path in DEPLOY.rglob("*") if path.suffix != ".sh" and path.is_file()]
    kept = [path for path in files if "secrets" not in path.relative_to(DEPLOY).parts]
    assert len(kept) > 20
    assert not [path for path in kept if "redis_admin" in path.read_text(errors="replace")]


def test_users_acl_stays_the_same_file(tmp_path: Path) -> None:
    """A container that has it mounted sees what is written to it."""
    file = make_users(tmp_path / "s")
    inode = file.stat().st_ino
    (tmp_path / "s" / "redis_reader").unlink()
    text = file.read_text()
    make_users(tmp_path / "s")
    assert file.read_text() != text
    assert file.stat().st_ino == inode


def test_a_server_elsewhere_gets_the_file_first(server: Server, tmp_path: Path) -> None:
    """--install brings users.acl to where the server reads it."""
    secrets = tmp_path / "mine"
    shutil.copytree(server.secrets, secrets)
    missing = rotate(server, str(secrets), "reader")
    assert missing.returncode == 1
    assert "does the server read" in missing.stderr
    tool = tmp_path / "install"
    target = server.secrets / "users.acl"
    tool.write_text(
        f'#!/bin/sh\nchmod u+w {target} && cat "$1" >{target} && echo "$2" >{tool}.for\n'
    )
    tool.chmod(0o755)
    done = rotate(server, "--install", str(tool), "--now", str(secrets), "reader")
    assert done.returncode == 0, said(done)
    assert Path(f"{tool}.for").read_text().strip() == f"127.0.0.1:{server.port}"
    assert is_let_in(server, "reader", (secrets / "redis_reader").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_workers_go_on_while_their_password_is_changed(kind: str, tmp_path: Path) -> None:
    """Two workers under load are restarted between the two steps: each signal ends once."""
    file = make_users(tmp_path / "secrets")
    file.chmod(0o600)
    file.write_text(file.read_text() + TESTER)
    (tmp_path / "secrets" / "redis_tester").write_text("tester")
    with serving(kind, file) as server:
        # Redis 7.0 cuts every connection where it loads the users: who produces connects again.
        again = Retry(ExponentialBackoff(), 5)
        tester = redis.Redis(port=server.port, username="tester", password="tester", retry=again)
        secret = {
            "REDIS__USERNAME": "worker",
            "REDIS__PASSWORD_FILE": str(server.secrets / "redis_worker"),
        }
        keep = tmp_path / "keep"
        keep.write_text(f'#!/bin/sh\nprintf "{TESTER.strip()}\\n" >>{server.secrets}/users.acl\n')
        keep.chmod(0o755)
        with Fleet(f"redis://127.0.0.1:{server.port}/0", tmp_path, secret) as fleet:
            first = [fleet.add() for _ in range(2)]
            with Load(tester, per_second=40) as load:
                until(lambda: len(load.sent) > 30, "load")
                begun = rotate(server, "--install", str(keep), str(server.secrets), "worker")
                assert begun.returncode == 0, said(begun)
                for old in first:
                    fleet.add()
                    fleet.remove(old)
                ended = rotate(
                    server, "--install", str(keep), "--finish", str(server.secrets), "worker"
                )
                assert ended.returncode == 0, said(ended)
                sent = len(load.sent)
                until(lambda: len(load.sent) > sent + 30, "load with the new password")
            until(lambda: settled(server.client("tester")), "every signal has ended")
            assert Books(server.client("tester")).problems(load.sent) == []
            assert fleet.exit_codes == [0, 0]
            assert len(fleet.running) == 2
