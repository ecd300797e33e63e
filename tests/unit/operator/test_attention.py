"""What of a status needs an operator: codes, severities and their order."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.unit.operator.statuses import GOOD
from worker.cli.output import screen
from worker.cli.status import render
from worker.domain.trading_state import TradingState
from worker.operator.attention import needs_attention, stale
from worker.operator.attention_codes import Code, Severity
from worker.operator.limits import Limit
from worker.operator.status import WorkerView, aged

_NOTHING_OPEN = {"pending": 0, "open_positions": 0}


def _worker(name: str = "w1", *, alive: bool = True, **status: Any) -> WorkerView:
    silent_ms = 100 if alive else 60_000
    return WorkerView(name=name, alive=alive, silent_ms=silent_ms, status=status)


def _limit(used: str, allowed: str | None) -> Limit:
    return Limit(
        name="risk.max_concurrent_positions",
        scope="account",
        used=Decimal(used),
        allowed=None if allowed is None else Decimal(allowed),
        unit="positions",
        resets_at=None,
    )


@pytest.mark.parametrize(
    ("change", "code", "severity", "text"),
    [
        (
            {"trading_state": TradingState.HALTED, "reason": "storm", "workers": (
                _worker(trading_state="HALTED"),
            )},
            "HALTED", "warning", "trading is HALTED: storm",
        ),
        (
            {"trading_state": TradingState.REDUCING, "workers": (
                _worker(trading_state="HALTED"),
            )},
            "REDUCING", "warning", "trading is REDUCING",
        ),
        (
            {"workers": (_worker(trading_state="HALTED"),)},
            "STATE_NOT_HELD", "warning", "0 of 1 worker holds ACTIVE; not w1",
        ),
        ({"unresolved_count": 2}, "ORDER_UNRESOLVED", "critical", "2 more orders are unresolved"),
        (
            {"workers": ()}, "NO_WORKER", "critical",
            "no worker is alive and 1 position is open, 2 signals wait",
        ),
        ({"workers": (), **_NOTHING_OPEN}, "NO_WORKER", "info", "no worker is alive"),
        ({"keeper": None}, "NO_KEEPER", "critical", "the account has no keeper"),
        ({"keeper": None, **_NOTHING_OPEN}, "NO_KEEPER", "warning", "the account has no keeper"),
        (
            {"workers": (_worker(), _worker("w2", alive=False))},
            "WORKER_LOST", "warning", "worker w2 has been silent for 60 s",
        ),
        (
            {"workers": (_worker(config_digest="a"), _worker("w2", config_digest="b"))},
            "CONFIG_DIFFERS", "warning", "the 2 live workers have 2 different configurations",
        ),
        (
            {"workers": (_worker(not_ready={"orders:okx": "the clock is off"}),)},
            "EXCHANGE_DOWN", "critical", "w1 cannot trade on okx: the clock is off",
        ),
        ({"group_exists": False}, "BACKLOG", "warning", "the consumer group is missing"),
        (
            {"oldest_pending_age_ms": 61_000}, "BACKLOG", "warning",
            "the oldest seen signal without an end is 61 s",
        ),
        (
            {"oldest_unseen_age_ms": 61_000}, "BACKLOG", "warning",
            "the oldest unseen signal without an end is 61 s",
        ),
        (
            {"throttled_ms": {"okx": 1_200}}, "EXCHANGE_THROTTLED", "warning",
            "nothing is sent to okx for another 2 s",
        ),
        (
            {"differences": 2}, "POSITION_DRIFT", "critical",
            "the book and the exchanges differ in 2 places",
        ),
        (
            {"compared_age_ms": 240_000}, "COMPARISON_OLD", "warning",
            "the book was last compared with every exchange 4 min ago",
        ),
        ({"sheet_age_ms": 31_000}, "STALE", "warning", "wallets and marks are 31 s old"),
        (
            {"limits": (_limit("3", "3"),)}, "LIMIT_REACHED", "warning",
            "risk.max_concurrent_positions is used up: 3 of 3 positions (account)",
        ),
        ({"dead_letters": 1}, "DEAD_LETTERS", "warning", "1 dead letter"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_code_and_its_sentence(
    change: dict[str, Any], code: str, severity: str, text: str
) -> None:
    """One thing wrong gives one entry, on the list and on the screen."""
    status = msgspec.structs.replace(GOOD, **change)
    (found,) = needs_attention(status)
    assert (found.code, found.severity) == (code, severity)
    assert found.text.startswith(text)
    console = screen()
    with console.capture() as capture:
        console.print(render(status))
    assert text in capture.get()


def test_the_gravest_comes_first() -> None:
    """Whoever reads only the first line reads that nobody is there."""
    status = msgspec.structs.replace(
        GOOD, workers=(_worker(alive=False),), dead_letters=3, differences=1, unresolved_count=1
    )
    found = needs_attention(status)
    assert [one.code for one in found] == [
        "NO_WORKER", "ORDER_UNRESOLVED", "POSITION_DRIFT", "WORKER_LOST", "DEAD_LETTERS",
    ]  # fmt: skip


def test_a_halt_that_a_live_worker_does_not_hold_is_critical() -> None:
    """One of two workers still trades: the code counts it and names it."""
    status = msgspec.structs.replace(
        GOOD,
        trading_state=TradingState.HALTED,
        workers=(_worker(trading_state="HALTED"), _worker("w2", trading_state="REDUCING")),
    )
    (found, _) = needs_attention(status)
    assert (found.code, found.severity, found.subject, found.count) == (
        Code.STATE_NOT_HELD, Severity.CRITICAL, "w2", 1,
    )  # fmt: skip
    assert found.text == "1 of 2 workers hold HALTED; not w2"


def test_a_limit_that_is_off_or_unknown_is_not_reached() -> None:
    """Only a number that reaches another one is a limit used up."""
    status = msgspec.structs.replace(GOOD, limits=(_limit("9", None), _limit("2", "3")))
    assert needs_attention(status) == []


def test_ages_go_on_counting_while_redis_is_silent() -> None:
    """Every age of an old status grows with it, and the status is called stale."""
    older = aged(GOOD, 5_000)
    assert older.workers[0].silent_ms == 5_100
    assert older.oldest_pending_age_ms == 5_090
    assert older.oldest_unseen_age_ms is None
    assert (older.sheet_age_ms, older.compared_age_ms) == (5_100, 5_100)
    said = stale(older, 5_000)
    assert (said.code, said.severity, said.since) == ("STALE", "critical", GOOD.at)
    assert said.text == "Redis does not answer: what stands here is 5 s old"
    assert GOOD.at - timedelta(0) == older.at


@pytest.mark.parametrize(
    ("ms", "ahead"),
    [(61_000, "61 s"), (864_000_000, "10 days"), (18446744073709551615, "213503982334 days")],
)
def test_a_stream_ahead_of_the_clock_is_said_first(ms: int, ahead: str) -> None:
    """With what to do about it; nothing else matters more."""
    status = msgspec.structs.replace(
        GOOD, streams_ahead_ms={"signals": ms}, trading_state=TradingState.HALTED
    )
    found = needs_attention(status)[0]
    sentence = found.text
    assert (found.code, found.severity, found.subject) == ("STREAM_AHEAD", "critical", "signals")
    assert f"the stream signals is {ahead} ahead" in sentence
    assert "execution-worker mend-stream" in sentence


def test_letters_that_are_gone_need_attention() -> None:
    """Their number, and the keys that say how many are kept."""
    (found,) = needs_attention(msgspec.structs.replace(GOOD, dead_letters_trimmed=3))
    assert (found.code, found.count) == ("DEAD_LETTERS", 3)
    assert found.text.startswith("3 of the oldest dead letters were removed")
