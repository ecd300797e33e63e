"""Masks known secrets in text that is about to be written, in every form they may take there."""

from collections.abc import Iterable
from typing import Any

import msgspec

from worker.runtime.secret import HIDDEN, forms_of


class Redactor:
    """A fixed set of secrets to find and mask.

    A line without a secret costs one substring search for each form, some tens of nanoseconds; only
    a line with a hit is parsed.

    Args:
        secrets: the strings to hide; empty ones are ignored, longer ones are masked first.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = forms_of(secrets)
        self._encoded = tuple(_encoded(form) for form in self._forms)

    def finds_in_json(self, line: bytes) -> bool:
        """Return whether an encoded JSON text holds a secret in a string or number."""
        for form in self._encoded:  # noqa: SIM110 - any() and a generator take five times as long
            if line.find(form) >= 0:  # "in" first takes the form for a number, and fails
                return True
        return False

    def mask(self, text: str) -> str:
        """Return ``text`` with every form of every secret replaced."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text

    def mask_value(self, value: Any) -> Any:
        """Return a decoded JSON value with every string in it masked, keys included."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {self.mask(key): self.mask_value(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.mask_value(entry) for entry in value]
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        masked = self.mask(text)
        return value if masked == text else masked


def _encoded(form: str) -> bytes:
    """Return a secret as it appears inside a JSON string."""
    return msgspec.json.encode(form.encode(errors="replace").decode())[1:-1]
