"""Kraken's error messages, which serve as its codes.

Sources: the list of documented messages (https://docs.kraken.com/api/docs/guides/spot-errors), the
article on their causes (https://support.kraken.com/articles/360001491786-api-error-messages), the
limits (https://docs.kraken.com/api/docs/guides/spot-rest-ratelimits), and for ``EAuth``,
``EAccount`` and ``limit_only`` the WebSocket API's list
(https://docs.kraken.com/api/docs/guides/spot-errors and the v1 documents before it).
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from worker.exchanges.ccxt.codes import (
    DUPLICATE,
    TRY_AGAIN,
    UNKNOWN,
    CodeTable,
    FailureKind,
    Rule,
)

_CREDENTIALS: Final = Rule(FailureKind.CREDENTIALS)
_FUNDS: Final = Rule(FailureKind.FUNDS)
_INVALID: Final = Rule(FailureKind.INVALID)
_NOT_FOUND: Final = Rule(FailureKind.NOT_FOUND)
_REFUSED: Final = Rule(FailureKind.REFUSED)
_THROTTLED: Final = Rule(FailureKind.THROTTLED)

#: How long a lockout is waited for, seconds. It lasts "a few minutes" to a quarter of an hour, and
#: requests during it prolong it.
LOCKOUT_S: Final = 300.0
#: A throttle is never waited for longer than this, whatever time its text has, seconds.
_LONGEST_THROTTLE_S: Final = 3_600.0
#: A Unix time this large is in milliseconds.
_MILLISECONDS_FROM: Final = 100_000_000_000

#: Where a message may end and what Kraken adds to it begin: a colon, a bracket, a space, a stop.
_ADDED = re.compile(r"[^a-z0-9_]")
_COLON = re.compile(r"\s*:\s*")
#: Ways of saying that an id is taken.
_TAKEN = re.compile(r"duplicate|already|in use|not unique|exists")


class KrakenCodes(CodeTable):
    """Kraken spot: ``{"error": ["EOrder:Insufficient funds"]}`` with HTTP 200.

    A message is ``<severity><category>:<text>`` and possibly more after another colon or in
    parentheses. The longest listed beginning decides; case and spaces around colons do not count.
    """

    codes: ClassVar[Mapping[str, Rule]] = {
        # Nobody knows whether the matching engine has seen the order.
        "EService:Unavailable": UNKNOWN,
        "EService:Timeout": UNKNOWN,
        "EService:Busy": UNKNOWN,
        "EGeneral:Internal error": UNKNOWN,
        "EDatabase:Internal error": UNKNOWN,
        # "The request timed out according to the default or user specified deadline": where, it
        # does not say.
        "EService:Deadline elapsed": UNKNOWN,
        # Too many requests, of the key, the pair, the account with its sub-accounts, or at once.
        "EAPI:Rate limit exceeded": _THROTTLED,
        "EOrder:Rate limit exceeded": _THROTTLED,
        "EOrder:Domain rate limit exceeded": _THROTTLED,
        "EAuth:Rate limit exceeded": _THROTTLED,
        "EAuth:Too many requests": _THROTTLED,
        "EGeneral:Too many requests": _THROTTLED,
        "EGeneral:Temporary lockout": _THROTTLED,
        "EService:Throttled": _THROTTLED,
        "EAPI:Invalid nonce": Rule(FailureKind.SKEW),
        # The key, its rights, or the account itself.
        "EAPI:Invalid key": _CREDENTIALS,
        "EAPI:Invalid signature": _CREDENTIALS,
        "EAPI:Invalid session": _CREDENTIALS,
        "ESession:Invalid session": _CREDENTIALS,
        "EGeneral:Permission denied": _CREDENTIALS,
        "EAccount:Invalid permissions": _CREDENTIALS,
        "EAuth:Account temporary disabled": _CREDENTIALS,
        "EAuth:Account unconfirmed": _CREDENTIALS,
        "ETrade:Locked": _CREDENTIALS,
        "ETrade:User locked": _CREDENTIALS,
        "EOrder:Trading agreement required": _CREDENTIALS,
        "EOrder:Insufficient funds": _FUNDS,
        "EOrder:Insufficient margin": _FUNDS,
        "EOrder:Insufficient initial margin": _FUNDS,
        "EOrder:Margin level too low": _FUNDS,
        "EOrder:Margin allowance exceeded": _FUNDS,
        "EOrder:Unknown order": _NOT_FOUND,
        "EQuery:Unknown order": _NOT_FOUND,
        "EOrder:Cancel pending": _NOT_FOUND,  # it is being cancelled already
        "EOrder:cl_ord_id already in use": DUPLICATE,
        # Room for orders, and a market's mode, may change at any moment.
        "EOrder:Orders limit exceeded": TRY_AGAIN,
        "EOrder:Scheduled orders limit exceeded": TRY_AGAIN,
        "EOrder:Positions limit exceeded": TRY_AGAIN,
        "EService:Market in cancel_only mode": TRY_AGAIN,
        "EService:Market in limit_only mode": TRY_AGAIN,
        "EService:Market in post_only mode": TRY_AGAIN,
        "EService:Market in reduce_only mode": TRY_AGAIN,
        "EOrder:Market is closed": TRY_AGAIN,
        "EOrder:Trading disabled": TRY_AGAIN,
        "EOrder:Post only order": _REFUSED,  # it would have traded at once
        # All others about an order's or a request's own fields: price, volume, cost, tick size,
        # order type, position.
        "EOrder": _INVALID,
        "EGeneral:Invalid arguments": _INVALID,
        "EGeneral:Unknown method": _REFUSED,
        "EGeneral:Unknown asset": _INVALID,
        "EGeneral:Unknown asset pair": _INVALID,
        "EQuery:Unknown asset": _INVALID,
        "EQuery:Unknown asset pair": _INVALID,
        "EQuery:Invalid asset pair": _INVALID,
        "ETrade:Invalid request": _INVALID,
        "EAPI:Bad request": _INVALID,
        "EAPI:Feature disabled": _REFUSED,
        "EBM:limit exceeded": _REFUSED,  # the Canadian purchase limits
        "EFunding": _REFUSED,
    }

    def extract(self, reply: Any) -> tuple[str, str]:
        """Return one entry of ``error``; its class and text are one string.

        Of several entries the one that leaves most open counts: an order may be there as long as
        one of them says so. Warnings (``W…``) are no errors.
        """
        told = reply.get("error") if isinstance(reply, dict) else None
        if isinstance(told, str):
            told = [told]
        entries = [
            entry
            for entry in (told if isinstance(told, list) else ())
            if isinstance(entry, str) and entry.strip() and not entry.startswith("W")
        ]
        return (min(entries, key=self._certainty), "") if entries else ("", "")

    def _certainty(self, entry: str) -> int:
        rule = self.look_up(entry, "")
        if rule is None or rule.kind is FailureKind.UNKNOWN:
            return 0
        return 1 if rule.kind in {FailureKind.DUPLICATE, FailureKind.NOT_FOUND} else 2

    def look_up(self, code: str, text: str) -> Rule | None:
        """Return the rule for the longest listed beginning of an entry."""
        entry = _normalised(code)
        if ("cl_ord_id" in entry or "client order id" in entry) and _TAKEN.search(entry):
            return DUPLICATE
        rule = _RULES.get(entry)
        ends = [found.start() for found in _ADDED.finditer(entry)]
        while rule is None and ends:
            rule = _RULES.get(entry[: ends.pop()])
        return rule

    def pause_s(self, code: str, text: str, now_ms: float) -> float:
        """Return how long a throttle says to wait: ``EService: Throttled: <Unix time>``."""
        entry = _normalised(code)
        if entry.startswith("egeneral:temporary lockout"):
            return LOCKOUT_S
        stamp = entry.rpartition(":")[2].strip(" ()[]")
        if not entry.startswith("eservice:throttled") or not stamp.replace(".", "", 1).isdigit():
            return 0.0
        until = float(stamp)
        until_ms = until if until >= _MILLISECONDS_FROM else until * 1000
        return min(max(0.0, (until_ms - now_ms) / 1000), _LONGEST_THROTTLE_S)


def _normalised(entry: str) -> str:
    return " ".join(_COLON.sub(":", entry).lower().split())


_RULES: Final = {_normalised(code): rule for code, rule in KrakenCodes.codes.items()}
