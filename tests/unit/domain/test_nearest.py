"""Suggestions for misspelt names."""

import pytest

from worker.config.fields import walk
from worker.domain.nearest import hint, nearest

KEYS = [".".join(path) for path, _ in walk()]
COMMANDS = ["run", "submit", "status", "positions", "order", "dead", "check", "config"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("risk.max_positions", "risk.max_concurrent_positions"),
        ("risk.max_order_rate", "risk.max_orders_per_minute"),
        ("validation.min_strength", "validation.min_signal_strength"),
        ("redis_url", "redis.url"),
        ("worker.concurency", "worker.concurrency"),
        ("concurrency", "worker.concurrency"),
        ("HTTP.PRT", "http.port"),
        ("nonsense.key", ""),
        ("x" * 10_000, ""),
    ],
)
def test_a_key_is_found_by_its_letters_or_its_words(name: str, meant: str) -> None:
    """A word too few, in the wrong number or misspelt does not hide what was meant."""
    assert nearest(name, KEYS) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [("postions", "positions"), ("dead-letters", "dead"), ("stat", "status"), ("frobnicate", "")],
)
def test_a_command_is_found_likewise(name: str, meant: str) -> None:
    """And nothing is suggested for a name like none of them."""
    assert nearest(name, COMMANDS) == meant


def test_a_hint_is_the_end_of_a_sentence() -> None:
    """Empty where there is nothing to suggest."""
    assert hint("statsu", COMMANDS) == "; did you mean status?"
    assert hint("zzz", COMMANDS) == ""
