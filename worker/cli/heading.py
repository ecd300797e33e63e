"""The line every screen of an account begins with: paper or live, which account, at what time."""

from worker.cli import wording
from worker.operator.status import Status
from worker.runtime.printable import printable


def heading(status: Status) -> str:
    """Return for example ``PAPER  account main  2026-03-01 12:00:00.000 UTC``."""
    mode = printable(status.mode.upper())
    return f"{mode}  account {status.account}  {wording.moment(status.at)} UTC"
