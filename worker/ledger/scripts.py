"""Runs the ledger's scripts by name, on whichever server is the account's primary now."""

import hashlib
import importlib.resources
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from worker.ledger.connection import Connections
from worker.ledger.errors import LedgerUnavailableError, map_exceptions

NAMES: Final = (
    "account",
    "admit",
    "adopt",
    "announce",
    "authorize",
    "book",
    "claim",
    "commit",
    "control",
    "elect",
    "heartbeat",
    "leave",
    "park",
    "release",
    "replay",
    "resync",
    "sweep",
    "throttle",
)
#: What a script's ARGV may be made of.
Argument = bytes | str | int | float


def source(name: str, prelude: str | None = None) -> str:
    """A script's full text: its ``#!lua`` line if it has one, the prelude, its own body."""
    files = importlib.resources.files("worker.ledger")
    body = (files / f"{name}.lua").read_text()
    prelude = prelude if prelude is not None else (files / "prelude.lua").read_text()
    flags = re.match(r"#!lua[^\n]*\n", body)
    head = flags.group() if flags else ""
    return f"{head}{prelude}\n{body.removeprefix(head)}"


class Scripts(Protocol):
    """What the typed calls need of Redis; a simulation brings its own."""

    #: How many calls were repeated because a reply was lost.
    repeats: int

    async def run(self, name: str, *arguments: Argument) -> Any:
        """Run one script; safe to repeat."""

    async def run_durably(self, name: str, *arguments: Argument) -> Any:
        """Run one script and wait until the configured number of replicas has its writes."""

    async def wait(self, tail: bytes, bell: bytes, timeout_ms: int) -> bytes:
        """Block until the signals stream has something after ``tail`` or the bell rings."""

    async def ensure_group(self) -> None:
        """Create the stream and the group ``execution`` where they are missing."""


class RedisScripts:
    """The scripts on a real server: EVALSHA, loaded on demand, repeated when a reply is lost.

    Args:
        connections: where to.
        signals: the key ``{account}:signals``.
        replicas: how many replicas must have a script's writes before ``run_durably`` returns.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        signals: str,
        replicas: int = 0,
        replicas_timeout_ms: int = 1_000,
        patience_s: float = 10.0,
    ) -> None:
        self._connections = connections
        self._signals = signals
        self._bell = signals.removesuffix("signals") + "bell"
        self._replicas = replicas
        self._replicas_timeout_ms = replicas_timeout_ms
        self._patience_s = patience_s
        self._sources = {name: source(name) for name in NAMES}
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._sources.items()
        }
        #: How often a reply was lost or a call repeated; the engine then looks for lost work.
        self.repeats = 0
        self.on_error: Callable[[LedgerUnavailableError], None] = lambda _error: None

    async def run(self, name: str, *arguments: Argument) -> Any:
        """Run one script; repeated with backoff for ``patience_s`` while Redis cannot serve.

        Raises:
            LedgerUnavailableError: Redis could not serve in all that time; whether the script
                ran is unknown, calling it again is safe.
            LedgerError: any other answer.
        """
        return await self._patiently(self._once, name, arguments)

    async def run_durably(self, name: str, *arguments: Argument) -> Any:
        """Run one script and wait until ``replicas`` replicas have its writes.

        Raises:
            LedgerUnavailableError: as :meth:`run`; also when too few replicas answered in time.
        """
        once = self._once_replicated if self._replicas else self._once
        return await self._patiently(once, name, arguments)

    async def _patiently(
        self,
        once: Callable[[str, tuple[Argument, ...]], Awaitable[Any]],
        name: str,
        arguments: tuple[Argument, ...],
    ) -> Any:
        try:
            return await once(name, arguments)
        except LedgerUnavailableError as error:
            self._note(error)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(LedgerUnavailableError),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_after_delay(self._patience_s),
            reraise=True,
        ):
            with attempt:
                try:
                    return await once(name, arguments)
                except LedgerUnavailableError as error:
                    self._note(error)
                    raise
        raise AssertionError("unreachable")

    def _note(self, error: LedgerUnavailableError) -> None:
        self.repeats += 1
        self.on_error(error)

    async def _once(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        async with self._client() as client:
            try:
                return await client.execute_command(
                    "EVALSHA", self._digests[name], 1, self._signals, *arguments
                )
            except NoScriptError:
                return await client.execute_command(
                    "EVAL", self._sources[name], 1, self._signals, *arguments
                )

    async def _once_replicated(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        async with self._client() as client:
            while True:
                # WAIT speaks of its own connection's writes, so both travel on one.
                pipeline = client.pipeline(transaction=False)
                pipeline.execute_command(
                    "EVALSHA", self._digests[name], 1, self._signals, *arguments
                )
                pipeline.execute_command("WAIT", self._replicas, self._replicas_timeout_ms)
                reply, replicas = await pipeline.execute(raise_on_error=False)
                if isinstance(reply, NoScriptError):
                    await client.execute_command("SCRIPT LOAD", self._sources[name])
                    continue
                for answer in (reply, replicas):
                    if isinstance(answer, Exception):
                        raise answer
                if int(replicas) < self._replicas:
                    raise LedgerUnavailableError(
                        f"only {replicas} of {self._replicas} replicas have the record",
                        kind="replicas",
                    )
                return reply

    async def wait(self, tail: bytes, bell: bytes, timeout_ms: int) -> bytes:
        """Block until the signals stream has something after ``tail`` or the bell rings.

        Returns:
            The bell's last id, for the next call.
        """
        async with self._client(blocking=True) as client:
            reply = await client.execute_command(
                "XREAD", "COUNT", 1, "BLOCK", timeout_ms,
                "STREAMS", self._signals, self._bell, tail, bell,
            )  # fmt: skip
        for key, entries in _streams(reply):
            if key == self._bell.encode():
                bell = entries[-1][0]
        return bell

    async def ensure_group(self) -> None:
        """Create the stream and the group ``execution`` where they are missing.

        From id 0: what was acknowledged before the group was lost is recognised by its record.
        """
        async with self._client() as client:
            try:
                await client.execute_command(
                    "XGROUP CREATE", self._signals, "execution", "0", "MKSTREAM"
                )
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    @asynccontextmanager
    async def _client(self, *, blocking: bool = False) -> AsyncIterator[Redis]:
        """Lend the primary's client; forget it when the error says the primary is elsewhere."""
        client = await (self._connections.blocking() if blocking else self._connections.commands())
        try:
            with map_exceptions():
                yield client
        except LedgerUnavailableError as error:
            if error.moved:
                await self._connections.invalidate(client)
            raise


def _streams(reply: Any) -> list[tuple[bytes, list[Any]]]:
    """XREAD's reply as pairs, in either form the library gives it."""
    if not reply:
        return []
    return list(reply.items()) if isinstance(reply, dict) else [(key, rows) for key, rows in reply]
