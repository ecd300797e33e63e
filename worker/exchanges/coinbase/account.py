"""Coinbase's account settings: the rights of the API key.

Source: https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/data-api/get-api-key-permissions.
"""

from collections.abc import Iterator
from typing import Any

from worker.exchanges.findings import AccountFinding, fail, ok, warn


def key_findings(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/api/v3/brokerage/key_permissions`` says."""
    rights = reply if isinstance(reply, dict) else {}
    if rights.get("can_trade") is False:
        yield fail("permissions", "the API key may not trade: give it the permission to trade")
    elif rights.get("can_transfer") is True:
        yield warn("permissions", "the API key may transfer money: nothing here needs that")
    elif rights.get("can_trade") is True:
        yield ok("permissions", "the API key may trade")
