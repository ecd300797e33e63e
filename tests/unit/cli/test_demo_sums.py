"""The demo's sums notice whatever does not add up."""

from itertools import islice

import msgspec
import pytest

from worker.cli.demo_signals import DemoSignals, Fate
from worker.cli.demo_sums import Sums, add_up, report
from worker.domain.signal import MalformedSignalError, decode_signal
from worker.ledger.access import StreamEntry


def _signal(number: int, signal_id: str) -> StreamEntry:
    data = msgspec.json.encode({"signal_id": signal_id, "n": number})
    return StreamEntry(stream="signals", id=f"{number}-0", fields={"data": data})


def _end(signal_id: str, kind: str = "OrderFilled", **data: str) -> StreamEntry:
    return StreamEntry(
        stream="orders",
        id="9-0",
        fields={
            "type": kind.encode(),
            "subject": signal_id.encode(),
            "data": msgspec.json.encode(data),
        },
    )


def _dead(entry_id: str) -> StreamEntry:
    fields = {"entry_id": entry_id.encode(), "reason": b"conflict"}
    return StreamEntry(stream="dead", id="9-1", fields=fields)


_ALL = [
    _signal(1, "a"),
    _signal(2, "b"),
    _signal(3, "a"),
    _signal(4, "a"),
    _end("a", role="entry"),
    _end("a", role="stop_loss"),
    _end("b", "OrderFailed", code="NO_POSITION"),
    _dead("4-0"),
]
_FATES = {"1-0": Fate.ORDER, "2-0": Fate.ORDER, "3-0": Fate.DUPLICATE, "4-0": Fate.DEAD}


def _sums(entries: list[StreamEntry], pending: int = 0, lag: int | None = 0) -> Sums:
    return add_up(entries, _FATES, pending=pending, lag=lag)


def test_every_signal_is_counted_once() -> None:
    """One filled, one failed, one duplicate, one dead letter: four in, four accounted for."""
    sums = _sums(_ALL)
    assert sums.problems == ()
    assert (sums.filled, sums.failed, sums.duplicates, sums.dead) == (1, 1, 1, 1)
    assert sums.codes == {"NO_POSITION": 1}
    assert any(
        "accounted for, nothing pending" in line for line in report(sums, seconds=1, workers=2)
    )


@pytest.mark.parametrize(
    ("without", "extra"),
    [
        (4, []),  # an end is missing
        (7, []),  # a dead letter is missing
        (0, []),  # an entry is missing
        (None, [_end("a", role="entry")]),  # two ends for one signal
        (None, [_end("c", role="entry")]),  # an end of no signal
        (None, [_dead("1-0")]),  # a dead letter for what also traded
    ],
)
def test_whatever_is_missing_or_twice_is_a_problem(
    without: int | None, extra: list[StreamEntry]
) -> None:
    """Any single entry too few or too many is noticed."""
    entries = [entry for number, entry in enumerate(_ALL) if number != without]
    assert _sums(entries + extra).problems


@pytest.mark.parametrize(("pending", "lag"), [(1, 0), (0, 1), (0, None)])
def test_unfinished_work_is_a_problem(pending: int, lag: int | None) -> None:
    """Pending or unread signals do not add up, nor does not knowing."""
    assert _sums(_ALL, pending, lag).problems


def test_the_mix_has_every_fate_and_the_fates_hold() -> None:
    """Dead letters are what the decoder or a used id refuses; everything else decodes."""
    made = list(islice(DemoSignals(seed=7), 240))
    assert {one.fate for one in made} == set(Fate)
    seen: dict[str, str] = {}
    for one in made:
        try:
            signal = decode_signal(one.data)
        except MalformedSignalError:
            assert one.fate is Fate.DEAD
            continue
        before = seen.setdefault(signal.signal_id, signal.digest())
        if one.fate is Fate.ORDER:
            assert list(seen)[-1] == signal.signal_id
        else:
            assert (before == signal.digest()) == (one.fate is Fate.DUPLICATE)
