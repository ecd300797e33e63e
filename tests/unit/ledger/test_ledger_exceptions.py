"""What leaves the ledger's boundary when the network breaks in unusual ways."""

import pytest
from redis.asyncio import Connection
from redis.exceptions import ResponseError

from worker.ledger.errors import LedgerUnavailableError, map_exceptions


def test_a_write_on_a_connection_just_reset_is_redis_being_away() -> None:
    """Uvloop says so with a RuntimeError, which must not end the worker: the call is repeated."""
    closed = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
    with pytest.raises(LedgerUnavailableError) as caught, map_exceptions():
        raise RuntimeError(closed)
    assert (caught.value.kind, caught.value.moved) == ("connection", True)


async def test_a_connection_closed_while_it_was_being_made_is_redis_being_away() -> None:
    """Another call drops the pool meanwhile; the library then finds None where its stream was."""
    connection = Connection(port=1)
    with pytest.raises(LedgerUnavailableError) as caught, map_exceptions():
        await connection._send_packed_command([b"PING"])
    assert isinstance(caught.value.__cause__, AttributeError)
    assert (caught.value.kind, caught.value.moved) == ("connection", True)


def test_a_mistake_of_our_own_stays_what_it_is() -> None:
    """The same kinds of error from anywhere else are bugs, and no network trouble."""
    with pytest.raises(RuntimeError, match="no running event loop"), map_exceptions():
        raise RuntimeError("no running event loop")
    with pytest.raises(AttributeError), map_exceptions():
        raise AttributeError("'NoneType' object has no attribute 'writelines'")


def test_a_full_disk_is_waited_for() -> None:
    """A server that cannot save refuses writes until it can: an outage, not a broken script."""
    text = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist"
    with pytest.raises(LedgerUnavailableError) as caught, map_exceptions():
        raise ResponseError(text)
    assert (caught.value.kind, caught.value.moved) == ("disk", False)
