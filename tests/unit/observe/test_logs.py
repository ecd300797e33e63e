"""Logging: one parsable line an event, from anywhere, and never a secret in it."""

import asyncio
import gc
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config.keys import LogConfig, Secret
from worker.domain.refusal import Stage
from worker.observe.logs import MAX_LINE_BYTES, JsonLines, LineSink, configure_logging
from worker.observe.redaction import Redactor
from worker.runtime.clock import SystemClock
from worker.runtime.logger import PlainFields, bind_ids, bound_ids, get_logger, structlog
from worker.runtime.secret import HIDDEN

SECRET = 'k3y/"qu\\ote+ñ'


class FixedClock(SystemClock):
    def now_ms(self) -> int:
        return 1_767_323_045_006


class Capture(io.StringIO):
    """A stream that counts as a terminal if asked to."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Logging is the process's; give it back as it was."""
    root = logging.getLogger()
    kept = (root.handlers[:], root.level, logging.raiseExceptions)
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    yield
    root.handlers[:], logging.raiseExceptions = kept[0], kept[2]
    root.setLevel(kept[1])
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()


def configured(
    level: Any = "info", form: Any = "auto", *, terminal: bool = False, secrets: Any = (SECRET,)
) -> Capture:
    stream = Capture(terminal=terminal)
    config = LogConfig(level=level, format=form)
    configure_logging(config, stream, secrets, clock=FixedClock())
    return stream


def test_an_event_is_one_json_line() -> None:
    """Time, level and event first, then what was bound, then the fields, in their order."""
    stream = configured()
    bind_ids(signal_id="s-1")
    get_logger().info("order_filled", quantity=Decimal("1.50"), attempts=2, late=None)
    bind_ids()
    assert stream.getvalue() == (
        '{"ts":"2026-01-02T03:04:05.006Z","level":"info","event":"order_filled",'
        '"signal_id":"s-1","quantity":"1.50","attempts":2,"late":null}\n'
    )


async def test_ids_bound_in_a_task_are_in_its_lines_only() -> None:
    """Each signal's task has its own context; what it starts inherits it."""
    stream = configured()

    async def signal(name: str) -> None:
        bind_ids(signal_id=name)
        await asyncio.sleep(0)
        await asyncio.create_task(deeper())

    async def deeper() -> None:
        get_logger().info("deep", step=1)

    await asyncio.gather(signal("a"), signal("b"))
    get_logger().info("outside")
    assert [line.get("signal_id") for line in stream.lines] == ["a", "b", None]
    bind_ids(account="main")
    assert bound_ids() == {"account": "main"}
    bind_ids()
    assert bound_ids() == {}


def test_a_field_wins_over_a_bound_id() -> None:
    """The line says what the caller said."""
    stream = configured()
    bind_ids(symbol="BTC/USDT")
    get_logger().info("x", symbol="ETH/USDT")
    bind_ids()
    assert stream.last["symbol"] == "ETH/USDT"


@pytest.mark.parametrize(
    ("level", "seen"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_less_severe_events_are_not_written(level: str, seen: int) -> None:
    """The configured level is the least written."""
    stream = configured(level)
    log = get_logger()
    for method in (log.debug, log.info, log.warning, log.error):
        method("x")
    assert len(stream.lines) == seen


def test_the_line_of_every_signal_is_as_structlogs_would_be() -> None:
    """Secrets and the level count for it too; its ids it names itself."""
    stream = Capture()
    log_signal = configure_logging(
        LogConfig(format="json"), stream, ["hunter2"], clock=FixedClock()
    )
    fields: PlainFields = {
        "signal_id": "s-1",
        "attempts": 1,
        "duration_ms": 1.5,
        "price": None,
        "stage": Stage.EXECUTION,
        "reason": "a\u202eb\x7f",
        "note": "hunter2",
    }
    get_logger().info("signal_ended", **fields)
    bind_ids(signal_id="another")
    log_signal("signal_ended", fields)
    bind_ids()
    first, second = stream.getvalue().splitlines()
    assert first == second
    assert "hunter2" not in first
    quiet = Capture()
    configure_logging(LogConfig(format="json", level="warning"), quiet, [])("signal_ended", {})
    assert not quiet.getvalue()


@pytest.mark.parametrize(("level", "library"), [("debug", "INFO"), ("info", "WARNING")])
def test_libraries_go_the_same_way_and_must_speak_louder(level: str, library: str) -> None:
    """ccxt, asyncio and redis use the standard library; their debug lines hold requests."""
    stream = configured(level)
    log = logging.getLogger("ccxt.base.exchange")
    log.setLevel(logging.DEBUG)  # a library may set a level of its own: it changes nothing
    log.log(logging.getLevelName(library) - 10, "GET /secret")
    log.log(logging.getLevelName(library), "retry %s of %d", "a", 2)
    (line,) = stream.lines
    assert line["event"] == "library_log"
    assert line["logger"] == "ccxt.base.exchange"
    assert line["message"] == "retry a of 2"
    assert line["level"] == library.lower()


def test_a_library_that_logs_wrongly_is_still_heard() -> None:
    """And nothing is printed past the redaction."""
    stream = configured()
    logging.getLogger("x").error("%d", SECRET)
    assert stream.last["level"] == "error"
    assert SECRET not in stream.last["message"]
    assert HIDDEN in stream.last["message"]


def test_warnings_are_events() -> None:
    """They would go to standard error as text."""
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert stream.last["logger"] == "py.warnings"


class Pair(msgspec.Struct):
    name: str
    note: str


HIDING_PLACES: list[Any] = [
    SECRET,
    f"https://h/?key={SECRET}&x=1",
    repr(SECRET),
    "https://h/?key=k3y%2F%22qu%5Cote%2B%C3%B1",
    SECRET.encode(),
    {"nested": [{"deep": SECRET}]},
    {SECRET: "as a key"},
    [(SECRET,)],
    {SECRET},
    ValueError(f"bad key {SECRET}"),
    Pair("n", SECRET),
    {"bytes": [SECRET.encode()]},
    type("Odd", (), {"__str__": lambda self: SECRET})(),
    {"error": KeyError(SECRET)},
]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", HIDING_PLACES, ids=lambda value: type(value).__name__)
def test_a_secret_is_masked_wherever_it_hides(value: Any, form: str) -> None:
    """In any type, at any depth, in any spelling; the rest of the line stays readable."""
    stream = configured(form=form)
    get_logger().info("call_failed", value=value, other="visible")
    text = stream.getvalue()
    for spelling in (SECRET, json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], "k3y", "qu%5Cote"):
        assert spelling not in text
    assert HIDDEN in text
    assert "visible" in text
    assert "call_failed" in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_in_a_traceback_is_masked(form: str) -> None:
    """In the message, in the chain of causes, from our logger and from a library's."""
    stream = configured(form=form)

    def fail() -> None:
        raise RuntimeError(f"again {SECRET}") from OSError(f"connect to {SECRET}")

    try:
        fail()
    except RuntimeError:
        get_logger().exception("connection_lost", try_number=1)
        logging.getLogger("redis").exception("lost %s", SECRET)
    text = stream.getvalue()
    assert "k3y" not in text
    assert text.count(HIDDEN) >= 5
    assert text.count("direct cause") == 2
    assert text.count("RuntimeError: again") == 2


FOOLISH_LINE = (
    '{"ts":"2026-01-02T03:04:05.006Z","level":"info","event":"x",'
    '"number":120265,"flag":true,"late":null,"value":"<*>"}\n'
)


@pytest.mark.parametrize(
    ("secret", "masked"),
    [
        ("1", {"2026-01": "2026-0*", "120265": '"*20265"'}),
        ("2026", {"2026-": "*-", "120265": '"1*5"'}),
        ("120265", {"120265": '"*"'}),
        (":", {"03:04:05": "03*04*05"}),
        ("info", {'"info"': '"*"'}),
        ("x", {'"x"': '"*"'}),
        ("event", {'"event"': '"*"'}),
        ("ts", {'"ts"': '"*"'}),
        ("s", {'"ts"': '"t*"'}),
        ("value", {'"value"': '"*"'}),
        *((mark, {}) for mark in ("true", "null", '"', ",", "{", "\n")),
    ],
)
def test_a_foolish_secret_still_leaves_a_parsable_line(secret: str, masked: dict[str, str]) -> None:
    """Masked in texts, names and numbers; what makes a line JSON is kept, and ``true`` is."""
    stream = configured(secrets=[secret])
    get_logger().info("x", number=120_265, flag=True, late=None, value=f"<{secret}>")
    expected = FOOLISH_LINE
    for plain, hidden in masked.items():
        expected = expected.replace(plain, hidden)
    assert stream.getvalue() == expected.replace("*", HIDDEN)
    assert len(stream.last) == 7


def test_a_secret_that_holds_another_is_masked_as_a_whole() -> None:
    """The longer first, or its rest would show."""
    stream = configured(secrets=["hunter", "hunter2-and-more"])
    get_logger().info("x", both="hunter2-and-more hunter")
    assert stream.last["both"] == f"{HIDDEN} {HIDDEN}"


def test_every_line_of_a_key_in_pem_form_is_a_secret() -> None:
    """A library may show one line of it."""
    pem = "-----BEGIN KEY-----\nMIGkAgEBBDDabcdefghijkl\n-----END KEY-----\n"
    stream = configured(secrets=[pem])
    get_logger().info("x", text="unexpected MIGkAgEBBDDabcdefghijkl", whole=pem)
    assert "MIGk" not in stream.getvalue()


TEXTS = st.text(max_size=8)
FLAT = TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS, TEXTS, max_size=3)
NESTED = FLAT | st.lists(FLAT, max_size=3) | st.dictionaries(TEXTS, FLAT, max_size=3)


@given(st.text(min_size=1, max_size=12), NESTED, st.text(max_size=5))
def test_no_spelling_of_any_secret_survives(secret: str, around: Any, before: str) -> None:
    """For any text as the secret and any value around it."""
    renderer = JsonLines(Redactor([secret]), FixedClock())
    line = renderer.line("info", "e", {"v": [around, before + secret, {secret: secret}]})
    # Not by its name, which is masked too where it is the secret.
    (values,) = [value for value in json.loads(line).values() if isinstance(value, list)]
    clean = secret.encode(errors="replace").decode()
    if clean in HIDDEN or clean == "?":
        return
    gap = "\1" if clean == "\0" else "\0"
    assert clean not in values[1].replace(HIDDEN, gap)
    assert [clean in text.replace(HIDDEN, gap) for pair in values[2].items() for text in pair] == [
        False,
        False,
    ]


def test_a_configured_secret_shows_itself_to_nobody() -> None:
    """The type hides it; the redaction need not even know it."""
    stream = configured(secrets=[])
    get_logger().info("x", key=Secret("hunter2"))
    assert stream.last["key"] == HIDDEN


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", ["\ud800", {1: "a"}, {(1, 2): "b"}, float("nan"), 10**400])
def test_odd_values_do_not_break_a_log_call(value: Any, form: str) -> None:
    """A log call must never be what fails."""
    stream = configured(form=form)
    get_logger().info("x", value=value)
    assert len(stream.getvalue().splitlines()) == 1


def test_a_value_that_cannot_be_shown_is_reported() -> None:
    """The line says that something was lost, and the secret beside it stays hidden."""
    stream = configured()
    recursive: dict[str, Any] = {"secret": SECRET}
    recursive["self"] = recursive
    get_logger().info("x", value=recursive)
    assert stream.last["event"] == "unloggable_event"
    assert "k3y" not in stream.getvalue()
    with pytest.raises(RuntimeError):
        repr(Broken())


def test_long_lines_and_tracebacks_are_cut() -> None:
    """A log is bounded; the end of a traceback is what matters."""
    stream = configured()
    get_logger().info("x", payload="y" * (2 * MAX_LINE_BYTES))
    assert stream.last["event"] == "log_line_cut"
    error = ValueError("z" * 100_000 + " the end")
    get_logger().error("failed", exc_info=error)
    assert stream.last["exception"].endswith("the end")
    assert max(map(len, stream.getvalue().splitlines())) <= MAX_LINE_BYTES


def test_a_terminal_gets_text_and_anything_else_json() -> None:
    """``auto`` looks at the stream; the other two do not."""
    for form, terminal, is_json in [
        ("auto", False, True),
        ("auto", True, False),
        ("json", True, True),
        ("console", False, False),
    ]:
        stream = configured(form=form, terminal=terminal)
        get_logger().info("order_placed", symbol="BTC/USDT")
        assert stream.getvalue().startswith("{") is is_json
        assert "order_placed" in stream.getvalue()
        assert ("\x1b[" in stream.getvalue()) is (not is_json and terminal)


def test_a_stream_that_fails_loses_lines_and_nothing_else() -> None:
    """A full disk must not stop trading."""

    class Full(Capture):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise OSError(28, "No space left on device")

    full = Full()
    LineSink(full).write(b"x\n")
    LineSink(full).write_soon(b"x\n")
    assert full.tries == 2
    closed = Capture()
    closed.close()
    LineSink(closed).write(b"x\n")


async def test_lines_of_one_turn_of_the_loop_are_flushed_together() -> None:
    """Signals end in batches: a call to the kernel a batch, not a line; order is kept."""

    class Counted(Capture):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    stream = Counted()
    sink = LineSink(stream)
    for turn in (1, 2):
        sink.write_soon(b"one\n")
        sink.write_soon(b"two\n")
        assert stream.flushes == 2 * turn - 2
        await asyncio.sleep(0)
        assert stream.flushes == 2 * turn - 1
        sink.write(b"at once\n")
        assert stream.flushes == 2 * turn
    assert stream.getvalue() == "one\ntwo\nat once\n" * 2


def test_a_line_without_a_loop_is_flushed_at_once(tmp_path: Path) -> None:
    """There is no later turn to wait for."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        LineSink(stream).write_soon(b"x\n")
        assert path.read_bytes() == b"x\n"


def test_a_binary_buffer_is_written_as_bytes() -> None:
    """The usual case: standard error's own buffer, flushed line by line."""
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="ascii")
    configure_logging(LogConfig(), text, [], clock=FixedClock())
    get_logger().info("ünicode")
    assert json.loads(raw.getvalue())["event"] == "ünicode"
    text.detach()


def test_what_nobody_caught_is_logged_masked() -> None:
    """From the main thread, another thread, and a destructor."""
    stream = configured()
    error = ValueError(f"leak {SECRET}")
    sys.excepthook(ValueError, error, None)

    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail, name="feed")
    thread.start()
    thread.join()

    class Dying:
        def __del__(self) -> None:
            raise error

    Dying()
    gc.collect()
    first, second, third = stream.lines
    assert [line["event"] for line in stream.lines] == [
        "uncaught_exception",
        "uncaught_exception",
        "unraisable_exception",
    ]
    assert second["thread"] == "feed"
    assert first["level"] == third["level"] == "critical"
    assert "k3y" not in stream.getvalue()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert len(stream.lines) == 3
