"""Rules across configuration keys, and the form of addresses."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from worker.config import redis_url
from worker.config.keys import Config, ExchangeConfig
from worker.config.listening import listening_host
from worker.domain.signature import (
    MAX_SIGNAL_ID_PATTERNS,
    MIN_SECRET_LENGTH,
    is_signal_id_pattern,
)
from worker.runtime.errors import ConfigError
from worker.runtime.secret import HIDDEN

EXCHANGE_NAME: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
#: The largest part of a lease that a request may need. A lease is renewed every third of its life
#: and may lose a thirtieth in the claim it counts from, so over six tenths are left when all is
#: well, three after a missed renewal: a request that needs half can be sent.
MAX_REQUEST_SHARE_OF_LEASE: Final = 0.5


def check_rules(config: Config) -> None:
    """Check the rules that involve more than one key.

    Raises:
        ConfigError: for the first broken rule, naming the key to change.
    """
    _check_sizes(config)
    _check_times(config)
    _check_redis_url(config.redis.url.reveal())
    listening_host(config.http.host)
    _check_tls(config)
    _check_exchanges(config)
    _check_signatures(config)
    _check_address("tracing.endpoint", config.tracing.endpoint, ("http", "https"))
    if config.tracing.enabled and not config.tracing.endpoint:
        raise ConfigError("tracing.endpoint", "is missing: traces must go somewhere")


def _check_redis_url(url: str) -> None:
    if url != redis_url.EMBEDDED:
        redis_url.parse(url)


def _check_sizes(config: Config) -> None:
    risk = config.risk
    if risk.default_position_size_pct > risk.max_position_size_pct:
        raise ConfigError(
            "risk.default_position_size_pct",
            f"{risk.default_position_size_pct:f} is more than risk.max_position_size_pct, "
            f"{risk.max_position_size_pct:f}: every signal without a size would be refused",
        )


def _check_times(config: Config) -> None:
    execution, validation = config.execution, config.validation
    if validation.max_signal_age_seconds > validation.max_signal_lifetime_seconds:
        raise ConfigError(
            "validation.max_signal_age_seconds",
            f"{validation.max_signal_age_seconds:g} is more than "
            f"validation.max_signal_lifetime_seconds, {validation.max_signal_lifetime_seconds:g}: "
            "every signal without expires_at would be refused",
        )
    if execution.max_delay < execution.base_delay:
        raise ConfigError(
            "execution.max_delay",
            f"{execution.max_delay:g} is less than execution.base_delay, {execution.base_delay:g}",
        )


def _check_tls(config: Config) -> None:
    if bool(config.redis.tls_cert_file) is not bool(config.redis.tls_key_file):
        missing = "tls_key_file" if config.redis.tls_cert_file else "tls_cert_file"
        raise ConfigError(
            f"redis.{missing}", "is missing: a client certificate and its key come together"
        )


def _check_signatures(config: Config) -> None:
    keys = config.signatures.keys
    if config.validation.require_signature and not keys:
        raise ConfigError(
            "validation.require_signature",
            "is true, but there is no key under signatures.keys: no signal would ever trade",
        )
    for name, key in keys.items():
        if len(key.secret.reveal()) < MIN_SECRET_LENGTH:
            raise ConfigError(
                f"signatures.keys.{name}.secret",
                f"has fewer than {MIN_SECRET_LENGTH} characters: it could be guessed",
            )
        if key.not_before and key.not_after and key.not_before >= key.not_after:
            raise ConfigError(f"signatures.keys.{name}.not_after", "is not later than not_before")
        _check_signal_ids(f"signatures.keys.{name}.signal_ids", key.signal_ids)


def _check_signal_ids(key: str, patterns: Sequence[str]) -> None:
    if len(patterns) > MAX_SIGNAL_ID_PATTERNS:
        raise ConfigError(key, f"has {len(patterns)} patterns, more than {MAX_SIGNAL_ID_PATTERNS}")
    for pattern in patterns:
        if not is_signal_id_pattern(pattern):
            raise ConfigError(
                key,
                f'"{pattern}" is neither a signal id (1 to 64 of letters, digits and ._:-) nor the '
                "beginning of one with a single * at its end",
            )


def _check_exchanges(config: Config) -> None:
    for name in config.validation.valid_exchanges:
        if name not in config.exchanges:
            raise ConfigError(
                "validation.valid_exchanges",
                f'"{name}" is not configured; there are {", ".join(sorted(config.exchanges))}',
            )
    for name, exchange in config.exchanges.items():
        key = f"exchanges.{name}"
        _check_address(f"{key}.base_url", exchange.base_url, ("http", "https"))
        _check_address(f"{key}.ws_base_url", exchange.ws_base_url, ("ws", "wss"))
        if exchange.order_transport == "websocket":
            _check_websocket(key, exchange)
        if exchange.adapter == "ccxt":
            _check_ccxt(key, exchange, config)
    if config.mode == "live" and all(e.adapter == "paper" for e in config.exchanges.values()):
        raise ConfigError(
            "mode",
            'is "live", but every configured exchange has adapter = "paper": no real order would '
            "ever be sent",
        )


def _check_websocket(key: str, exchange: ExchangeConfig) -> None:
    if bool(exchange.base_url) is not bool(exchange.ws_base_url):
        given, missing = "base_url", "ws_base_url"
        if exchange.ws_base_url:
            given, missing = missing, given
        raise ConfigError(
            f"{key}.{missing}",
            f'is missing: with order_transport = "websocket" and {key}.{given} alone, an order '
            "would be sent to one place and looked for in another",
        )


def _check_ccxt(key: str, exchange: ExchangeConfig, config: Config) -> None:
    if config.mode == "live":
        for name in ("api_key", "secret"):
            if not getattr(exchange, name):
                raise ConfigError(
                    f"{key}.{name}", 'is missing: live mode with adapter = "ccxt" needs it'
                )
    # An order is sent only if its deadline and the margin end before the lease does.
    needed_ms = exchange.recv_window_ms + config.execution.skew_margin_ms
    room_ms = config.worker.lease_seconds * 1_000 * MAX_REQUEST_SHARE_OF_LEASE
    if needed_ms > room_ms:
        raise ConfigError(
            f"{key}.recv_window_ms",
            f"{exchange.recv_window_ms} and execution.skew_margin_ms, "
            f"{config.execution.skew_margin_ms}, make {needed_ms} ms, more than half of "
            f"worker.lease_seconds, {config.worker.lease_seconds:g} s: an order could rarely be "
            "sent before its lease must be renewed",
        )


def _check_address(key: str, url: str, schemes: tuple[str, ...]) -> None:
    if not url:
        return
    problem = ""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError as error:
        problem = str(error)
    else:
        if parts.scheme not in schemes or not parts.hostname:
            problem = f"expected {' or '.join(f'{scheme}://host[:port]' for scheme in schemes)}"
        elif parts.username or parts.password or parts.query or parts.fragment:
            problem = "it may have a scheme, a host, a port and a path only"
    if problem:
        # User and password do not belong here, and must not be shown in the message.
        shown = re.sub(r"//[^/]*@", f"//{HIDDEN}@", url)
        raise ConfigError(key, f'"{shown}" is not a base address: {problem}')
