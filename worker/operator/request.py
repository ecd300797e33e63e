"""Ids of what people ask for, each made by whoever asks."""

import secrets

#: Random bytes of an id: enough that no two requests of an account have the same.
_BYTES = 8


def new_request_id() -> str:
    """Return an id that no other request has, by any process and in the same millisecond.

    A call that is repeated after a lost reply carries the id it had.
    """
    return secrets.token_hex(_BYTES)
