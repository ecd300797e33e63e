"""Who asks for which trading state, and what follows."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.flatten import EXPIRY_MARGIN_S, TIMEOUT_S
from worker.domain.trading_asks import (
    MAX_REASONS,
    UNDATED_FLATTEN_MS,
    Ask,
    add,
    control_of,
    held_back,
    in_force,
    is_at_least,
    is_held,
    state_of,
    without_overdue,
    without_persons,
)
from worker.domain.trading_state import TradingState
from worker.runtime.clock import rfc3339

_STATES = st.sampled_from([TradingState.REDUCING, TradingState.HALTED])


def _ask(
    asker: str, state: TradingState, *reasons: str, at: str = "t", flattens: bool = False
) -> Ask:
    return Ask(asker=asker, state=state, reasons=reasons, at=at, flattens=flattens)


def _flatten(actor: str, until_ms: int) -> Ask:
    ask = _ask(f"flatten:{actor}", TradingState.REDUCING, "out", flattens=True)
    return msgspec.structs.replace(ask, until_ms=until_ms)


@given(st.lists(st.tuples(st.sampled_from("abc"), _STATES), max_size=8))
def test_the_strictest_of_each_askers_last_request_is_in_force(
    requests: list[tuple[str, TradingState]],
) -> None:
    """Whoever asked last for himself counts, and of all the strictest."""
    asks: tuple[Ask, ...] = ()
    for asker, state in requests:
        asks = add(asks, _ask(asker, state))
    last = dict(requests)
    wanted = list(last.values())
    strictest = TradingState.HALTED if TradingState.HALTED in wanted else TradingState.REDUCING
    assert state_of(asks) is (strictest if wanted else TradingState.ACTIVE)
    assert {one.asker for one in asks} == set(last)


def test_a_repeated_request_keeps_its_reasons_and_another_state_does_not() -> None:
    """Halting twice has two reasons; who reduces instead has a new one."""
    asks = add((), _ask("me", TradingState.HALTED, "a"))
    asks = add(asks, _ask("me", TradingState.HALTED, "b"))
    assert asks[0].reasons == ("a", "b")
    assert add(asks, _ask("me", TradingState.REDUCING, "c"))[0].reasons == ("c",)


def test_reasons_are_bounded() -> None:
    """The first and the newest of very many are kept."""
    asks: tuple[Ask, ...] = ()
    for number in range(50):
        asks = add(asks, _ask("me", TradingState.HALTED, f"r{number}"))
    assert len(asks[0].reasons) == MAX_REASONS
    assert (asks[0].reasons[0], asks[0].reasons[-1]) == ("r0", "r49")


def test_resuming_leaves_what_limits_ask_for() -> None:
    """Persons' requests end; a limit's stays."""
    limit = _ask("limit:risk.max_daily_loss_pct", TradingState.REDUCING, "loss")
    asks = (_ask("me", TradingState.HALTED), limit)
    assert without_persons(asks) == (limit,)


def test_a_person_over_a_limit_is_the_actor_and_both_reasons_stay() -> None:
    """The limit's reason stands beside the person's."""
    asks = (_ask("limit:x", TradingState.HALTED, "loss"), _ask("me", TradingState.HALTED, "storm"))
    control = control_of(asks, actor="me", reason="storm", at="now")
    assert (control.trading_state, control.actor, control.reason) == (
        "HALTED", "me", "loss; storm",
    )  # fmt: skip


def test_who_asks_for_less_does_not_become_the_actor() -> None:
    """The state in force is said to be of who asked for it, and of his time."""
    asks = (
        _ask("ann", TradingState.HALTED, "storm", at="t1"),
        _ask("bob", TradingState.REDUCING, "calm", at="t2"),
    )
    control = control_of(asks, actor="bob", reason="calm", at="t2")
    assert (control.actor, control.reason, control.changed_at) == ("ann", "storm", "t1")


def test_a_flatten_counts_from_its_beginning_on() -> None:
    """Requests before it are held back, later ones count."""
    before = _ask("ann", TradingState.HALTED)
    flatten = _ask("flatten:bob", TradingState.REDUCING, flattens=True)
    assert in_force((before, flatten)) == (flatten,)
    later = _ask("eve", TradingState.HALTED)
    assert state_of((before, flatten, later)) is TradingState.HALTED


def test_a_flatten_whose_time_is_up_becomes_an_ordinary_request() -> None:
    """What was asked for before it counts again; its actor asks for no less than before."""
    asks = (_ask("ann", TradingState.HALTED), _flatten("bob", 1_000))
    assert held_back(asks) == asks[:1]
    assert without_overdue(asks, 999) == asks
    ended = without_overdue(asks, 1_000)
    assert ended == (asks[0], _ask("bob", TradingState.REDUCING, "out"))
    assert (state_of(ended), held_back(ended)) == ("HALTED", ())
    assert without_overdue((asks[0], _flatten("ann", 1_000)), 1_000) == asks[:1]


def test_a_flatten_of_an_earlier_version_lasts_as_one_with_the_default_timeout() -> None:
    """It says no end; what is stored of other requests is as it was before there was one."""
    begun_ms = 1_900_000_000_000
    before = msgspec.structs.replace(
        _ask("flatten:bob", TradingState.REDUCING, flattens=True), at=rfc3339(begun_ms)
    )
    assert int((TIMEOUT_S + EXPIRY_MARGIN_S) * 1_000) == UNDATED_FLATTEN_MS
    for now_ms in (begun_ms - 5_000, begun_ms, begun_ms + UNDATED_FLATTEN_MS - 1):
        assert without_overdue((before,), now_ms) == (before,)
    for now_ms in (begun_ms - UNDATED_FLATTEN_MS, begun_ms + UNDATED_FLATTEN_MS):
        (left,) = without_overdue((before,), now_ms)
        assert (left.asker, left.flattens) == ("bob", False)
    assert b"until" not in msgspec.json.encode(before)


@pytest.mark.parametrize(
    "at", ["", "t", "yesterday", "0001-01-01T00:00:00", "9999-12-31T23:59:59Z"]
)
def test_a_flatten_that_tells_no_time_at_all_is_over(at: str) -> None:
    """Nobody can tell how long it holds back what others ask for: it does no longer."""
    undated = _ask("flatten:bob", TradingState.REDUCING, flattens=True)
    asks = (_ask("ann", TradingState.HALTED), msgspec.structs.replace(undated, at=at))
    assert state_of(asks) is TradingState.REDUCING
    assert state_of(without_overdue(asks, 1_900_000_000_000)) is TradingState.HALTED


def test_a_stricter_state_is_held_and_silence_is_active() -> None:
    """A halted worker also reduces; one that says nothing trades; active is only active."""
    assert is_held("HALTED", TradingState.REDUCING)
    assert not is_held("REDUCING", TradingState.HALTED)
    assert not is_held(None, TradingState.HALTED)
    assert is_held(None, TradingState.ACTIVE)
    assert not is_held("HALTED", TradingState.ACTIVE)
    assert is_at_least(TradingState.HALTED, TradingState.ACTIVE)
