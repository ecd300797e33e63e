"""Findings about an account's settings: what an exchange's adapter reads of them at its start."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from worker.exchanges.errors import ExchangeError, Outcome

#: The code of an exchange that does not start because of its account's settings.
UNUSABLE: Final = "account_settings"


class Level(StrEnum):
    """The weight of a setting."""

    OK = "ok"
    WARN = "warn"  # orders work, and a person should know
    FAIL = "FAIL"  # orders cannot work: the exchange does not start


class AccountFinding(msgspec.Struct, frozen=True, gc=False):
    """One setting of an account: its name, and a sentence that says what to do unless it is ok."""

    level: Level
    setting: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.sentence}"


def ok(setting: str, sentence: str) -> AccountFinding:
    """Return a finding that nothing has to be done about."""
    return AccountFinding(Level.OK, setting, sentence)


def warn(setting: str, sentence: str) -> AccountFinding:
    """Return a finding that a person should know of."""
    return AccountFinding(Level.WARN, setting, sentence)


def fail(setting: str, sentence: str) -> AccountFinding:
    """Return a finding with which no order of a configured market can work."""
    return AccountFinding(Level.FAIL, setting, sentence)


def refuse_unusable(exchange: str, findings: Iterable[AccountFinding]) -> None:
    """Refuse to start ``exchange`` with settings that cannot work.

    Raises:
        ExchangeError: one of ``findings`` fails; the message has all that do.
    """
    failed = [str(finding) for finding in findings if finding.level is Level.FAIL]
    if failed:
        reasons = "; ".join(failed)
        raise ExchangeError(
            f"{exchange}: the account cannot be traded as it is set: {reasons}",
            outcome=Outcome.REFUSED,
            code=UNUSABLE,
        )
