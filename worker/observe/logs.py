"""Logging: one line an event, JSON or for a terminal, from this project and from libraries."""

import asyncio
import logging
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from worker.config.keys import LogConfig
from worker.observe.redaction import Redactor
from worker.runtime.clock import Clock, SystemClock
from worker.runtime.logger import LogSignal, PlainFields, bound_ids, structlog
from worker.runtime.printable import printable, printable_json

#: Longer lines are cut: a log is not a place for payloads.
MAX_LINE_BYTES: Final = 65_536
MAX_TRACEBACK_CHARS: Final = 16_384
#: Libraries log from one level higher on: ccxt's debug lines hold whole signed requests.
_LIBRARY_LEVELS: Final = {
    "debug": logging.INFO,
    "info": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_OWN_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def configure_logging(
    config: LogConfig, stream: TextIO, secrets: Iterable[str], *, clock: Clock | None = None
) -> LogSignal:
    """Send every log line of the process to ``stream``; the last call wins.

    This project's events, the standard library's loggers, warnings and uncaught exceptions of every
    thread pass through the same redaction.

    Args:
        config: level and format; ``auto`` is JSON unless ``stream`` is a terminal.
        stream: takes the lines; usually standard error.
        secrets: strings that must never be written.
        clock: times the lines; the machine's clock if absent.

    Returns:
        A logger for the canonical line of every signal, level info, whose fields hold the ids and
        are plain. It bypasses structlog, whose call overhead exceeds the encoding.
    """
    time_of = clock or SystemClock()
    terminal = stream.isatty()
    as_json = config.format == "json" or (config.format == "auto" and not terminal)
    redactor = Redactor(secrets)
    renderer: Renderer = (
        JsonLines(redactor, time_of) if as_json else ConsoleLines(redactor, time_of, terminal)
    )
    sink = LineSink(stream)
    level = _OWN_LEVELS[config.level]
    structlog.configure(
        processors=[renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=sink.logger,
        cache_logger_on_first_use=True,
    )
    handler = LibraryHandler(renderer, sink)
    # On the handler too: a logger with a level of its own passes the root's by.
    handler.setLevel(_LIBRARY_LEVELS[config.level])
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LIBRARY_LEVELS[config.level])
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a broken log call must not write past the redaction
    _install_hooks(renderer, sink)

    def log_signal(event: str, fields: PlainFields) -> None:
        if level <= _OWN_LEVELS["info"]:
            sink.write_soon(renderer.line("info", event, fields, is_plain=True))

    return log_signal


class Renderer(ABC):
    """A format of log lines; masks secrets."""

    def __init__(self, redactor: Redactor, clock: Clock) -> None:
        self._redactor = redactor
        self._clock = clock
        self._now_ms = self._second = -1
        self._text = self._second_text = ""

    def __call__(self, _logger: Any, method: str, event: Any) -> bytes:
        """Return the line of an event, as structlog's last processor."""
        return self.line(method, event.pop("event", ""), event)

    def line(
        self, level: str, event: str, fields: dict[str, Any], *, is_plain: bool = False
    ) -> bytes:
        """Return the line, newline included; never raises, whatever the fields hold.

        Args:
            level: of the event.
            event: its name.
            fields: its fields; may be changed.
            is_plain: whether the fields are :data:`PlainFields`, and hold all ids they need.
        """
        try:
            if is_plain:
                line = self._plain_line(level, event, fields)
            else:
                line = self._line(level, event, self._complete(fields))
        except Exception as error:  # a log call must never be what fails
            safe = self._redactor.mask(repr(fields).encode(errors="replace").decode())
            line = msgspec.json.encode(
                {
                    "ts": self._timestamp(),
                    "level": level,
                    "event": "unloggable_event",
                    "error": type(error).__name__,
                    "fields": safe[:MAX_TRACEBACK_CHARS],
                }
            )
        if len(line) > MAX_LINE_BYTES:
            line = self._cut(line, level)
        return line + b"\n"

    @abstractmethod
    def _line(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        """Return the line of one event at any length, without the newline."""

    def _plain_line(self, level: str, event: str, fields: PlainFields) -> bytes:
        """Return the same of fields that need no closer look."""
        return self._line(level, event, fields)

    @abstractmethod
    def _cut(self, line: bytes, level: str) -> bytes:
        """Return the line to write in place of one that is too long."""

    def _timestamp(self) -> str:
        """Return the time in RFC 3339, UTC, milliseconds; kept, since lines of a batch share it."""
        now_ms = self._clock.now_ms()
        if now_ms != self._now_ms:
            second, ms = divmod(now_ms, 1_000)
            if second != self._second:
                moment = datetime.fromtimestamp(second, UTC)
                self._second_text = moment.strftime("%Y-%m-%dT%H:%M:%S")
                self._second = second
            self._now_ms = now_ms
            self._text = f"{self._second_text}.{ms:03d}Z"
        return self._text

    def _complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields with the bound ids before them and an exception as text."""
        if "exc_info" in fields:
            text = _exception_text(fields.pop("exc_info"))
            if text:
                fields["exception"] = text
        ids = bound_ids()
        return {**ids, **fields} if ids else fields


class JsonLines(Renderer):
    """One JSON object a line: ``ts``, ``level``, ``event``, then ids and fields."""

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        if not _PLAIN.issuperset(map(type, fields.values())):
            fields = {key: _jsonable(value) for key, value in fields.items()}
        return self._safe(
            _encode({"ts": self._timestamp(), "level": level, "event": event, **fields})
        )

    def _plain_line(self, level: str, event: str, fields: PlainFields) -> bytes:
        if not fields:
            return self._line(level, event, fields)
        # Only the fields are encoded: gathering all in a new object would take longer.
        head = f'{{"ts":"{self._timestamp()}","level":"{level}","event":"{event}",'
        return self._safe(head.encode() + _encode(fields)[1:])

    def _safe(self, line: bytes) -> bytes:
        """Return the line with secrets masked, and nothing in it that must not be shown."""
        if self._redactor.finds_in_json(line):
            line = _encode(self._redactor.mask_value(msgspec.json.decode(line)))
        return printable_json(line)

    def _cut(self, line: bytes, level: str) -> bytes:
        text = line[: MAX_LINE_BYTES // 4].decode(errors="replace")
        return _encode(
            {"ts": self._timestamp(), "level": level, "event": "log_line_cut", "start": text}
        )


class ConsoleLines(Renderer):
    """Aligned and, on a terminal, coloured lines for a person."""

    def __init__(self, redactor: Redactor, clock: Clock, colors: bool) -> None:
        super().__init__(redactor, clock)
        self._render = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        # Masked before rendering too, which may spell a value in another way.
        plain = msgspec.json.decode(_encode(_jsonable({"event": event, **fields})))
        masked = self._redactor.mask_value(plain)
        shown = {"timestamp": self._timestamp(), "level": level}
        trace = str(masked.pop("exception", ""))
        shown |= _shown(masked)
        if trace:
            shown["exception"] = "\n".join(map(printable, trace.split("\n")))
        shown["event"] = str(shown.get("event", ""))
        return self._redactor.mask(str(self._render(None, level, shown))).encode(errors="replace")

    def _cut(self, line: bytes, level: str) -> bytes:
        return line[:MAX_LINE_BYTES] + b" ..."


class LineSink:
    """A text stream that takes whole lines, as bytes where it has a buffer of them.

    A full disk or a closed pipe must not stop trading: lines that cannot be written are lost.
    """

    def __init__(self, stream: TextIO) -> None:
        buffer = getattr(stream, "buffer", None)
        self._write: Callable[[bytes], object] = (
            buffer.write if buffer is not None else lambda line: stream.write(line.decode())
        )
        self._flush = stream.flush if buffer is None else buffer.flush
        self._is_flush_due = False

    def logger(self, *_name: str) -> "_SinkLogger":
        """Return a logger for structlog's ``logger_factory``."""
        return _SinkLogger(self.write)

    def write(self, line: bytes) -> None:
        """Write and flush one line. A buffered stream's own lock keeps lines of threads whole."""
        with suppress(OSError, ValueError):
            self._write(line)
            self._flush()

    def write_soon(self, line: bytes) -> None:
        """Write one line; flush it with all others of this iteration of the event loop."""
        if not self._is_flush_due:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # no loop runs
                self.write(line)
                return
            self._is_flush_due = True
            loop.call_soon(self._flush_all)
        try:  # for every signal: suppress() would add three calls
            self._write(line)
        except (OSError, ValueError):
            return

    def _flush_all(self) -> None:
        self._is_flush_due = False
        with suppress(OSError, ValueError):
            self._flush()


class _SinkLogger:
    """A logger whose every method is the sink's ``write``; structlog calls one by level."""

    __slots__ = ("critical", "debug", "error", "fatal", "info", "msg", "warn", "warning")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        for name in self.__slots__:
            setattr(self, name, write)


class LibraryHandler(logging.Handler):
    """A handler that turns the standard library's records into events."""

    def __init__(self, renderer: Renderer, sink: LineSink) -> None:
        super().__init__()
        self._renderer = renderer
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as ``library_log`` with the logger's name and its message."""
        try:
            message = record.getMessage()
        except Exception:  # a library's format string that does not fit its arguments
            message = f"{record.msg!r} % {record.args!r}"
        fields: dict[str, Any] = {"logger": record.name, "message": message}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        self._sink.write(self._renderer.line(record.levelname.lower(), "library_log", fields))


def _install_hooks(renderer: Renderer, sink: LineSink) -> None:
    """Log uncaught exceptions; the interpreter would print them without redaction."""

    def write(name: str, error: BaseException | None, **fields: Any) -> None:
        sink.write(renderer.line("critical", name, {**fields, "exc_info": error}))

    def on_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        write("uncaught_exception", error.with_traceback(trace))

    def on_thread_exception(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else ""
        write("uncaught_exception", args.exc_value, thread=name)

    def on_unraisable(args: Any) -> None:
        write("unraisable_exception", args.exc_value, object=repr(args.object))

    sys.excepthook = on_exception
    threading.excepthook = on_thread_exception
    sys.unraisablehook = on_unraisable


def _exception_text(value: Any) -> str:
    """Return the traceback of any form of ``exc_info`` that logging takes; the end if too long."""
    if isinstance(value, tuple):
        value = value[1]
    if value is True or value is None:
        value = sys.exc_info()[1] if value else None
    if not isinstance(value, BaseException):
        return ""
    text = "".join(traceback.format_exception(value)).rstrip("\n")
    return text if len(text) <= MAX_TRACEBACK_CHARS else "... " + text[-MAX_TRACEBACK_CHARS:]


def _jsonable(value: Any) -> Any:
    """Return the value with all bytes in it as text: base64 would hide a secret from masking."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="backslashreplace")
    if isinstance(value, Mapping):
        return {str(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(entry) for entry in value]
    if isinstance(value, msgspec.Struct):
        return str(value)
    return value


def _shown(value: Any) -> Any:
    """Return a decoded JSON value with all text in it printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): _shown(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    return value


def _fallback(value: Any) -> str:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)


_encode: Final = msgspec.json.Encoder(enc_hook=_fallback).encode
