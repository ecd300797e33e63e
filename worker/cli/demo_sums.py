"""Accounts for every signal of the demo: each entry of the stream must have exactly one end."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from worker.cli import wording
from worker.cli.demo_signals import Fate
from worker.ledger.access import StreamEntry
from worker.operator.dead_letters import signal_id_of

_TERMINAL: Final = {
    "OrderFilled": "filled",
    "OrderCancelled": "cancelled",
    "OrderFailed": "failed",
}
#: The legs that are a signal's own order; protective orders have ends of their own.
_OWN_LEGS: Final = frozenset({None, "entry", "exit"})


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """The number of signals by result; ``problems`` is empty if everything adds up."""

    signals: int
    filled: int
    cancelled: int
    failed: int
    duplicates: int
    dead: int
    codes: dict[str, int]
    dead_reasons: dict[str, int]
    opened: int
    closed: int
    problems: tuple[str, ...]


def add_up(
    entries: Iterable[StreamEntry], fates: dict[str, Fate], *, pending: int, lag: int | None
) -> Sums:
    """Account for every signal.

    Args:
        entries: all entries of all five streams.
        fates: each entry's required result, by entry id.
        pending: entries the consumer group counts as unfinished.
        lag: entries it counts as undelivered; None if unknown.
    """
    by_stream: dict[str, list[StreamEntry]] = {}
    for entry in entries:
        by_stream.setdefault(entry.stream, []).append(entry)
    dead = {entry.text("entry_id"): entry for entry in by_stream.get("dead", ())}
    ends: dict[str, list[str]] = {}
    codes: Counter[str] = Counter()
    for entry in by_stream.get("orders", ()):
        data = wording.payload(entry.fields["data"])
        if entry.text("type") in _TERMINAL and data.get("role") in _OWN_LEGS:
            ends.setdefault(entry.text("subject"), []).append(_TERMINAL[entry.text("type")])
            codes.update([data["code"]] if "code" in data else [])
    problems = [
        f"{pending} signals are still pending" if pending else "",
        f"{lag} signals were never seen" if lag != 0 else "",
    ]
    counts: Counter[str] = Counter()
    owners: set[str] = set()
    for entry in by_stream.get("signals", ()):
        result = _result(entry, dead, ends, owners)
        counts[result] += 1
        expected = fates.get(entry.id)
        if expected is None or not _agrees(expected, result):
            problems.append(f"entry {entry.id}: expected: {expected or 'unknown'}, found: {result}")
    positions = Counter(entry.text("type") for entry in by_stream.get("positions", ()))
    problems += [
        f"{subject} has {len(kinds)} terminal events" if subject in owners else f"{subject}: whose?"
        for subject, kinds in ends.items()
        if len(kinds) != 1 or subject not in owners
    ]
    if len(fates) != sum(counts.values()):
        problems.append(f"{len(fates)} signals went in, the stream holds {sum(counts.values())}")
    return Sums(
        signals=len(fates),
        filled=counts["filled"],
        cancelled=counts["cancelled"],
        failed=counts["failed"],
        duplicates=counts["duplicate"],
        dead=counts["dead"],
        codes=dict(codes.most_common()),
        dead_reasons=dict(Counter(letter.text("reason") for letter in dead.values()).most_common()),
        opened=positions["PositionOpened"],
        closed=positions["PositionClosed"],
        problems=tuple(problem for problem in problems if problem),
    )


def _result(
    entry: StreamEntry,
    dead: dict[str, StreamEntry],
    ends: dict[str, list[str]],
    owners: set[str],
) -> str:
    """Return the result of one entry, called in stream order: the first of a signal id owns it."""
    if entry.id in dead:
        return "dead"
    signal_id = signal_id_of(entry.fields.get("data", b"")) or ""
    if signal_id in owners:
        return "duplicate"
    owners.add(signal_id)
    return ends.get(signal_id, ["nothing"])[0]


def _agrees(expected: Fate, result: str) -> bool:
    if expected is Fate.DEAD:
        return result == "dead"
    if expected is Fate.DUPLICATE:
        return result == "duplicate"
    return result in _TERMINAL.values()


def report(sums: Sums, *, seconds: float, workers: int) -> list[str]:
    """Format the sums as lines of text."""
    rejected = sums.failed + sums.cancelled
    why = f"{sums.failed} failed, {sums.cancelled} cancelled before they filled whole"
    rows = (
        ("filled", sums.filled, f"{sums.opened} positions opened, {sums.closed} closed"),
        ("rejected", rejected, why),
        ("duplicates", sums.duplicates, "the same signal again: traded once"),
        ("dead letters", sums.dead, _counts(sums.dead_reasons)),
    )
    total = sum(count for _, count, _ in rows)
    return [
        f"{sums.signals} signals in, {workers} workers, {seconds:.1f} s",
        "",
        *(f"  {count:>5}  {name:<13} {detail}" for name, count, detail in rows),
        "  -----",
        f"  {total:>5}  accounted for" + ("" if sums.problems else ", nothing pending"),
        "",
        f"  why signals failed: {_counts(sums.codes) or '-'}",
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
