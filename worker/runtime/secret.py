"""Strings that are never printed, and the text shown in their place."""

from typing import Final

HIDDEN: Final = "********"


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
