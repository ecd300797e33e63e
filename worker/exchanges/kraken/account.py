"""Kraken's account settings: the rights of the API key.

Source: https://docs.kraken.com/api-reference/account-data/get-api-key-info.
"""

from collections.abc import Iterator
from typing import Any, Final

from worker.exchanges.findings import AccountFinding, fail, key_exposure

#: What orders need of ``permissions``, and how the key's settings call it.
_NEEDED: Final = {
    "query-funds": "Query funds",
    "query-open-trades": "Query open orders & trades",
    "query-closed-trades": "Query closed orders & trades",
    "modify-trades": "Create & modify orders",
    "close-trades": "Cancel & close orders",
}


def key_findings(reply: Any) -> Iterator[AccountFinding]:
    """Yield what ``/0/private/GetApiKeyInfo`` says."""
    key = reply.get("result") if isinstance(reply, dict) else None
    key = key if isinstance(key, dict) else {}
    rights, addresses = key.get("permissions"), key.get("ipAllowlist")
    if isinstance(rights, list):
        missing = [words for right, words in _NEEDED.items() if right not in rights]
        if missing:
            yield fail("permissions", f"the API key lacks {', '.join(missing)}: give it those")
    yield from key_exposure(
        may_withdraw="withdraw-funds" in rights if isinstance(rights, list) else None,
        is_bound=bool(addresses) if isinstance(addresses, list) else None,
    )
