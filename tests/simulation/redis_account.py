"""One account on a real server: the real scripts, run in line, with the simulation's clock.

Nothing here waits on virtual time, so a script is one instant of it, as it is for Redis.
"""

import hashlib
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import hiredis

from tests.simulation.redis_steps import read_step
from tests.simulation.steps import QUIET, Inspection, Mutation, OnStep
from worker.assembly import backing
from worker.ledger.errors import LedgerError, translate
from worker.ledger.script_source import NAMES, assemble, read_file, source
from worker.ledger.stored import BookRow, decode_entry, decode_record, read_book_row
from worker.ledger.wire import Argument
from worker.runtime.embedded_server import EmbeddedServer

SIGNALS: Final = "{main}:signals"
PREFIX: Final = SIGNALS.removesuffix("signals")
GROUP: Final = "execution"
STATE_KEY: Final = f"{PREFIX}control"

#: What the simulation changes in a script or library: a pattern that must occur once, and its
#: replacement. The scripts' clock and the primary's name come with every call, in place of the
#: server's own. The server's idea of idle time is real time: here an orphan is one at once.
_CHANGES: Final[Mapping[str, tuple[str, str]]] = {
    "lib/clock": (r"local time = .*\Z", "local now_ms = tonumber(KEYS[2])\n"),
    "lib/epoch": (r"\bcall\('INFO', 'replication'\)", "('master_replid:' .. KEYS[3])"),
    "sweep": (r"'IDLE', ARGV\[1\], ", ""),
}


def simulated_source(name: str, mutation: Mutation | None = None) -> str:
    """A script's text with the simulation's clock and primary, and a mutation if asked for.

    Raises:
        ValueError: the text to be changed is not there, so the simulation must be brought up to
            date with the scripts.
    """
    return source(name, _reader(mutation or {}))


def _reader(mutation: Mutation) -> Callable[[str], str]:
    """What reads scripts and libraries and changes them."""

    def read(path: str) -> str:
        text, name = read_file(path), path.removesuffix(".lua")
        if name in _CHANGES:
            text = _replace(text, *_CHANGES[name])
        if name in mutation:
            text = _exchange(text, *mutation[name])
        return text

    return read


def _replace(text: str, pattern: str, new: str) -> str:
    changed, count = re.subn(pattern, lambda _match: new, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{pattern!r} occurs {count} times")
    return changed


def _exchange(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{old!r} occurs {text.count(old)} times")
    return text.replace(old, new)


class SimulationServer:
    """The server process all runs share, and one connection to it."""

    def __init__(self) -> None:
        self._server = EmbeddedServer()
        socket_path = self._server.directory / "s"
        self._server._arguments = ("--unixsocket", str(socket_path), "--appendonly", "no")
        self._server.start()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(socket_path))
        self._reader = hiredis.Reader()
        self._loaded: dict[str, str] = {}

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._server.stop()

    def pipeline(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """Send several commands at once; an error is returned in its place."""
        self._socket.sendall(b"".join([hiredis.pack_command(command) for command in commands]))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(self._socket.recv(262_144))
            else:
                replies.append(reply)
        return replies

    def command(self, *command: Argument) -> Any:
        """Send one command.

        Raises:
            LedgerError: the server answered with an error.
        """
        (reply,) = self.pipeline(command)
        if isinstance(reply, hiredis.ReplyError):
            raise _translate(reply)
        return reply

    def account(
        self, now_ms: Callable[[], int], *, mutation: Mutation | None = None
    ) -> "RedisAccount":
        """An empty account."""
        return RedisAccount(self, now_ms, mutation=mutation)

    def load(self, text: str) -> str:
        """Load a script once in the server's life; returns its digest."""
        digest = self._loaded.get(text)
        if digest is None:
            digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            self.command("SCRIPT", "LOAD", text)
            self._loaded[text] = digest
        return digest


#: A dead keeper is missed for this long; the real term would only make virtual time longer.
MAX_TERM_MS: Final = 4_000


class RedisAccount:
    """The keys of one run; a :class:`~tests.simulation.steps.SimulatedAccount`.

    Args:
        server: shared.
        now_ms: the scripts' clock.
        mutation: a change to a script.
    """

    memory = None
    impossible: frozenset[str] = frozenset()

    def __init__(
        self,
        server: SimulationServer,
        now_ms: Callable[[], int],
        *,
        mutation: Mutation | None = None,
    ) -> None:
        self._server = server
        self.now_ms = now_ms
        self.primary = "a" * 40
        for name in mutation or {}:
            read_file(f"{name}.lua")  # there is such a file, or nothing would be changed
        self._digests = {name: server.load(simulated_source(name, mutation)) for name in NAMES}
        inspect = (Path(__file__).parent / "inspect.lua").read_text()
        self._inspect = server.load(assemble("inspect", inspect))
        self._seen = [b"0-0"] * 4
        self._term_ends_ms = 0
        self.on_step: OnStep = lambda _step, _inspection: None
        server.command("FLUSHALL")

    def run(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        """Run one script now.

        Raises:
            LedgerError: the server's answer was an error.
        """
        now_ms = self.now_ms()
        if name == "elect":
            self._end_term(now_ms)
        call = ("EVALSHA", self._digests[name], 3, SIGNALS, now_ms, self.primary, *arguments)
        if name in QUIET:
            (reply,), inspection = self._server.pipeline(call), None
        else:
            reply, seen = self._server.pipeline(call, self._inspection_call())
            inspection = self._inspected(seen)
        if isinstance(reply, hiredis.ReplyError):
            raise _translate(reply)
        if name == "elect" and reply[0]:
            self._term_ends_ms = now_ms + min(int(arguments[1]), MAX_TERM_MS)
        self.on_step(read_step(name, arguments, reply), inspection)
        return reply

    def way(self, scripts: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Let workers that are put together meanwhile reach it through ``scripts``."""
        return mock.patch.object(backing, "RedisScripts", scripts)

    def _end_term(self, now_ms: int) -> None:
        """The keeper's key expires in the server's time, which is not ours."""
        if now_ms >= self._term_ends_ms:
            self._server.command("DEL", f"{PREFIX}keeper", f"{PREFIX}said")

    def _inspection_call(self) -> tuple[Argument, ...]:
        return ("EVALSHA", self._inspect, 2, SIGNALS, 0, *self._seen)

    def _inspected(self, reply: Any) -> Inspection:
        if isinstance(reply, hiredis.ReplyError):
            raise _translate(reply)
        *streams, open_positions, opening, totals, bell, tail = reply
        new = []
        for number, rows in enumerate(streams):
            if rows:
                self._seen[number] = rows[-1][0]
            new.append([(id_, _pairs(fields)) for id_, fields in rows])
        return Inspection(
            orders=new[0],
            positions=new[1],
            dead=new[2],
            system=new[3],
            open_positions=open_positions,
            opening=opening,
            totals=sum(map(int, totals)),
            bell=bell,
            tail=tail,
        )

    def ensure_group(self) -> None:
        """Create the stream and its group."""
        try:
            self._server.command("XGROUP", "CREATE", SIGNALS, GROUP, "0", "MKSTREAM")
        except LedgerError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def destroy_group(self) -> None:
        """Lose the consumer group, as an operator's mistake would."""
        if self._server.command("EXISTS", SIGNALS):
            self._server.command("XGROUP", "DESTROY", SIGNALS, GROUP)

    def add(self, fields: Mapping[str, bytes]) -> str:
        """Put one entry on the signals stream; returns its id."""
        flat = [part for pair in fields.items() for part in pair]
        entry = self._server.command("XADD", SIGNALS, f"{self.now_ms()}-*", *flat)
        return str(entry.decode())

    def set_state(self, state: str, identity: str) -> None:
        """Set the trading state, as an operator does."""
        before = self._server.command("HGET", STATE_KEY, "asks") or b""
        asks = f'[{{"asker":"operator","state":"{state}","at":"{identity}"}}]'
        told = (
            "TradingStateChanged",
            f"state-{identity}-{state}",
            f'{{"trading_state":"{state}"}}',
        )
        self.run("control", (before, asks, state, "test", "operator", "", *told))

    def trading_state(self) -> str:
        """The trading state in force."""
        state = self._server.command("HGET", STATE_KEY, "trading_state") or b"ACTIVE"
        return str(state.decode())

    def tails(self) -> tuple[bytes, bytes]:
        """The last ids of the signals stream and of the bell."""
        signals, bell = self._server.pipeline(
            *[
                ("XREVRANGE", f"{PREFIX}{name}", "+", "-", "COUNT", 1)
                for name in ("signals", "bell")
            ]
        )
        return (signals[0][0] if signals else b"0-0"), (bell[0][0] if bell else b"0-0")

    def holder(self, entry_id: str) -> tuple[str, int]:
        """Which worker holds an entry, and until when (Redis time)."""
        raw, expires = self._server.pipeline(
            ("HGET", f"{PREFIX}entries", entry_id), ("ZSCORE", f"{PREFIX}leases", entry_id)
        )
        return decode_entry(raw).worker if raw else "", int(float(expires or 0))

    def live(self) -> int:
        """How many positions have a live order."""
        return int(self._server.command("HLEN", f"{PREFIX}live"))

    def has_order(self, client_order_id: str) -> bool:
        """Whether there is a row of a live order."""
        return bool(self._server.command("EXISTS", f"{PREFIX}order:{client_order_id}"))

    def unfinished(self) -> tuple[set[str], set[str]]:
        """The ids on the signals stream, and those of them that are not acknowledged."""
        if not self._server.command("EXISTS", SIGNALS):
            return set(), set()
        entries = self._server.command("XRANGE", SIGNALS, "-", "+")
        known = {id_.decode() for id_, _ in entries}
        groups = self._server.command("XINFO", "GROUPS", SIGNALS)
        if not groups:
            return known, known
        group = _pairs(groups[0])
        delivered = _number(group[b"last-delivered-id"])
        pending = self._server.command("XPENDING", SIGNALS, GROUP, "-", "+", 10_000)
        waiting = {id_ for id_ in known if _number(id_.encode()) > delivered}
        return known, waiting | {row[0].decode() for row in pending}

    def record_entry(self, signal_id: str) -> str:
        """The entry under which a signal was admitted."""
        raw = self._server.command("GET", f"{PREFIX}record:{signal_id}")
        return decode_record(raw).entry if raw else ""

    def book(self) -> dict[str, BookRow]:
        """The rows of the book."""
        rows = self._server.command("HGETALL", f"{PREFIX}book")
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return {key.decode(): read_book_row(raw) for key, raw in pairs}

    def exposure(self) -> int:
        """The account's exposure in all currencies, millionths."""
        return sum(map(int, self._server.command("HVALS", f"{PREFIX}totals")))

    def names(self) -> list[str]:
        """Of all keys, without the account's prefix."""
        keys = self._server.command("KEYS", f"{PREFIX}*")
        return sorted(key.decode().removeprefix(PREFIX) for key in keys)

    # -- losing writes -------------------------------------------------------------------------

    def snapshot(self) -> dict[bytes, bytes]:
        """Everything, as a replica has it that will receive nothing more."""
        keys = self._server.command("KEYS", "*")
        dumps = self._server.pipeline(*[("DUMP", key) for key in keys])
        return dict(zip(keys, dumps, strict=True))

    def fail_over(self, snapshot: Mapping[bytes, bytes]) -> None:
        """A replica that has only ``snapshot`` takes over, under another replication id."""
        self._server.command("FLUSHALL")
        self._server.pipeline(
            *[("RESTORE", key, 0, dump) for key, dump in snapshot.items()], ("PING",)
        )
        self.primary = f"{int(self.primary, 16) + 1:040x}"
        self._seen = [b"0-0"] * 4


def _pairs(fields: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _translate(reply: Exception) -> LedgerError:
    from redis.exceptions import ResponseError  # noqa: PLC0415

    return translate(ResponseError(str(reply)))


def _number(stream_id: bytes) -> tuple[int, int]:
    ms, _, sequence = stream_id.partition(b"-")
    return int(ms), int(sequence)
