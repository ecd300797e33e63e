"""Servers run with the files under deploy/redis, and the users of their ACL file."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deploy.tools import DEPLOY, missing, run, said
from worker.config.keys import Config, RedisConfig, Secret
from worker.runtime.embedded_server import EmbeddedServer, EmbeddedServerError, find_server

REDIS: Final = DEPLOY / "redis"
USERS: Final = ("producer", "worker", "reader", "operator", "metrics", "replica", "admin")
#: The two servers everything is tried on.
KINDS: Final = ("redis", "valkey")


def binary(kind: str) -> str:
    """A redis-server from PATH, or the Valkey that comes with the package."""
    if kind == "redis":
        return shutil.which("redis-server") or str(missing("redis-server is not installed"))
    try:
        return find_server(prefer_bundled=True)
    except EmbeddedServerError as error:
        return str(missing(str(error)))


def make_users(directory: Path, account: str = "main", *, template: Path | None = None) -> Path:
    """Run make_users.sh, on a broken template if one is given; returns the users.acl it wrote."""
    script = REDIS / "make_users.sh"
    if template is not None:
        script = template.parent / "make_users.sh"
        shutil.copy(REDIS / "make_users.sh", script)
    result = run("sh", script, directory, account)
    assert result.returncode == 0, said(result)
    return directory / "users.acl"


class Server:
    """One running server and the passwords of its users."""

    def __init__(self, embedded: EmbeddedServer, secrets: Path) -> None:
        self.embedded = embedded
        self.port = embedded.port
        self.secrets = secrets

    def password(self, user: str) -> str:
        return (self.secrets / f"redis_{user}").read_text()

    def client(self, user: str) -> redis.Redis:
        """A plain client signed in as ``user``."""
        return self.stranger(user, self.password(user))

    def stranger(self, user: str | None, password: str | None) -> redis.Redis:
        """A plain client with any name and password; it asks once."""
        return redis.Redis(
            port=self.port,
            username=user,
            password=password,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=5,
        )

    def config(self, user: str, *, url: str = "") -> Config:
        """The worker's configuration for this server and user."""
        return Config(
            redis=RedisConfig(
                url=Secret(url or f"redis://127.0.0.1:{self.port}/0"),
                username=user,
                password=Secret(self.password(user)),
            )
        )


@contextmanager
def serving(kind: str, acl: Path, *arguments: str) -> Iterator[Server]:
    """A server of a kind with an ACL file, on loopback."""
    program = binary(kind)
    with EmbeddedServer(binary=program, arguments=("--aclfile", str(acl), *arguments)) as embedded:
        yield Server(embedded, acl.parent)
