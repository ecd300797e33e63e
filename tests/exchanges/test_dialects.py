"""The simulators themselves: they refuse what the exchanges would refuse, and count requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.exchange_simulator.allowances import Allowance, Decaying, OverLimitError, Windowed
from tests.exchange_simulator.dialect import Dialect
from tests.exchange_simulator.kraken import Kraken
from tests.exchange_simulator.server import Server
from tests.exchanges.venues import VENUES, Venue, new_pem
from tests.integration.venues import Impatient
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.discovery import adapter_class
from worker.exchanges.errors import CredentialsError, ExchangeError

DIALECTS = [name for name in VENUES if name != "binance"]


@asynccontextmanager
async def served(venue: Venue) -> AsyncIterator[tuple[Dialect, Server]]:
    """A simulator with one market of each kind."""
    simulator = venue.simulator()
    assert isinstance(simulator, Dialect)
    for space in simulator.venues:
        simulator.add_market("ONE", space)
    server = Server(simulator)
    await server.start()
    try:
        yield simulator, server
    finally:
        await server.stop()


def adapter_at(venue: Venue, url: str, **credentials: str) -> CCXTAdapter:
    """An adapter of the exchange, with other credentials where given."""
    config = venue._replace(credentials={**venue.credentials, **credentials}).config(url)
    adapter = adapter_class(venue.name)(venue.name, config, Impatient())
    assert isinstance(adapter, CCXTAdapter)
    return adapter


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_wrong_secret_is_refused(name: str) -> None:
    """Signatures are recomputed: one bit of the secret off, and nothing private is answered."""
    venue = VENUES[name]
    other = venue.credentials["secret"].replace("secret", "terces").replace("c2Vj", "d2Vj")
    if name == "coinbase":
        other = new_pem()
    async with served(venue) as (simulator, server):
        with pytest.raises(CredentialsError):
            await adapter_at(venue, server.url, secret=other).start()
        answers = {outcome for (_, outcome) in simulator.counts if outcome != "200"}
        assert len(answers) == 1, simulator.counts


@pytest.mark.parametrize("name", DIALECTS)
async def test_an_unknown_path_is_no_success(name: str) -> None:
    """What a dialect does not know it says, rather than answer with nothing."""
    async with served(VENUES[name]) as (simulator, _):
        pending = simulator.take("GET", "/no/such/path", "", "", {})
        assert simulator.apply(pending).status == 404
        assert not pending.applied


def _burst(simulator: Dialect, count: int) -> int:
    """Ask for the balance again and again, unsigned; return how often a limit was the answer."""
    (route,) = (r for r, endpoint in simulator.endpoints.items() if endpoint.job == "balance")
    method, _, path = route.partition(" ")
    words = simulator.refusal("throttled", "spot").code
    refused = 0
    for _ in range(count):
        pending = simulator.take(method, path, "", "", {})
        simulator.apply(pending)
        assert pending.refused is not None
        refused += pending.refused.code == words
    return refused


@pytest.mark.parametrize(("name", "limit"), [("okx", 10), ("kraken", 20), ("coinbase", 30)])
def test_documented_limits_are_held_where_wanted(name: str, limit: int) -> None:
    """Counted in any case; refused as the exchange does where ``enforce_limits`` is set."""
    simulator = VENUES[name].simulator(clock_ms=lambda: 1_000_000)
    assert isinstance(simulator, Dialect)
    assert _burst(simulator, limit + 3) == 0
    assert simulator.refused_for_limits.total() == 3
    simulator.reset()
    simulator.enforce_limits = True
    assert _burst(simulator, limit + 3) == 3


def _spend(allowance: Allowance, costs: list[tuple[float, int]]) -> list[int]:
    """Spend at given times; return the indices of what was refused."""
    refused = []
    for index, (cost, now_ms) in enumerate(costs):
        try:
            allowance.spend("x", cost, now_ms)
        except OverLimitError:
            refused.append(index)
    return refused


def test_a_windowed_allowance_starts_anew_with_each_window() -> None:
    """Refused calls are not counted."""
    costs: list[tuple[float, int]] = [(1, 0), (1, 10), (1, 20), (1, 999), (1, 1_000), (1, 1_001)]
    assert _spend(Windowed("w", 2, 1_000), costs) == [2, 3]


def test_a_decaying_allowance_punishes_refused_calls() -> None:
    """Whoever keeps asking stays refused; whoever waits for one call's worth is served."""
    asking: list[tuple[float, int]] = [(1, 100 * n) for n in range(30)]
    assert _spend(Decaying("d", 3, 1.0), asking)[0] == 3
    patient: list[tuple[float, int]] = [(1, 0), (1, 0), (1, 0), (1, 0), (1, 2_100)]
    assert _spend(Decaying("d", 3, 1.0), patient) == [3]


async def test_kraken_refuses_a_nonce_below_the_window() -> None:
    """Without a window, any nonce that does not rise; within it, only what is too far behind."""
    async with served(VENUES["kraken"]) as (simulator, server):
        assert isinstance(simulator, Kraken)
        adapter = adapter_at(VENUES["kraken"], server.url)
        await adapter.start()
        simulator.highest_nonce *= 2
        with pytest.raises(ExchangeError, match="Invalid nonce"):
            await adapter.get_balance()
        await adapter.close()
