"""systemd's notification protocol (sd_notify(3)): ready, alive, stopping."""

import os
import socket
from collections.abc import Mapping
from typing import Final

from worker.observe.health import Health
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: Time between two looks at the state where no watchdog demands a shorter one.
EVERY_S: Final = 1.0
#: Extension of the start timeout that every beat asks for during a start.
START_EXTENSION_S: Final = 30.0


class Notifier:
    """Datagrams to the service manager; without one every call does nothing.

    A message that cannot be delivered is dropped: supervision must never stop the work.

    Args:
        environ: the process environment. ``NOTIFY_SOCKET`` is a path or, with a leading ``@``, an
            abstract name; ``WATCHDOG_USEC`` counts only if ``WATCHDOG_PID`` is absent or ours.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        #: Seconds of silence after which the manager kills this process; None for no watchdog.
        self._watchdog_s = _watchdog_s(environ) if self._address else None
        self._socket: socket.socket | None = None
        self._shown = ""
        self._stopping = False

    @property
    def listening(self) -> bool:
        """Return whether a service manager asked for notifications."""
        return bool(self._address)

    @property
    def interval_s(self) -> float:
        """Return the time between two beats of :meth:`follow`: at most half the watchdog's."""
        return min(EVERY_S, self._watchdog_s / 2) if self._watchdog_s else EVERY_S

    def ready(self) -> None:
        """Report that the start is complete."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Report that the worker stops; a later report of :meth:`follow` does not take it back."""
        self._stopping = True
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows; a repetition is not sent."""
        line = " ".join(text.split())
        if line != self._shown:
            self._shown = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Report that the process is not stuck."""
        if self._watchdog_s is not None:
            self._send("WATCHDOG=1")

    async def follow(self, health: Health, clock: Clock) -> None:
        """Report the worker's health to the manager until cancelled.

        Runs on the event loop, so a stuck loop sends nothing. A start that waits for Redis or an
        exchange asks for more time instead of being killed for waiting; a worker that was ready
        and is not any more still reports that it is alive.
        """
        if not self._address:
            return
        started = False
        while True:
            ready = health.ready
            if health.alive:
                self.watchdog()
            if ready and not started:
                started = True
                self.ready()
            elif not started and not self._stopping and health.alive:
                self._send(f"EXTEND_TIMEOUT_USEC={int(START_EXTENSION_S * 1_000_000)}")
            self.status(self._line(ready=ready, started=started))
            await clock.sleep(self.interval_s)

    def _line(self, *, ready: bool, started: bool) -> str:
        if self._stopping:
            return "finishing what is in hand"
        if ready:
            return "working"
        return "not ready: see /readyz" if started else "starting"

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            log.debug("notify_failed", error=str(error))

    def close(self) -> None:
        """Close the socket; a later message opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(name: str) -> str | bytes:
    """Return the socket's address; empty for anything but a path or an abstract name."""
    if name.startswith("@"):
        return b"\0" + name[1:].encode()
    return name if name.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog's time in seconds; None if it is not meant for this process."""
    try:
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
        micros = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return micros / 1_000_000 if micros > 0 else None
