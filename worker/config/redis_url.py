"""Parses ``redis.url``: the one place that knows the forms of address and their parts."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from worker.runtime.errors import ConfigError

#: Instead of an address: the worker starts a server of its own.
EMBEDDED: Final = "embedded"
DEFAULT_PORT: Final = 6379

_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "redis+cluster",
    "rediss+sentinel",
    "rediss+cluster",
)
#: Options that are followed, those that may ask only for what is done anyhow, and those that a key
#: of the configuration stands for.
_FOLLOWED: Final = frozenset({"db", "username", "password"})
_DONE_ANYHOW: Final[Mapping[str, tuple[str, ...]]] = {
    "protocol": ("2",),
    "decode_responses": ("false", "0", "no"),
    "ssl_cert_reqs": ("required",),
    "ssl_check_hostname": ("true", "1", "yes"),
}
_KEYS: Final = {
    "ssl_ca_certs": "tls_ca_file",
    "ssl_certfile": "tls_cert_file",
    "ssl_keyfile": "tls_key_file",
}
_OPTION: Final = re.compile(r"[A-Za-z_]{1,40}")
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:,]+)(?::([0-9]{1,5}))?")
_DATABASE: Final = re.compile(r"[0-9]{1,5}")


class Topology(StrEnum):
    """The way the primary is found: a fixed address, Sentinel or Cluster."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Address(msgspec.Struct, frozen=True):
    """A server's address: host and port, or a socket's path."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class RedisUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed ``redis.url``; user and password are empty where it names none."""

    topology: Topology
    addresses: tuple[Address, ...]
    master: str = ""
    db: int = 0
    tls: bool = False
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        addresses = ",".join(map(str, self.addresses))
        return f"<RedisUrl {self.topology} {addresses}/{self.db}{' over TLS' if self.tls else ''}>"


def parse(url: str) -> RedisUrl:
    """Parse an address.

    Raises:
        ConfigError: names the part that is wrong; never shows the URL, for it may hold a password.
    """
    if url == EMBEDDED:
        raise _wrong(
            '"embedded" is a server inside one worker; whoever else needs it needs its address '
            "(the worker logs it as embedded_server)"
        )
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise _wrong(f'must begin with one of {known} or be "{EMBEDDED}"')
    address, _, query = rest.partition("?")
    options = _options(query, tls=scheme.startswith("rediss"))
    if scheme == "unix":
        return _socket(address, options)
    # The last @, for a password may hold a / or an @ that somebody forgot to escape.
    credentials, _, address = address.rpartition("@")
    hosts, _, path = address.partition("/")
    transport, _, kind = scheme.partition("+")
    topology = Topology(kind or "standalone")
    several = topology is not Topology.STANDALONE
    addresses = tuple(_address(host, scheme) for host in (hosts.split(",") if several else [hosts]))
    names = [name for name in path.split("/") if name]
    master = ""
    if topology is Topology.SENTINEL:
        if not names:
            raise _wrong("redis+sentinel:// needs the master's name: /<master> or /<master>/<db>")
        master, *names = names
    db = _database(names, options)
    if topology is Topology.CLUSTER and db:
        raise _wrong("a cluster has database 0 only")
    username, password = _credentials(credentials, options)
    return RedisUrl(
        topology=topology,
        addresses=addresses,
        master=master,
        db=db,
        tls=transport == "rediss",
        username=username,
        password=password,
    )


def _options(query: str, *, tls: bool) -> dict[str, str]:
    """Return what the URL's query asks for and is followed: ``db``, ``username``, ``password``.

    An option that asks for what is done anyhow is accepted. Any other one is refused: whoever wrote
    it counts on it.

    Raises:
        ConfigError: names the option.
    """
    followed: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if _OPTION.fullmatch(name) is None or ("@" in query and name not in _FOLLOWED):
            raise _wrong(
                "what follows the ? is no option; a ? in a password must be written as %3F, "
                "an @ as %40"
            )
        if name in seen:
            raise _wrong(f"?{name}= is given twice")
        seen.add(name)
        if name in _FOLLOWED:
            followed[name] = value
        elif name not in _DONE_ANYHOW:
            instead = f": set redis.{_KEYS[name]}" if name in _KEYS else "; take it out"
            raise _wrong(f"?{name}= is not followed{instead}")
        elif value.lower() not in _DONE_ANYHOW[name]:
            raise _wrong(f"?{name}= can only be {_DONE_ANYHOW[name][0]}")
        elif name.startswith("ssl_") and not tls:
            raise _wrong(f"?{name}= needs a URL with TLS: rediss://")
    return followed


def _socket(address: str, options: Mapping[str, str]) -> RedisUrl:
    # A path may hold an @ of its own.
    credentials, _, path = ("", "", address) if address.startswith("/") else address.rpartition("@")
    if not path.startswith("/"):
        raise _wrong("unix:// needs an absolute path: unix:///run/redis.sock")
    username, password = _credentials(credentials, options)
    return RedisUrl(
        topology=Topology.STANDALONE,
        addresses=(Address(path=path),),
        db=_database([], options),
        username=username,
        password=password,
    )


def _credentials(text: str, options: Mapping[str, str]) -> tuple[str, str]:
    username, _, password = text.partition(":")
    return (
        _either(unquote(username), options, "username"),
        _either(unquote(password), options, "password"),
    )


def _either(given: str, options: Mapping[str, str], name: str) -> str:
    """Return what the URL says before its host or as an option; both only if they agree."""
    option = options.get(name, given)
    if given and option != given:
        raise _wrong(f"it names one {name} before the host and another one as ?{name}=")
    return option


def _address(text: str, scheme: str) -> Address:
    match = _HOST.fullmatch(text)
    port = int((match and match[2]) or DEFAULT_PORT)
    if match is None or not 0 < port <= 65_535:
        raise _wrong(f"{scheme}:// needs host or host:port, the port from 1 to 65535")
    return Address(host=match[1].strip("[]"), port=port)


def _database(names: list[str], options: Mapping[str, str]) -> int:
    """Return the database's number, 0 where none is named."""
    if "db" in options and options["db"] not in names:
        names = [*names, options["db"]]
    if len(names) > 1 or not all(_DATABASE.fullmatch(name) for name in names):
        raise _wrong("the database must be one whole number: /<db> or ?db=<db>")
    return int(names[0]) if names else 0


def _wrong(problem: str) -> ConfigError:
    return ConfigError("redis.url", problem)
