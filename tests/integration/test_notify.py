"""systemd's notification protocol over a real datagram socket."""

import asyncio
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.observe.health import MAX_BEAT_AGE_MS, Health
from worker.observe.notify import EVERY_S, Notifier
from worker.runtime.clock import SystemClock


class Manager:
    """The listening end, as a service manager holds it."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """Everything said so far."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4_096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A socket path short enough for the kernel."""
    path = tmp_path / "n"
    return str(path) if len(str(path)) < 100 else f"/tmp/n-{secrets.token_hex(4)}"  # noqa: S108


@pytest.fixture
def manager(place: str) -> Iterator[Manager]:
    """A manager that listens at ``place``."""
    manager = Manager(place)
    yield manager
    manager.socket.close()
    Path(place).unlink()


class CountedClock(SystemClock):
    """Sleeping takes no time; whoever follows is let go on one turn at a time."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.slept: list[float] = []
        self._turn = asyncio.Semaphore(0)
        self._asleep = asyncio.Event()

    def monotonic_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.set()
        await self._turn.acquire()

    async def turn(self) -> None:
        """Let one sleep end and wait for the next to begin."""
        self._asleep.clear()
        self._turn.release()
        await self._asleep.wait()

    async def first(self) -> None:
        """Wait for the first sleep."""
        await self._asleep.wait()


def test_without_a_manager_nothing_is_opened_or_sent() -> None:
    """No NOTIFY_SOCKET, or neither a path nor an abstract name in it: every call is a no-op."""
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notifier = Notifier(environ | {"WATCHDOG_USEC": "1000000"})
        notifier.ready()
        notifier.stopping()
        notifier.status("hello")
        notifier.watchdog()
        assert notifier._socket is None
        assert not notifier.listening


def test_each_message_has_its_form(manager: Manager, place: str) -> None:
    """READY, STATUS, WATCHDOG and STOPPING arrive one a datagram, as sd_notify(3) spells them."""
    notifier = Notifier({"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "30000000"})
    notifier.ready()
    notifier.status("3 signals\nin hand")
    notifier.status("3 signals in hand")
    notifier.watchdog()
    notifier.stopping()
    assert manager.heard() == ["READY=1", "STATUS=3 signals in hand", "WATCHDOG=1", "STOPPING=1"]
    notifier.close()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached() -> None:
    """A name with a leading @ is an abstract address."""
    name = f"execution-worker-{secrets.token_hex(4)}"
    manager = Manager(b"\0" + name.encode())
    notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
    notifier.ready()
    assert manager.heard() == ["READY=1"]
    notifier.close()
    manager.socket.close()


def test_a_manager_that_is_gone_or_full_stops_nothing(place: str) -> None:
    """Messages that cannot be delivered are dropped, without waiting and without an exception."""
    notifier = Notifier({"NOTIFY_SOCKET": place})
    notifier.ready()
    manager, told = Manager(place), threading.Event()

    def tell() -> None:
        for _ in range(10_000):
            notifier.stopping()
        told.set()

    threading.Thread(target=tell, daemon=True).start()  # beside us: it might wait for ever
    assert told.wait(10), "a manager that does not read is waited for, or is in the way"
    heard = manager.heard()
    assert set(heard) == {"STOPPING=1"}, "a manager that comes later hears what is said from then"
    assert len(heard) < 10_000, "the manager was never full"
    notifier.ready()
    assert manager.heard() == ["READY=1"], "nothing is said later that was dropped"
    manager.socket.close()
    notifier.ready()
    notifier.close()
    Path(place).unlink()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_or_none(
    manager: Manager, place: str, environ: dict[str, str], seconds: float | None
) -> None:
    """The watchdog's time counts if it is a positive number meant for this process."""
    notifier = Notifier({"NOTIFY_SOCKET": place} | environ)
    notifier.watchdog()
    assert manager.heard() == (["WATCHDOG=1"] if seconds else [])
    assert notifier.interval_s <= (seconds / 2 if seconds else EVERY_S)
    notifier.close()


async def test_following_tells_the_whole_life(manager: Manager, place: str) -> None:
    """A start asks for time until it is ready, once; readiness lost later is no death."""
    notifier = Notifier({"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "4000000"})
    clock = CountedClock()
    health = Health(clock, ["redis"])
    following = asyncio.create_task(notifier.follow(health, clock))
    await clock.first()
    assert manager.heard() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=starting"]
    health.set("redis", ok=True)
    await clock.turn()
    assert manager.heard() == ["WATCHDOG=1", "READY=1", "STATUS=working"]
    await clock.turn()
    assert manager.heard() == ["WATCHDOG=1"]
    health.set("redis", ok=False)
    await clock.turn()
    assert manager.heard() == ["WATCHDOG=1", "STATUS=not ready: see /readyz"]
    clock.ms += MAX_BEAT_AGE_MS
    await clock.turn()
    assert manager.heard() == [], "a stuck worker must not feed the watchdog"
    health.beat()
    notifier.stopping()
    await clock.turn()
    assert manager.heard() == ["STOPPING=1", "WATCHDOG=1", "STATUS=finishing what is in hand"]
    assert set(clock.slept) == {1.0}
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    notifier.close()


async def test_a_start_that_is_stopped_asks_for_no_more_time(manager: Manager, place: str) -> None:
    """Once stopping was said, the time for starting is not extended."""
    notifier = Notifier({"NOTIFY_SOCKET": place})
    clock = CountedClock()
    notifier.stopping()
    following = asyncio.create_task(notifier.follow(Health(clock, ["redis"]), clock))
    await clock.first()
    assert manager.heard() == ["STOPPING=1", "STATUS=finishing what is in hand"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    notifier.close()


async def test_following_ends_at_once_without_a_manager() -> None:
    """Nothing runs in the background of a worker that nobody watches."""
    clock = SystemClock()
    await asyncio.wait_for(Notifier({}).follow(Health(clock), clock), timeout=1)
