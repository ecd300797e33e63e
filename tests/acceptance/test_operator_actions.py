"""Every try to change anything is an event that says who, what, why and how it ended."""

import json
from typing import Any

import pytest

from tests.acceptance.site import Site, a_signal, process

_FILLED = ("correct", "paper", "BTC/USDT", "--quantity", "0.01", "--price", "65000")


def _actions(site: Site) -> list[dict[str, Any]]:
    """What operators did, as the stream ``system`` has it."""
    shown = site.output("tail", "system", "--from", "0", "--no-follow", "--json")
    events = [json.loads(line)["data"] for line in shown.splitlines()]
    return [one for one in events if one["type"] == "OperatorAction"]


def _told(one: dict[str, Any]) -> tuple[str, ...]:
    return tuple(one[name] for name in ("action", "subject", "result", "before", "after"))


def _visit(site: Site, *signals: dict[str, Any]) -> None:
    """Let a worker run some signals and leave."""
    with process("run", environ=site.environ) as worker:
        site.until_worker()
        if signals:
            site.submit(*signals)
            site.ended(len(signals))
        worker.terminate()
        worker.wait(30)


@pytest.mark.usefixtures("worker")
def test_what_was_done_is_told_with_before_and_after(site: Site) -> None:
    """A correction of the book, and letters replayed and discarded: one event a command."""
    site.submit(a_signal("s1"), {"signal_id": "x"}, {"signal_id": "y"}, {"signal_id": "z"})
    site.ended(4)
    (held,) = json.loads(site.output("positions", "--json"))
    site.output(*_FILLED, "--reason", "sold by hand")
    letters = [
        json.loads(line)["id"] for line in site.output("dead", "list", "--json").splitlines()
    ]
    site.output("dead", "replay", letters[0])
    site.ended(4)
    site.output("dead", "discard", "--all")
    corrected, replayed, discarded = _actions(site)
    assert _told(corrected) == ("correct", "paper BTC/USDT", "done", held["quantity"], "0.01")
    assert corrected["reason"] == "sold by hand"
    assert "@" in corrected["actor"]
    replay = ("dead replay", letters[0], "done", "1 letter", "replay of 1, 0 refused")
    assert _told(replayed) == replay
    assert _told(discarded)[::2] == ("dead discard", "done", "discard of 3, 0 refused")
    assert len({one["event_id"] for one in (corrected, replayed, discarded)}) == 3


@pytest.mark.parametrize(
    ("arguments", "action", "error"),
    [
        ((*_FILLED, "--reason", "x"), "correct", "the book has no position paper BTC/USDT"),
        (("resolve", "s1", "--absent", "--reason", "x"), "resolve", "no order of signal s1"),
        (("dead", "discard", "1-1"), "dead discard", "there is no dead letter 1-1"),
        (("dead", "replay", "1-1"), "dead replay", "there is no dead letter 1-1"),
    ],
)
def test_a_refused_try_is_told_with_its_reason(
    site: Site, arguments: tuple[str, ...], action: str, error: str
) -> None:
    """Exit 1, and an event that says so."""
    if action != "correct":  # scripts are loaded by a worker, which has left
        _visit(site)
    assert site.execute(*arguments).returncode == 1
    (told,) = _actions(site)
    assert (told["action"], told["result"]) == (action, "refused")
    assert error in told["error"]


def test_a_flatten_that_nobody_can_carry_out_is_told(site: Site) -> None:
    """No worker, something open: nothing is changed but the record."""
    _visit(site, a_signal("s1"))
    assert site.execute("flatten", "--reason", "storm").returncode == 1
    (told,) = _actions(site)
    assert (told["action"], told["result"], told["reason"]) == ("flatten", "refused", "storm")
    assert "no worker is alive" in told["error"]


def test_a_submission_is_no_action_of_an_operator(site: Site) -> None:
    """Its entry on the stream is its record, as any producer's."""
    site.submit(a_signal("s1"))
    assert _actions(site) == []
