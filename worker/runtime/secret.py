"""Strings that are never printed, and the text shown in their place."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "********"
#: Lines of a multi-line secret (a PEM key) are secrets of their own from this length on.
_MIN_LINE_LENGTH: Final = 16


def forms_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return every form in which these secrets may stand in a text, longest first.

    That is as they are, line by line where they have several, as ``repr()`` spells them in an
    exception's text, and as a URL carries them. Empty ones are left out.
    """
    known = {secret for secret in secrets if secret}
    for secret in tuple(known):
        lines = (line.strip() for line in secret.splitlines())
        known.update(line for line in lines if len(line) >= _MIN_LINE_LENGTH)
    forms = set(known)
    for secret in known:
        forms |= {repr(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


class Secret:
    """A string that ``str``, ``repr``, ``format`` and encoders show as ``HIDDEN``."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __str__(self) -> str:
        return HIDDEN if self._value else ""

    def reveal(self) -> str:
        """Return the secret, for the call that needs it."""
        return self._value
