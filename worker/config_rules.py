"""Rules between configuration keys, and the shape of addresses."""

import re
from typing import Final
from urllib.parse import urlsplit

from worker.config import Config, ExchangeConfig
from worker.domain.signature import MIN_SECRET_LENGTH
from worker.errors import ConfigError

EXCHANGE_NAME: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
#: A heartbeat renews a lease every third of it, and a thirtieth may pass in the waiting claim it
#: counts from: over six tenths are left when all is well, three after a renewal was missed; a
#: request that needs at most half can be sent.
LEASE_SHARE_OF_REQUEST: Final = 0.5

_REDIS_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "redis+cluster",
    "rediss+sentinel",
    "rediss+cluster",
)


def check_rules(config: Config) -> None:
    """Check everything that one key alone cannot tell.

    Raises:
        ConfigError: for the first rule broken, naming the key to change.
    """
    _check_sizes(config)
    _check_times(config)
    check_redis_url(config.redis.url.reveal())
    _check_tls(config)
    _check_exchanges(config)
    _check_signatures(config)
    _check_address("tracing.endpoint", config.tracing.endpoint, ("http", "https"))
    if config.tracing.enabled and not config.tracing.endpoint:
        raise ConfigError("tracing.endpoint", "is missing: traces must go somewhere")


def _check_sizes(config: Config) -> None:
    risk = config.risk
    if risk.default_position_size_pct > risk.max_position_size_pct:
        raise ConfigError(
            "risk.default_position_size_pct",
            f"{risk.default_position_size_pct:f} is more than risk.max_position_size_pct, "
            f"{risk.max_position_size_pct:f}: every signal without a size would be refused",
        )


def _check_times(config: Config) -> None:
    execution = config.execution
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
            _check_websocket(key, exchange.ccxt_id or name, exchange)
        if exchange.adapter == "ccxt":
            _check_ccxt(key, exchange, config)
    if config.mode == "live" and all(e.adapter == "paper" for e in config.exchanges.values()):
        raise ConfigError(
            "mode",
            'is "live", but every configured exchange has adapter = "paper": no real order would '
            "ever be sent",
        )


def _check_websocket(key: str, ccxt_id: str, exchange: ExchangeConfig) -> None:
    if ccxt_id != "binance":
        raise ConfigError(
            f"{key}.order_transport",
            f'is "websocket", which only Binance has here, and this exchange is "{ccxt_id}" '
            '(its ccxt_id, or else its name): leave the key out, or set it to "rest"',
        )
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
    room_ms = config.worker.lease_seconds * 1_000 * LEASE_SHARE_OF_REQUEST
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
        _ = parts.port  # raises ValueError for a port that is none
    except ValueError as error:
        problem = str(error)
    else:
        if parts.scheme not in schemes or not parts.hostname:
            problem = f"expected {' or '.join(f'{scheme}://host[:port]' for scheme in schemes)}"
        elif parts.username or parts.password or parts.query or parts.fragment:
            problem = "it may have a scheme, a host, a port and a path only"
    if problem:
        # A user and password would be shown; neither belongs here, so cut them off.
        shown = re.sub(r"//[^/]*@", "//********@", url)
        raise ConfigError(key, f'"{shown}" is not a base address: {problem}')


def check_redis_url(url: str) -> None:
    """Check the shape of ``redis.url``; the error never shows it, for it may hold a password.

    Raises:
        ConfigError: naming the part that is wrong.
    """
    if url == "embedded":
        return
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _REDIS_SCHEMES:
        known = ", ".join(f"{name}://" for name in _REDIS_SCHEMES)
        raise ConfigError("redis.url", f'must begin with one of {known} or be "embedded"')
    place = rest.partition("?")[0]
    place = place.rpartition("@")[2]
    if scheme == "unix":
        if not place.startswith("/"):
            raise ConfigError("redis.url", "unix:// needs an absolute path: unix:///run/redis.sock")
        return
    hosts, _, path = place.partition("/")
    kind = scheme.partition("+")[2]
    several = bool(kind)
    for host in hosts.split(",") if several else [hosts]:
        _check_host(host, scheme)
    names = [name for name in path.split("/") if name]
    if kind == "sentinel":
        if not names:
            raise ConfigError(
                "redis.url",
                "redis+sentinel:// needs the master's name: /<master> or /<master>/<db>",
            )
        names = names[1:]
    if len(names) > 1 or (names and not re.fullmatch(r"[0-9]{1,5}", names[0])):
        raise ConfigError("redis.url", "the database must be a whole number after the last /")
    if kind == "cluster" and names and int(names[0]):
        raise ConfigError("redis.url", "a cluster has database 0 only")


def _check_host(place: str, scheme: str) -> None:
    host = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:,]+)(?::([0-9]{1,5}))?", place)
    if host is None or (host[2] is not None and not 0 < int(host[2]) <= 65_535):
        raise ConfigError(
            "redis.url", f"{scheme}:// needs host or host:port, the port from 1 to 65535"
        )
