"""Speaks systemd's notification protocol: ready, alive, stopping; silent where nobody listens."""

import os
import socket
from collections.abc import Mapping
from typing import Final

from worker.observe.health import Health
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: How often the state is looked at where no watchdog asks for more.
EVERY_S: Final = 1.0
#: How much longer a start may take, asked for with every beat while it goes on.
START_EXTENSION_S: Final = 30.0


class Notifier:
    """Datagrams to the service manager (sd_notify(3)); without one every call does nothing.

    A message that cannot be delivered is dropped: being watched must never stop the work.

    Args:
        environ: the process environment. ``NOTIFY_SOCKET`` is a path or, with a leading ``@``, an
            abstract name; ``WATCHDOG_USEC`` counts only if ``WATCHDOG_PID`` is absent or ours.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        #: Seconds of silence after which the manager kills this process; None for no watchdog.
        self._watchdog_s = _watchdog_s(environ) if self._address else None
        self._socket: socket.socket | None = None
        self._said = ""
        self._stopping = False

    @property
    def listening(self) -> bool:
        """Whether a service manager asked to be told."""
        return bool(self._address)

    @property
    def interval_s(self) -> float:
        """How often :meth:`follow` beats: at least twice within the watchdog's time."""
        return min(EVERY_S, self._watchdog_s / 2) if self._watchdog_s else EVERY_S

    def ready(self) -> None:
        """Say that the start is over."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the end has begun; what :meth:`follow` says later never takes it back."""
        self._stopping = True
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Show one line to whoever asks ``systemctl status``; a repetition is not sent."""
        line = " ".join(text.split())
        if line != self._said:
            self._said = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Say that the process is not stuck."""
        if self._watchdog_s is not None:
            self._send("WATCHDOG=1")

    async def follow(self, health: Health, clock: Clock) -> None:
        """Tell the manager what ``health`` says, until cancelled.

        Runs on the event loop, so a stuck loop falls silent by itself. A start that waits for
        Redis or an exchange asks for more time instead of being killed for waiting; a worker that
        was ready and is not any more is alive, and says so.
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
        """Give the socket back; a later message opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(name: str) -> str | bytes:
    """The socket's address; anything but a path or an abstract name counts as none."""
    if name.startswith("@"):
        return b"\0" + name[1:].encode()
    return name if name.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The watchdog's time in seconds if it is meant for this process."""
    try:
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
        micros = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return micros / 1_000_000 if micros > 0 else None
