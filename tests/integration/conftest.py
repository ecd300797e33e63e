"""Settings of the worker that only tests change."""

import pytest

from worker.exchanges.binance import order_socket


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again at once, however short the last connection was."""
    monkeypatch.setattr(order_socket, "SHORTEST_CYCLE_S", 0.02)
    monkeypatch.setattr(order_socket, "LONGEST_CYCLE_S", 0.1)
