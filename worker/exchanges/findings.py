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


def key_exposure(
    *, may_withdraw: bool | None, is_bound: bool | None
) -> tuple[AccountFinding, AccountFinding]:
    """Return what a thief of the API key could do: take money out, and use it from anywhere.

    Args:
        may_withdraw: whether the key may move money off the account; None if it is not known.
        is_bound: whether the key works from stated addresses only; None if it is not known.
    """
    if may_withdraw is None:
        money = warn(
            "withdrawals",
            "not known, the exchange does not say it here: see that the API key may not withdraw",
        )
    elif may_withdraw:
        money = warn(
            "withdrawals",
            "the API key may withdraw: nothing here needs that, take the right away",
        )
    else:
        money = ok("withdrawals", "the API key may not withdraw")
    if is_bound is None:
        address = warn(
            "addresses",
            "not known, the exchange does not say it here: see that the API key is bound to the "
            "workers' addresses",
        )
    elif is_bound:
        address = ok("addresses", "the API key is bound to addresses")
    else:
        address = warn(
            "addresses", "the API key works from anywhere: bind it to the workers' addresses"
        )
    return money, address
