"""What leaves the ledger's boundary when the network breaks in unusual ways."""

import pytest
from redis.exceptions import ResponseError

from worker.ledger.errors import LedgerUnavailableError, map_exceptions


def test_a_write_on_a_connection_just_reset_is_redis_being_away() -> None:
    """Uvloop says so with a RuntimeError, which must not end the worker: the call is repeated."""
    closed = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
    with pytest.raises(LedgerUnavailableError) as caught, map_exceptions():
        raise RuntimeError(closed)
    assert (caught.value.kind, caught.value.moved) == ("connection", True)


def test_a_mistake_of_our_own_stays_what_it_is() -> None:
    """Any other RuntimeError is a bug, and no network trouble."""
    with pytest.raises(RuntimeError, match="no running event loop"), map_exceptions():
        raise RuntimeError("no running event loop")


def test_a_full_disk_is_waited_for() -> None:
    """A server that cannot save refuses writes until it can: an outage, not a broken script."""
    text = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist"
    with pytest.raises(LedgerUnavailableError) as caught, map_exceptions():
        raise ResponseError(text)
    assert (caught.value.kind, caught.value.moved) == ("disk", False)
