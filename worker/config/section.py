"""The base of every configuration section, and the annotations its keys are declared with."""

import msgspec
from msgspec import Meta


class Section(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One table of the file; every section refuses unknown keys as this one does."""


def doc(meaning: str) -> Meta:
    """Annotate a key that has no range with its meaning."""
    return Meta(description=meaning)


def integer(ge: int, le: int, meaning: str) -> Meta:
    """Annotate an integer with its bounds, both inclusive, and its meaning."""
    return Meta(ge=ge, le=le, description=meaning)


def real(meaning: str, *, le: float, ge: float = 0, gt: float | None = None) -> Meta:
    """Annotate a float with its meaning and bounds; ``gt`` replaces the lower bound ``ge``."""
    if gt is not None:
        return Meta(gt=gt, le=le, description=meaning)
    return Meta(ge=ge, le=le, description=meaning)


def decimal(meaning: str, *, ge: str | None = None, gt: str | None = None, le: str) -> Meta:
    """Annotate a decimal with its meaning and bounds.

    msgspec has no bounds for decimals: they travel as ``extra`` and :mod:`worker.config.fields`
    checks them.
    """
    bounds = {"ge": ge, "gt": gt, "le": le}
    return Meta(description=meaning, extra={k: v for k, v in bounds.items() if v is not None})
