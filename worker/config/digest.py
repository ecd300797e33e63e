"""A digest of what decides how an account trades, by which workers' configurations are compared."""

import hashlib
from typing import Any, Final

import msgspec

from worker.config.keys import Config
from worker.runtime.secret import Secret

#: Keys in which one account's workers may differ: where a process runs and whom it tells of it.
PROCESS_KEYS: Final = frozenset(
    {
        ("http",),
        ("log",),
        ("tracing",),
        ("redis", "url"),
        ("redis", "username"),
        ("redis", "password"),
        ("redis", "tls_ca_file"),
        ("redis", "tls_cert_file"),
        ("redis", "tls_key_file"),
        ("worker", "concurrency"),
        ("worker", "drain_seconds"),
        ("worker", "seed"),
    }
)
#: Keys of every exchange of which the same holds: an address on the way, the key used to sign in.
EXCHANGE_KEYS: Final = frozenset({"api_key", "secret", "password", "base_url", "ws_base_url"})
_DIGITS: Final = 12


def config_digest(config: Config) -> str:
    """Return 12 hex digits of the configuration, without ``PROCESS_KEYS`` and secrets."""
    found: dict[str, Any] = msgspec.to_builtins(config, enc_hook=_plain)
    for path in PROCESS_KEYS:
        section = found
        for name in path[:-1]:
            section = section[name]
        section.pop(path[-1], None)
    for exchange in found["exchanges"].values():
        for name in EXCHANGE_KEYS:
            exchange.pop(name, None)
    text = msgspec.json.encode(found, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:_DIGITS]


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return str(value)
    raise NotImplementedError(type(value))
