"""The line every screen of an account begins with: paper or live, which account, at what time."""

from worker.cli import wording
from worker.operator.status import Status
from worker.runtime.printable import printable


def published(status: Status) -> str:
    """Return how old what only the keeper knows is: wallets, and the marks at their side."""
    age_ms = status.sheet_age_ms
    if age_ms is None:
        return "no keeper has published wallets and marks yet"
    return f"wallets and marks as of {wording.age(age_ms)} ago"


def heading(status: Status) -> str:
    """Return for example ``PAPER  account main  2026-03-01 12:00:00.000 UTC``."""
    mode = printable(status.mode.upper())
    return f"{mode}  account {status.account}  {wording.moment(status.at)} UTC"
