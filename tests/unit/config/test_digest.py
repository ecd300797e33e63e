"""The digest by which workers' configurations are compared."""

import msgspec
import pytest

from worker.config.digest import EXCHANGE_KEYS, PROCESS_KEYS, config_digest
from worker.config.keys import Config, ExchangeConfig, Secret

_BASE = Config()


def _digest(**changes: object) -> str:
    return config_digest(msgspec.structs.replace(_BASE, **changes))


def test_what_decides_trades_changes_the_digest() -> None:
    """Mode, account, a limit, a lease: each makes another digest."""
    risk = msgspec.structs.replace(_BASE.risk, max_concurrent_positions=9)
    worker = msgspec.structs.replace(_BASE.worker, lease_seconds=7.0)
    digests = {_digest(), _digest(mode="live"), _digest(account="other"), _digest(risk=risk)}
    assert len({*digests, _digest(worker=worker)}) == 5


@pytest.mark.parametrize("path", sorted(PROCESS_KEYS))
def test_every_process_key_exists(path: tuple[str, ...]) -> None:
    """A renamed key would silently count again."""
    found: object = _BASE
    for name in path:
        found = getattr(found, name)
    assert set(ExchangeConfig.__struct_fields__) >= EXCHANGE_KEYS


def test_where_a_process_runs_does_not() -> None:
    """Ports, logs, addresses and secrets of one machine are its own."""
    http = msgspec.structs.replace(_BASE.http, port=1)
    redis = msgspec.structs.replace(_BASE.redis, password=Secret("x"))
    worker = msgspec.structs.replace(_BASE.worker, concurrency=7, seed=1)
    exchanges = {
        name: msgspec.structs.replace(one, api_key=Secret("k"), base_url="http://proxy")
        for name, one in _BASE.exchanges.items()
    }
    assert _digest(http=http, redis=redis, worker=worker, exchanges=exchanges) == _digest()
