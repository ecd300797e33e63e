"""The names by which workers share a budget: by API key, by address."""

import hashlib
from typing import Final

#: Characters of a key's digest: enough that two keys of one account never get the same.
_DIGEST_CHARS: Final = 12


def budget_key(exchange: str, api_key: str) -> str:
    """Return the name of the budget of one API key: the exchange and a salted digest of the key.

    Args:
        exchange: its name in configuration.
        api_key: never part of the name; without one all that is limited is the address.
    """
    if not api_key:
        return exchange
    digest = hashlib.blake2s(api_key.encode(), key=exchange.encode()[:32], person=b"budget")
    return f"{exchange}:{digest.hexdigest()[:_DIGEST_CHARS]}"
