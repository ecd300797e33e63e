"""Runs the ledger's scripts by name, on whichever server is the account's primary now.

``script_source`` assembles their text.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from hiredis import ProtocolError
from redis.exceptions import NoScriptError, RedisError

from worker.ledger.connection import DOORBELL, REPLICATED, SCRIPTS, Connections, Purpose
from worker.ledger.errors import (
    LedgerError,
    LedgerUnavailableError,
    NotPermittedError,
    ScriptsMissingError,
    translate,
)
from worker.ledger.script_source import NAMES, source
from worker.ledger.wire import Argument, ReplyTooLargeError, Wire
from worker.runtime.clock import Clock, Random, SystemClock

#: The longest pause before the second repetition; doubled from one to the next, up to the maximum.
FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0


class Doorbell(NamedTuple):
    """A read that blocks until the signals grow past ``tail`` or the bell past ``bell``."""

    tail: bytes
    bell: bytes
    timeout_ms: int


class Scripts(Protocol):
    """Runs scripts; a simulation brings its own."""

    #: How many replies were lost, so that a script may have run without this side knowing.
    lost_replies: int

    async def run(self, name: str, *arguments: Argument) -> Any:
        """Run one script; repeated where a reply was lost."""

    async def run_durably(self, name: str, *arguments: Argument) -> Any:
        """Run one script and wait until the configured number of replicas has its writes."""

    async def run_after(
        self, doorbell: Doorbell, name: str, *arguments: Argument
    ) -> tuple[Any, bytes]:
        """Wait for the doorbell, then run one script; return its reply and the bell's last id."""

    def hang_up(self) -> None:
        """End the wait for the doorbell, if there is one."""

    async def ensure_group(self) -> None:
        """Create the stream and the group ``execution`` where they are missing."""


class RedisScripts:
    """The scripts on a real server: EVALSHA, repeated when a reply is lost.

    A server that does not have a script is given all of them, if it lets this user load scripts.
    A worker also loads them whenever it connects, those included that only operators run: they may
    load none, and a server forgets its scripts when it restarts.

    Args:
        connections: to the account's primary.
        signals: the key ``{account}:signals``.
        replicas: how many replicas must have a script's writes before ``run_durably`` returns.
        replicas_timeout_ms: how long to wait for them.
        patience_s: how long a call is repeated while Redis cannot serve.
        clock: for pauses and for the end of the patience.
        random: for the length of pauses.
        on_error: called with the error of every call that failed.
        loads: whether to load the scripts on every new connection.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        signals: str,
        replicas: int = 0,
        replicas_timeout_ms: int = 1_000,
        patience_s: float = 10.0,
        on_error: Callable[[LedgerError], None] = lambda _error: None,
        loads: bool = False,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._connections = connections
        self._signals = signals
        self._bell = signals.removesuffix("signals") + "bell"
        self._replicas = replicas
        self._replicas_timeout_ms = replicas_timeout_ms
        self._patience_s = patience_s
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._sources = {name: source(name) for name in NAMES}
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self._sources.items()
        }
        self.lost_replies = 0
        self._on_error = on_error
        self._loads = loads
        self._is_hung_up = False

    def run(self, name: str, *arguments: Argument) -> Coroutine[Any, Any, Any]:
        """Run one script; repeated with backoff for ``patience_s`` while Redis cannot serve.

        Raises:
            LedgerUnavailableError: Redis could not serve in all that time; whether the script
                ran is unknown, calling it again is safe.
            LedgerError: any other answer.
        """
        return self._patiently(self._once, name, arguments)

    def run_durably(self, name: str, *arguments: Argument) -> Coroutine[Any, Any, Any]:
        """Run one script and wait until ``replicas`` replicas have its writes.

        Raises:
            LedgerUnavailableError: as :meth:`run`; also when too few replicas answered in time.
        """
        once = self._once_replicated if self._replicas else self._once
        return self._patiently(once, name, arguments)

    async def _patiently(
        self,
        once: Callable[[str, tuple[Argument, ...]], Awaitable[Any]],
        name: str,
        arguments: tuple[Argument, ...],
    ) -> Any:
        until_ms = None
        longest_s = FIRST_PAUSE_S
        while True:
            try:
                return await once(name, arguments)
            except LedgerError as error:
                self._on_error(error)
                if not isinstance(error, LedgerUnavailableError):
                    raise
                self.lost_replies += 1
                now_ms = self._clock.monotonic_ms()
                if until_ms is not None and now_ms >= until_ms:
                    raise
            if until_ms is None:
                # Repeat at once the first time: a new connection may be all it takes.
                until_ms = now_ms + self._patience_s * 1_000
                continue
            await self._clock.sleep(self._random.uniform(0, longest_s))
            longest_s = min(2 * longest_s, MAX_PAUSE_S)

    async def _once(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        script = ("EVALSHA", self._digests[name], "1", self._signals, *arguments)
        try:
            (reply,) = await self._calls(SCRIPTS, script)
        except NoScriptError:
            (reply,) = await self._loaded(name, SCRIPTS, script)
        return reply

    async def _once_replicated(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        # WAIT counts the writes of its own connection, so both travel on one.
        script = ("EVALSHA", self._digests[name], "1", self._signals, *arguments)
        wait = ("WAIT", self._replicas, self._replicas_timeout_ms)
        try:
            reply, replicas = await self._calls(REPLICATED, script, wait)
        except NoScriptError:
            reply, replicas = await self._loaded(name, REPLICATED, script, wait)
        if int(replicas) < self._replicas:
            raise LedgerUnavailableError(
                f"only {replicas} of {self._replicas} replicas have the record", kind="replicas"
            )
        return reply

    async def run_after(
        self, doorbell: Doorbell, name: str, *arguments: Argument
    ) -> tuple[Any, bytes]:
        """Wait for the doorbell, then run one script; both are sent at once.

        The script runs on the server where the bell rings, unless this side has hung up.

        Returns:
            The script's reply, and the bell's last id.

        Raises:
            LedgerError: as :meth:`run`, at the first failure; whether the script ran is unknown.
        """
        self._is_hung_up = False
        try:
            return await self._after(doorbell, name, arguments)
        except LedgerError as error:
            self.lost_replies += 1
            if not self._is_hung_up:
                self._on_error(error)
            raise
        except asyncio.CancelledError:
            self.hang_up()
            raise

    async def _after(
        self, doorbell: Doorbell, name: str, arguments: tuple[Argument, ...]
    ) -> tuple[Any, bytes]:
        tail, bell, timeout_ms = doorbell
        block = (
            "XREAD", "COUNT", 1, "BLOCK", timeout_ms,
            "STREAMS", self._signals, self._bell, tail, bell,
        )  # fmt: skip
        script = ("EVALSHA", self._digests[name], "1", self._signals, *arguments)
        try:
            rung, reply = await self._calls(DOORBELL, block, script)
        except NoScriptError:
            rung, reply = await self._loaded(name, DOORBELL, block, script)
        for key, entries in rung or ():
            if key == self._bell.encode():
                bell = entries[-1][0]
        return reply, bell

    def hang_up(self) -> None:
        """End the wait: with its connection Redis drops a script that has not begun."""
        self._is_hung_up = True
        wire = self._connections.ready(DOORBELL)
        if wire is not None:
            wire.close()

    async def ensure_group(self) -> None:
        """Create the stream and the group ``execution`` where they are missing.

        From id 0: what was acknowledged before the group was lost is recognised by its record.
        """
        try:
            await self._call(
                SCRIPTS, "XGROUP", "CREATE", self._signals, "execution", "0", "MKSTREAM"
            )
        except LedgerError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _loaded(
        self, name: str, purpose: Purpose, *commands: tuple[Argument, ...]
    ) -> list[Any]:
        """Give the server all scripts, then make calls that failed for want of ``name``.

        Raises:
            ScriptsMissingError: this user may not load scripts.
            LedgerError: anything else went wrong.
        """
        try:
            await self._calls(purpose, *self._load_commands())
            return await self._calls(purpose, *commands)
        except NotPermittedError as error:
            raise ScriptsMissingError(name) from error
        except NoScriptError:
            raise LedgerUnavailableError(
                "Redis: the scripts are gone again as soon as they are loaded", kind="loading"
            ) from None

    def _load_commands(self) -> list[tuple[Argument, ...]]:
        return [("SCRIPT", "LOAD", text) for text in self._sources.values()]

    async def _open(self, purpose: Purpose) -> Wire:
        """Open a wire; a worker's first thing on a new one is to load all scripts."""
        wire = await self._connections.open(purpose)
        if self._loads and purpose is SCRIPTS:
            try:
                await _all([wire.call(*command) for command in self._load_commands()])
            except BaseException:
                wire.close()  # so that the next call loads them
                raise
        return wire

    async def _call(self, purpose: Purpose, *command: Argument) -> Any:
        (reply,) = await self._calls(purpose, command)
        return reply

    async def _calls(self, purpose: Purpose, *commands: tuple[Argument, ...]) -> list[Any]:
        """Send commands at once on one wire; drop the wire if the primary may be elsewhere.

        Raises:
            NoScriptError: the server does not have the script.
            LedgerError: the first thing that went wrong otherwise.
        """
        wire: Wire | None = None
        try:
            wire = self._connections.ready(purpose) or await self._open(purpose)
            if len(commands) == 1:
                return [await wire.call(*commands[0])]
            return await _all([wire.call(*command) for command in commands])
        except NoScriptError:
            raise
        except (RedisError, ProtocolError, ReplyTooLargeError, OSError) as error:
            failure = translate(error)
            if isinstance(failure, LedgerUnavailableError) and failure.moved:
                await self._connections.invalidate(wire)
            raise failure from error


async def _all(calls: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """Return the replies of calls that were made on one wire; raise the first failure."""
    try:
        with suppress(Exception):
            await calls[-1]  # replies come in order: once this one is there, all are
        return [await call for call in calls]
    except Exception:
        for call in calls:
            if not call.cancelled():
                call.exception()  # of several failures the first is raised, none goes unheard
        raise
    except asyncio.CancelledError:
        for call in calls:
            call.cancel()
        raise
