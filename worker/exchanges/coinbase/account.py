"""Coinbase's account settings: the rights of the API key.

Source: https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/data-api/get-api-key-permissions.
"""

from collections.abc import Iterator
from typing import Any

from worker.exchanges.findings import AccountFinding, fail, key_exposure, ok


def key_findings(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/api/v3/brokerage/key_permissions`` says."""
    rights = reply if isinstance(reply, dict) else {}
    if rights.get("can_trade") is False:
        yield fail("permissions", "the API key may not trade: give it the permission to trade")
    elif rights.get("can_trade") is True:
        yield ok("permissions", "the API key may trade")
    # The right to transfer is also that to withdraw; of addresses the reply says nothing.
    may_transfer = rights.get("can_transfer")
    yield from key_exposure(
        may_withdraw=may_transfer if isinstance(may_transfer, bool) else None, is_bound=None
    )
