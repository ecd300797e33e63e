"""The known name that a misspelt one is nearest to, by its letters or by its words."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

#: Names less alike than this (0 to 1) are not suggested.
LEAST_LIKENESS: Final = 0.6
#: Words at least so alike count as the same: ``position`` and ``positions``.
_SAME_WORD: Final = 0.8
_BETWEEN_WORDS: Final = re.compile(r"[^a-z0-9]+")
#: Longer text is no misspelt name, and comparing takes time quadratic in it.
_LONGEST: Final = 100


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like ``name``; empty where none is alike enough."""
    name = name.lower()
    if len(name) > _LONGEST:
        return ""
    likeness = {one: _likeness(name, one.lower()) for one in known if one.lower() != name}
    best = max(likeness, key=lambda one: likeness[one], default="")
    return best if likeness.get(best, 0) >= LEAST_LIKENESS else ""


def hint(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean <name>?``, or nothing where no known name is alike enough."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""


def _likeness(one: str, other: str) -> float:
    return max(_ratio(one, other), _shared_words(one, other))


def _shared_words(one: str, other: str) -> float:
    """Return the share of the two names' words that both have (Dice's coefficient)."""
    words = [word for word in _BETWEEN_WORDS.split(one) if word]
    left = [word for word in _BETWEEN_WORDS.split(other) if word]
    total, shared = len(words) + len(left), 0
    for word in words:
        same = max(left, key=lambda candidate: _ratio(word, candidate), default="")
        if same and _ratio(word, same) >= _SAME_WORD:
            left.remove(same)
            shared += 2
    return shared / total if total else 0.0


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
