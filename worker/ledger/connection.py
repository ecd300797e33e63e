"""Finding the primary that holds an account, and connections to it.

One account's keys share a slot, so standalone, Sentinel and Cluster differ only in how that one
primary is found; everything else talks to it over plain connections.
"""

import asyncio
import ssl
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from worker.config.keys import RedisConfig
from worker.config.redis_url import Address, Topology, parse
from worker.ledger.errors import map_exceptions
from worker.ledger.wire import CONNECT_TIMEOUT_S, Wire, connect

#: The library retries ten times by default; one lost reply made one XADD write two entries.
NO_RETRY: Final = Retry(NoBackoff(), 0)


class Purpose(StrEnum):
    """The purpose of a wire: no call waits behind one that may take long."""

    SCRIPTS = "scripts"
    REPLICATED = "replicated"  # answers when the replicas have it
    DOORBELL = "doorbell"  # answers when there is something new


#: Short names of members, for speed as in :mod:`worker.domain.signal`.
SCRIPTS, REPLICATED, DOORBELL = Purpose.SCRIPTS, Purpose.REPLICATED, Purpose.DOORBELL


class Connections:
    """Connections to the account's primary: wires for a worker's scripts, clients for the tools.

    Args:
        config: the ``redis`` section.
        key: any key of the account; in a cluster it says which primary.
        name: shown in ``CLIENT LIST``.
        timeout_s: how long a command may take before its reply counts as lost.
        on_reconnect: called whenever a wire has replaced one that was lost.

    Raises:
        ConfigError: ``redis.url`` is not an address.
    """

    def __init__(
        self,
        config: RedisConfig,
        *,
        key: str,
        name: str,
        timeout_s: float = 5.0,
        on_reconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._target = parse(config.url.reveal())
        self._key = key
        self._name = name
        self._timeout_s = timeout_s
        self._commands: Redis | None = None
        self._blocking: Redis | None = None
        self._wires: dict[Purpose, Wire] = {}
        self._primary: Address | None = None
        self._lock = asyncio.Lock()
        self._opened: set[Purpose] = set()
        self._on_reconnect = on_reconnect
        self.address = ", ".join(map(str, self._target.addresses))

    async def commands(self) -> Redis:
        """Return the client for commands that answer at once."""
        return self._commands or (await self._connect())[0]

    async def blocking(self) -> Redis:
        """Return the client for calls that may block."""
        return self._blocking or (await self._connect())[1]

    def ready(self, purpose: Purpose) -> Wire | None:
        """Return the wire for ``purpose`` if it is open."""
        wire = self._wires.get(purpose)
        return wire if wire is not None and wire.is_open else None

    async def open(self, purpose: Purpose) -> Wire:
        """Return the wire for ``purpose``, opened if it is not.

        Raises:
            RedisError, OSError: the primary cannot be found, reached, or refuses.
        """
        async with self._lock:
            wire = self.ready(purpose)
            if wire is not None:
                return wire
            while wire is None:
                address = await self._locate()
                try:
                    wire = await self._dial(address, purpose)
                except ConnectionError as error:  # which does not say where
                    raise ConnectionError(f"{address}: {error}") from error
                if self._primary is not address:  # dropped meanwhile: it may be elsewhere
                    wire.close()
                    wire = None
            if purpose in self._opened:
                self._on_reconnect()
            self._opened.add(purpose)
            self._wires[purpose] = wire
            return wire

    async def _dial(self, address: Address, purpose: Purpose) -> Wire:
        timeout_s = self._timeout_s + (2 if purpose is DOORBELL else 0)
        credentials = self._credentials()
        setup: list[tuple[str | int, ...]] = [("CLIENT", "SETNAME", self._name)]
        if self._target.db:
            setup.insert(0, ("SELECT", self._target.db))
        username, password = credentials["username"], credentials["password"]
        if username or password:
            setup.insert(0, ("AUTH", *([username] if username else []), password or ""))
        return await connect(
            host=address.host,
            port=address.port,
            path=address.path,
            timeout_s=timeout_s,
            tls=self._tls_context() if self._target.tls else None,
            setup=tuple(setup),
        )

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._config.tls_ca_file or None)
        if self._config.tls_cert_file:
            key = self._config.tls_key_file or None
            context.load_cert_chain(self._config.tls_cert_file, key)
        return context

    async def invalidate(self, client: Redis | Wire | None) -> None:
        """Drop ``client`` if it is still the current one: the primary must be found anew.

        None is a wire that could not be opened: those that are open may be in the middle of a call.
        """
        if client is None:
            self._primary = None
        elif client in (self._commands, self._blocking, *self._wires.values()):
            await self.close()

    async def close(self) -> None:
        """Close every connection; the next use connects again."""
        clients = (self._commands, self._blocking)
        self._commands = self._blocking = self._primary = None
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            wire.close()
        for client in clients:
            if client is not None:
                await client.aclose(close_connection_pool=True)

    async def _connect(self) -> tuple[Redis, Redis]:
        async with self._lock:
            if self._commands is not None and self._blocking is not None:
                return self._commands, self._blocking
            with map_exceptions():
                address = await self._locate()
            self._commands = self._client(address, connections=16, timeout_s=self._timeout_s)
            self._blocking = self._client(address, connections=2, timeout_s=self._timeout_s + 2)
            return self._commands, self._blocking

    async def _locate(self) -> Address:
        """Return the primary's address, found once until a connection is dropped."""
        if self._primary is None:
            self._primary = await self._find_primary()
            self.address = str(self._primary)
        return self._primary

    async def _find_primary(self) -> Address:
        target = self._target
        if target.topology is Topology.SENTINEL:
            return await self._ask_sentinels()
        if target.topology is Topology.CLUSTER:
            return await self._ask_cluster()
        return target.addresses[0]

    async def _ask_sentinels(self) -> Address:
        sentinel = Sentinel(
            [(address.host, address.port) for address in self._target.addresses],
            sentinel_kwargs={
                "socket_timeout": CONNECT_TIMEOUT_S,
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
                "retry": NO_RETRY,
                "ssl": self._target.tls,
                **self._tls(),
            },
        )
        try:
            host, port = await sentinel.discover_master(self._target.master)
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return Address(host=host, port=port)

    async def _ask_cluster(self) -> Address:
        cluster = RedisCluster(
            startup_nodes=[ClusterNode(a.host, a.port) for a in self._target.addresses],
            socket_timeout=CONNECT_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            require_full_coverage=False,
            **self._credentials(),
            ssl=self._target.tls,
            **self._tls(),
        )
        try:
            await cluster.initialize()
            node = cluster.get_node_from_key(self._key)
            if node is None:
                raise ConnectionError("no primary serves the account's slot now")
            return Address(host=str(node.host), port=int(node.port))
        finally:
            await cluster.aclose()

    def _credentials(self) -> dict[str, Any]:
        username = self._config.username or self._target.username
        password = self._config.password.reveal() or self._target.password
        return {"username": username or None, "password": password or None}

    def _tls(self) -> dict[str, Any]:
        """Return the library's options for TLS; empty without TLS."""
        if not self._target.tls:
            return {}
        return {
            "ssl_ca_certs": self._config.tls_ca_file or None,
            "ssl_certfile": self._config.tls_cert_file or None,
            "ssl_keyfile": self._config.tls_key_file or None,
        }

    def _client(self, address: Address, *, connections: int, timeout_s: float) -> Redis:
        kind: type[AbstractConnection] = Connection
        options: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.path:
            kind, options = UnixDomainSocketConnection, {"path": address.path}
        elif self._target.tls:
            kind = SSLConnection
            options |= self._tls()
        pool = BlockingConnectionPool(
            max_connections=connections,
            timeout=timeout_s,
            connection_class=kind,
            db=self._target.db,
            client_name=self._name,
            protocol=2,
            retry=NO_RETRY,
            socket_timeout=timeout_s,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            **self._credentials(),
            **options,
        )
        return Redis(connection_pool=pool)
