"""The configuration: what is given arrives, what is wrong is named, and secrets stay hidden."""

import os
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from worker.config.fields import ConfigField, ValueKind, fields_of, resolve, walk
from worker.config.keys import (
    DEFAULT_EXCHANGES,
    Config,
    ExchangeConfig,
    RedisConfig,
    Secret,
    Section,
)
from worker.config.loading import MAX_SECRET_BYTES, load_config
from worker.config.showing import config_table, mask_url, render_config, secret_strings
from worker.domain.market import MarketKind
from worker.runtime.errors import ConfigError

D = Decimal


def load(toml: str = "", tmp_path: Path | None = None, **environ: str) -> Config:
    """Load from text, and from variables without their common prefix."""
    path = None
    if toml:
        assert tmp_path is not None
        path = tmp_path / "worker.toml"
        path.write_text(toml)
    return load_config(path, {f"WORKER_{name}": value for name, value in environ.items()})


def refusal(toml: str = "", tmp_path: Path | None = None, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(toml, tmp_path, **environ)
    return caught.value


def test_nothing_given_is_the_documented_default() -> None:
    """Paper mode, account main, six simulated exchanges; other variables do not matter."""
    config = load_config(None, {"HOME": "/", "WORKERS": "7", "WORKER_CONFIG": ""})
    assert config == Config()
    assert (config.mode, config.account) == ("paper", "main")
    assert tuple(config.exchanges) == DEFAULT_EXCHANGES
    assert {e.adapter for e in config.exchanges.values()} == {"paper"}
    assert config.valid_exchanges == frozenset(DEFAULT_EXCHANGES)


CONTRACT: list[tuple[str, Any]] = [
    ("redis.replicas_required", 0),
    ("worker.concurrency", 64),
    ("worker.lease_seconds", 15.0),
    ("worker.max_deliveries", 5),
    ("worker.drain_seconds", 45.0),
    ("http.host", "127.0.0.1"),
    ("http.port", 9108),
    ("exchanges.okx.sandbox", False),
    ("exchanges.okx.ccxt_id", "okx"),
    ("exchanges.okx.market_types", (MarketKind.SPOT,)),
    ("exchanges.okx.recv_window_ms", 5_000),
    ("validation.min_signal_strength", 0.0),
    ("validation.min_confluence_score", 3.0),
    ("validation.max_signal_age_seconds", 30.0),
    ("validation.max_price_deviation_pct", D("5.0")),
    ("risk.max_concurrent_positions", 3),
    ("risk.default_position_size_pct", D("2.0")),
    ("risk.max_position_size_pct", D("5.0")),
    ("risk.min_risk_reward_ratio", D("1.5")),
    ("risk.max_stop_loss_pct", D("2.0")),
    ("risk.default_stop_loss_pct", D("2.0")),
    ("validation.max_signal_lifetime_seconds", 86_400.0),
    ("risk.close_only_own", False),
    ("execution.max_retries", 3),
    ("execution.base_delay", 1.0),
    ("execution.backoff_factor", 2.0),
    ("execution.max_delay", 30.0),
    ("execution.jitter", 0.25),
    ("reconciliation.verify_fill", True),
    ("reconciliation.max_price_slippage_pct", D("1.0")),
    ("reconciliation.max_wait_time", 10.0),
    ("reconciliation.poll_interval", 0.5),
]


def value_at(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize(("key", "expected"), CONTRACT)
def test_defaults_are_those_promised(key: str, expected: object) -> None:
    """They are public: changing one is a breaking change."""
    assert value_at(load(), key) == expected


ENVIRONMENT: list[tuple[str, str, str, Any]] = [
    ("MODE", "paper", "mode", "paper"),
    ("ACCOUNT", "desk-7", "account", "desk-7"),
    ("WORKER__CONCURRENCY", " 8 ", "worker.concurrency", 8),
    ("WORKER__LEASE_SECONDS", "2.5", "worker.lease_seconds", 2.5),
    ("WORKER__SEED", "-3", "worker.seed", -3),
    ("HTTP__HOST", "", "http.host", ""),
    ("RISK__MAX_STOP_LOSS_PCT", "0.1", "risk.max_stop_loss_pct", D("0.1")),
    ("EXECUTION__BASE_DELAY", "1e-3", "execution.base_delay", 0.001),
    ("EXECUTION__SKEW_MARGIN_MS", "+0", "execution.skew_margin_ms", 0),
    ("VALIDATION__VALID_EXCHANGES", "okx, paper,", "validation.valid_exchanges", ("okx", "paper")),
    ("VALIDATION__VALID_EXCHANGES", "", "validation.valid_exchanges", ()),
    ("EXCHANGES__OKX__MARKET_TYPES", "spot,linear", "exchanges.okx.market_types",
     (MarketKind.SPOT, MarketKind.LINEAR)),
    ("EXCHANGES__OKX__PAPER__FEE_PCT", "0.05", "exchanges.okx.paper.fee_pct", D("0.05")),
    ("EXCHANGES__OKX__PAPER__SYMBOLS", "XAU/JPY", "exchanges.okx.paper.symbols", ("XAU/JPY",)),
    ("EXCHANGES__BINANCE_US__API_KEY", "k", "exchanges.binance_us.api_key", Secret("k")),
    ("REDIS__URL", "embedded", "redis.url", Secret("embedded")),
    ("REDIS__TLS_CA_FILE", "/ca.pem", "redis.tls_ca_file", "/ca.pem"),
    ("redis__password", "p", "redis.password", Secret("p")),
    *[("RECONCILIATION__VERIFY_FILL", word, "reconciliation.verify_fill", True)
      for word in ("true", "1", "yes", "on", "TRUE", " On ")],
    *[("RECONCILIATION__VERIFY_FILL", word, "reconciliation.verify_fill", False)
      for word in ("false", "0", "no", "off", "No")],
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "key", "expected"), ENVIRONMENT)
def test_a_variable_sets_its_key_in_the_keys_own_type(
    name: str, text: str, key: str, expected: object
) -> None:
    """Whole numbers, numbers, decimals, words of truth, comma lists, choices, secrets."""
    environ: dict[str, Any] = {name: text}
    value = value_at(load(**environ), key)
    assert value == expected
    assert type(value) is type(expected)


TOML = """
mode = "paper"
account = "desk"
[worker]
concurrency = 2
lease_seconds = 3
[risk]
max_stop_loss_pct = 0.1
default_position_size_pct = "1.25"
[exchanges.kraken]
market_types = ["linear"]
[exchanges.kraken.paper]
balance = 7
[exchanges.gate]
"""


def test_a_file_sets_keys_and_replaces_the_default_exchanges(tmp_path: Path) -> None:
    """Floats arrive as the decimals that were written, not as binary fractions."""
    config = load(TOML, tmp_path)
    assert list(config.exchanges) == ["kraken", "gate"]
    assert (config.account, config.worker.concurrency) == ("desk", 2)
    assert config.worker.lease_seconds == 3.0
    assert isinstance(config.worker.lease_seconds, float)
    assert config.risk.max_stop_loss_pct == D("0.1")
    assert config.risk.default_position_size_pct == D("1.25")
    assert config.exchanges["kraken"].paper.balance == D(7)
    assert config.exchanges["gate"].ccxt_id == "gate"


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path) -> None:
    """Also inside one exchange; an exchange named by a variable alone is added."""
    config = load(
        TOML,
        tmp_path,
        WORKER__CONCURRENCY="9",
        EXCHANGES__KRAKEN__PAPER__FEE_PCT="1",
        EXCHANGES__OKX__SANDBOX="yes",
    )
    assert (config.worker.concurrency, config.worker.lease_seconds) == (9, 3.0)
    kraken = config.exchanges["kraken"].paper
    assert (kraken.balance, kraken.fee_pct) == (D(7), D(1))
    assert set(config.exchanges) == {"kraken", "gate", "okx"}


def test_the_file_may_be_named_by_a_variable_and_an_argument_wins(tmp_path: Path) -> None:
    """``WORKER_CONFIG`` is a way to name the file, not a key."""
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text('account = "first"')
    second.write_text('account = "second"')
    environ = {"WORKER_CONFIG": str(first)}
    assert load_config(None, environ).account == "first"
    assert load_config(second, environ).account == "second"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_the_file_a_variable_names(tmp_path: Path, end: str) -> None:
    """One newline at the end belongs to the file, not to the secret; other white space stays."""
    file = tmp_path / "key"
    file.write_bytes(b" s3cret\n" + end.encode() if end else b" s3cret")
    config = load(EXCHANGES__OKX__SECRET_FILE=str(file), REDIS__PASSWORD_FILE=str(file))
    expected = " s3cret\n" if end else " s3cret"
    assert config.exchanges["okx"].secret.reveal() == expected
    assert config.redis.password.reveal() == expected


BAD: list[tuple[dict[str, Any], str, list[str]]] = [
    # variables, key named, parts of the sentence
    ({"WORKER__CONCURENCY": "1"}, "worker.concurency", ["did you mean worker.concurrency?"]),
    ({"CONCURRENCY": "1"}, "concurrency", ["did you mean worker.concurrency?"]),
    ({"MOD": "live"}, "mod", ["no such key", "WORKER_MOD"]),
    ({"EXCHANGES__OKX__APIKEY": "k"}, "exchanges.okx.apikey", ["mean exchanges.okx.api_key?"]),
    ({"EXCHANGES__OKX__FEE_PCT": "1"}, "exchanges.okx.fee_pct", ["exchanges.okx.paper.fee_pct?"]),
    ({"REDIS": "x"}, "redis", ["is a table", "WORKER_REDIS__<KEY>"]),
    ({"EXCHANGES__OKX": "x"}, "exchanges.okx", ["is a table"]),
    ({"REDIS__URL__HOST": "x"}, "redis.url.host", ["no such key"]),
    ({"": "x"}, "", ["no such key"]),
    ({"EXCHANGES__-X-__SANDBOX": "1"}, "exchanges.-x-", ["not an exchange name"]),
    ({f"EXCHANGES__{'A' * 33}__SANDBOX": "1"}, f"exchanges.{'a' * 33}", ["32 characters"]),
    ({"MODE": "real"}, "mode", ['"real" is not one of paper, live', "WORKER_MODE"]),
    ({"ACCOUNT": "Main"}, "account", ['"Main"', "^[a-z0-9]"]),
    ({"ACCOUNT": "main\n"}, "account", ["^[a-z0-9]"]),
    ({"WORKER__CONCURRENCY": "0"}, "worker.concurrency", ["0 is not", "from 1 to 4096"]),
    ({"WORKER__CONCURRENCY": "4097"}, "worker.concurrency", ["4097", "from 1 to 4096"]),
    ({"WORKER__CONCURRENCY": "1.5"}, "worker.concurrency", ['"1.5"', "a whole number"]),
    ({"WORKER__CONCURRENCY": ""}, "worker.concurrency", ['""', "a whole number"]),
    ({"WORKER__LEASE_SECONDS": "fast"}, "worker.lease_seconds", ["fast", "from 1 to 300"]),
    ({"WORKER__LEASE_SECONDS": "nan"}, "worker.lease_seconds", ["NaN", "from 1 to 300"]),
    ({"EXECUTION__BASE_DELAY": "0"}, "execution.base_delay", ["more than 0, at most 60"]),
    ({"EXECUTION__JITTER": "1.01"}, "execution.jitter", ["1.01", "from 0 to 1"]),
    ({"RECONCILIATION__VERIFY_FILL": "maybe"}, "reconciliation.verify_fill", ["true or false"]),
    ({"RISK__MAX_STOP_LOSS_PCT": "NaN"}, "risk.max_stop_loss_pct", ["NaN"]),
    ({"RISK__MAX_STOP_LOSS_PCT": "sNaN"}, "risk.max_stop_loss_pct", ["sNaN"]),
    ({"RISK__MAX_STOP_LOSS_PCT": "Infinity"}, "risk.max_stop_loss_pct", ["Infinity"]),
    ({"RISK__MAX_STOP_LOSS_PCT": "-1"}, "risk.max_stop_loss_pct", ["-1", "more than 0"]),
    ({"RISK__MAX_DAILY_LOSS_PCT": "-0.1"}, "risk.max_daily_loss_pct", ["-0.1", "from 0 to 100"]),
    ({"EXCHANGES__X__PAPER__BALANCE": "1e400"}, "exchanges.x.paper.balance", ["1E+400"]),
    ({"EXCHANGES__X__MARKET_TYPES": "swap"}, "exchanges.x.market_types", ["spot, linear"]),
    ({"EXCHANGES__X__MARKET_TYPES": ""}, "exchanges.x.market_types", ["one at least"]),
    ({"EXCHANGES__X__PAPER__SYMBOLS": "BTCUSDT"}, "exchanges.x.paper.symbols", ["BTCUSDT"]),
    ({"VALIDATION__VALID_EXCHANGES": "okx,mtgox"}, "validation.valid_exchanges",
     ['"mtgox" is not configured', "binance, bybit"]),
    ({"RISK__MAX_POSITION_SIZE_PCT": "1"}, "risk.default_position_size_pct",
     ["2.0 is more than risk.max_position_size_pct, 1"]),
    ({"VALIDATION__MAX_SIGNAL_LIFETIME_SECONDS": "0"}, "validation.max_signal_lifetime_seconds",
     ["more than 0"]),
    ({"VALIDATION__MAX_SIGNAL_LIFETIME_SECONDS": "29"}, "validation.max_signal_age_seconds",
     ["30 is more than validation.max_signal_lifetime_seconds, 29"]),
    ({"EXECUTION__MAX_DELAY": "0.5"}, "execution.max_delay",
     ["0.5 is less than execution.base_delay, 1"]),
    ({"REDIS__TLS_CERT_FILE": "c"}, "redis.tls_key_file", ["come together"]),
    ({"REDIS__TLS_KEY_FILE": "k"}, "redis.tls_cert_file", ["come together"]),
    ({"EXCHANGES__X__BASE_URL": "ftp://h"}, "exchanges.x.base_url", ["ftp://h", "https://host"]),
    ({"EXCHANGES__X__BASE_URL": "http://"}, "exchanges.x.base_url", ["http://host"]),
    ({"EXCHANGES__X__BASE_URL": "http://h:x"}, "exchanges.x.base_url", ["Port"]),
    ({"EXCHANGES__X__BASE_URL": "http://h?a=1"}, "exchanges.x.base_url", ["a path only"]),
    ({"EXCHANGES__X__WS_BASE_URL": "http://h"}, "exchanges.x.ws_base_url", ["wss://host"]),
    ({"EXCHANGES__OKX__ORDER_TRANSPORT": "tcp"}, "exchanges.okx.order_transport",
     ['"tcp"', "rest, websocket"]),
    ({"EXCHANGES__BINANCE__ORDER_TRANSPORT": "websocket",
      "EXCHANGES__BINANCE__BASE_URL": "http://h"}, "exchanges.binance.ws_base_url",
     ["is missing", "exchanges.binance.base_url alone", "looked for in another"]),
    ({"EXCHANGES__BINANCE__ORDER_TRANSPORT": "websocket",
      "EXCHANGES__BINANCE__WS_BASE_URL": "ws://h"}, "exchanges.binance.base_url",
     ["is missing", "exchanges.binance.ws_base_url alone"]),
    ({"MODE": "live"}, "mode", ["no real order"]),
    ({"MODE": "live", "EXCHANGES__X__ADAPTER": "ccxt"}, "exchanges.x.api_key", ["is missing"]),
    ({"MODE": "live", "EXCHANGES__X__ADAPTER": "ccxt", "EXCHANGES__X__API_KEY": "k"},
     "exchanges.x.secret", ["is missing"]),
    ({"EXCHANGES__X__ADAPTER": "ccxt", "EXCHANGES__X__RECV_WINDOW_MS": "6501"},
     "exchanges.x.recv_window_ms", ["7501 ms", "half of worker.lease_seconds, 15 s"]),
    ({"EXCHANGES__X__ADAPTER": "ccxt", "WORKER__LEASE_SECONDS": "11.9"},
     "exchanges.x.recv_window_ms", ["6000 ms", "11.9 s"]),
    ({"MODE_FILE": "/f"}, "mode", ["not a secret", "WORKER_MODE_FILE"]),
    ({"REDIS__URL_FILE": "/nowhere/u"}, "redis.url", ["cannot read", "/nowhere/u", "No such file"]),
    ({"REDIS__URL_FILE": "/"}, "redis.url", ["cannot read"]),
    ({"REDIS__URL_FILE": "a\0b"}, "redis.url", ["cannot read"]),
    ({"REDIS__TOKEN_FILE": "/f"}, "redis.token_file", ["no such key"]),
    ({"REDIS__PASSWORD": "a", "REDIS__PASSWORD_FILE": os.devnull}, "redis.password",
     ["given twice", "WORKER_REDIS__PASSWORD and WORKER_REDIS__PASSWORD_FILE"]),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "key", "parts"), BAD)
def test_a_wrong_variable_stops_the_start_with_a_sentence(
    environ: dict[str, Any], key: str, parts: list[str]
) -> None:
    """It names the key, the value, the rule, and where the value came from."""
    error = refusal(**environ)
    assert error.key == key
    for part in parts:
        assert part in str(error)


BAD_TOML: list[tuple[str, str, list[str]]] = [
    ("a = = 1", "", ["worker.toml is not valid TOML", "line 1"]),
    ("[worker]\nconcurrency = 1\nconcurrency = 2", "", ["line 3"]),
    ("[wroker]\nconcurrency = 1", "wroker", ["no such key", "worker.toml"]),
    ("[worker]\nconcurrency = true", "worker.concurrency", ["true is not a whole number"]),
    ('[worker]\nconcurrency = "8"', "worker.concurrency", ['"8" is not a whole number']),
    ("[worker]\nlease_seconds = inf", "worker.lease_seconds", ["Infinity"]),
    ("[worker]\nlease_seconds = 2020-01-01", "worker.lease_seconds", ["2020-01-01"]),
    ("[worker.concurrency]\nx = 1", "worker.concurrency", ["is not a whole number"]),
    ("worker = 1", "worker", ["is a table"]),
    ("exchanges = []", "exchanges", ["is a table"]),
    ("exchanges.okx = 1", "exchanges.okx", ["is a table"]),
    ("[exchanges.OKX]", "exchanges.OKX", ["not an exchange name"]),
    ("[exchanges.a__b]", "exchanges.a__b", ["not an exchange name"]),
    ("[exchanges.okx]\nsandbox = 1", "exchanges.okx.sandbox", ["1 is not true or false"]),
    ('[exchanges.okx]\nmarket_types = "spot"', "exchanges.okx.market_types", ["a list of"]),
    ("[validation]\nvalid_exchanges = [1]", "validation.valid_exchanges", ["[1] is not"]),
    ("[risk]\nmax_stop_loss_pct = nan", "risk.max_stop_loss_pct", ["NaN"]),
    ("[risk]\nmax_stop_loss_pct = true", "risk.max_stop_loss_pct", ["true is not a decimal"]),
    ('[risk]\nmax_stop_loss_pct = "lots"', "risk.max_stop_loss_pct", ['"lots"']),
    ("config = 1", "config", ["no such key"]),
]


@pytest.mark.parametrize(("toml", "key", "parts"), BAD_TOML)
def test_a_wrong_file_stops_the_start_with_a_sentence(
    toml: str, key: str, parts: list[str], tmp_path: Path
) -> None:
    """Syntax errors name the line; types are strict, since a file can say what it means."""
    error = refusal(toml, tmp_path)
    assert error.key == key
    for part in parts:
        assert part in str(error)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Missing, a directory, not text, too large."""
    binary, large = tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_bytes(b"#" * 1_100_000)
    for path, part in [
        (tmp_path / "missing.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "not UTF-8"),
        (large, "larger than"),
    ]:
        with pytest.raises(ConfigError, match=part) as caught:
            load_config(path, {})
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xffhunter2", b"hunter2" * MAX_SECRET_BYTES])
def test_an_unusable_secret_file_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    """The error is about the file, never its content."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    error = refusal(REDIS__PASSWORD_FILE=str(file))
    assert error.key == "redis.password"
    assert "hunter2" not in str(error)


SECRET_KEYS = [
    ".".join(path) for path, field in walk(named="okx") if field.kind is ValueKind.SECRET
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_secret_of_the_wrong_type_is_not_shown(key: str, tmp_path: Path) -> None:
    """Even a number somebody pasted without quotes."""
    error = refusal(f"{key} = 8675309", tmp_path)
    assert error.key == key
    assert "8675309" not in str(error)


def test_orders_over_a_websocket_load_for_binance_under_any_name() -> None:
    """In both modes; with both addresses or with neither."""
    both = {"EXCHANGES__HEDGE__BASE_URL": "http://h", "EXCHANGES__HEDGE__WS_BASE_URL": "ws://h"}
    choices: list[dict[str, Any]] = [{}, both]
    for extra in choices:
        for adapter in ("paper", "ccxt"):
            loaded = load(
                EXCHANGES__HEDGE__ORDER_TRANSPORT="websocket",
                EXCHANGES__HEDGE__CCXT_ID="binance",
                EXCHANGES__HEDGE__ADAPTER=adapter,
                **extra,
            )
            assert loaded.exchanges["hedge"].order_transport == "websocket"


def test_live_mode_with_credentials_loads() -> None:
    """And a simulated exchange may stand beside a real one."""
    config = load(
        MODE="live",
        EXCHANGES__OKX__ADAPTER="ccxt",
        EXCHANGES__OKX__API_KEY="k",
        EXCHANGES__OKX__SECRET="s",
        EXCHANGES__OKX__BASE_URL="http://127.0.0.1:8080",
        EXCHANGES__OKX__WS_BASE_URL="ws://[::1]:8080/feed",
        EXCHANGES__PAPER__ADAPTER="paper",
    )
    assert (config.mode, set(config.exchanges)) == ("live", {"okx", "paper"})


def test_a_short_lease_is_fine_where_only_simulated_exchanges_are() -> None:
    """Their requests need no deadline, so crash tests may use short leases."""
    assert load(WORKER__LEASE_SECONDS="1").worker.lease_seconds == 1.0


@pytest.mark.parametrize("section", Section.__subclasses__(), ids=lambda section: section.__name__)
def test_every_section_is_frozen_strict_and_written_by_name(section: type[Section]) -> None:
    """Strictness is inherited from the base; the other two each class says itself."""
    config = section.__struct_config__
    assert (config.frozen, config.forbid_unknown_fields) == (True, True)
    with pytest.raises(TypeError, match="positional"):
        section("anything")
    with pytest.raises(AttributeError):
        setattr(section(), section.__struct_fields__[0], None)


def test_the_redis_url_is_checked_at_the_start() -> None:
    """Every address, and the server that has none before it is started."""
    for url in ("redis+sentinel://a:1,b/mymaster/3", "embedded"):
        assert load(REDIS__URL=url).redis.url.reveal() == url
    error = refusal(REDIS__URL="redis://:hunter2@h/zero")
    assert (error.key, "hunter2" in str(error)) == ("redis.url", False)


MASKED = [
    ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ("redis://user:hunter2@h:1/0", "redis://user:********@h:1/0"),
    ("redis://:hun/ter@2@h:1/0", "redis://:********@h:1/0"),
    ("redis://hunter2@h", "redis://********@h"),
    ("redis://h?password=hunter2&db=1", "redis://h?password=********&db=1"),
    ("redis+sentinel://:hunter2@a,b/m?sentinel_password=hunter2",
     "redis+sentinel://:********@a,b/m?sentinel_password=********"),
    ("embedded", "embedded"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "shown"), MASKED)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Host and database stay readable."""
    assert mask_url(url) == shown


SECRETS: dict[str, Any] = {
    "REDIS__URL": "redis://u:url%2Dpw@h:1/0?password=url-pw",
    "REDIS__PASSWORD": "redis-pw",
    "EXCHANGES__OKX__API_KEY": "okx-key",
    "EXCHANGES__OKX__SECRET": "okx-secret",
    "EXCHANGES__OKX__PASSWORD": "okx-passphrase",
}


def test_no_secret_is_rendered_printed_or_encoded() -> None:
    """Not as TOML, not by repr, not by an encoder; the log knows all of them to mask them."""
    config = load(**SECRETS)
    secrets = secret_strings(config)
    assert secrets == {
        "url%2Dpw", "url-pw", "redis-pw", "okx-key", "okx-secret", "okx-passphrase"
    }  # fmt: skip
    for shown in (render_config(config), repr(config), str(config), f"{config.redis.password}"):
        assert not [secret for secret in secrets if secret in shown]
    with pytest.raises(TypeError):
        msgspec.json.encode(config)
    assert secret_strings(load()) == frozenset()
    optional = load(REDIS__URL="redis://h?password=option%2Dpw&db=5")
    assert secret_strings(optional) == {"option-pw"}
    assert "option" not in render_config(optional)


def test_what_is_rendered_loads_again_as_the_same(tmp_path: Path) -> None:
    """The printed configuration is a working file, once the secrets are filled in."""
    config = load(
        TOML,
        tmp_path,
        HTTP__HOST='we"ird\\ho\tst\x7fé',
        WORKER__SEED="7",
        RISK__MAX_DAILY_LOSS_PCT="1e-7",
        EXECUTION__BASE_DELAY="1e-5",
        EXCHANGES__KRAKEN__PAPER__SYMBOLS="XAU/JPY,A1/USD:USD",
    )
    again = tmp_path / "again.toml"
    again.write_text(render_config(config))
    assert load_config(again, {}) == config
    again.write_text(render_config(Config()))
    assert load_config(again, {}) == Config()


def test_every_key_is_in_the_rendered_configuration() -> None:
    """Nothing the worker obeys is hidden from the person who asks."""
    key: dict[str, Any] = {
        "SIGNATURES__KEYS__OKX__SECRET": "k" * 32,
        "SIGNATURES__KEYS__OKX__NOT_BEFORE": "2026-01-01T00:00:00Z",
        "SIGNATURES__KEYS__OKX__NOT_AFTER": "2027-01-01T00:00:00+01:00",
    }
    shown = tomllib.loads(render_config(load(WORKER__SEED="1", EXCHANGES__OKX__SANDBOX="0", **key)))
    for path, _ in walk(named="okx"):
        value: Any = shown
        for name in path:
            value = value[name]
        assert not isinstance(value, dict)


KEYS = """
[signatures.keys.trend-2026]
secret = "0123456789abcdef0123456789abcdef"
strategies = ["trend-*", "breakout"]
signal_ids = ["trend-*"]
not_before = 2026-01-01T00:00:00Z
not_after = "2027-01-01T00:00:00+01:00"
[signatures.keys.desk]
secret = "fedcba9876543210fedcba9876543210"
"""


def test_signing_keys_come_from_file_and_environment(tmp_path: Path) -> None:
    """Any number of them, each whole; times as TOML's own or as text; secrets from files."""
    secret = tmp_path / "secret"
    secret.write_text("x" * 32 + "\n")
    config = load(KEYS, tmp_path, SIGNATURES__KEYS__NEW_ONE__SECRET_FILE=str(secret))
    trend, desk, new = config.signatures.signing_keys
    assert (trend.key_id, desk.key_id, new.key_id) == ("trend-2026", "desk", "new_one")
    assert trend.strategies == ("trend-*", "breakout")
    assert trend.not_before == datetime(2026, 1, 1, tzinfo=UTC)
    assert trend.not_after == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert trend.signal_ids == ("trend-*",)
    assert desk.strategies == desk.signal_ids == ("*",)
    assert desk.not_before is desk.not_after is None
    assert new.secret == b"x" * 32
    shown = render_config(config)
    assert "0123456789" not in shown + repr(config) + repr(trend)
    assert {"x" * 32, "0123456789abcdef" * 2, "fedcba9876543210" * 2} <= secret_strings(config)
    assert (
        tomllib.loads(shown)["signatures"]["keys"]["trend-2026"]["not_before"] == trend.not_before
    )


@pytest.mark.parametrize(
    ("toml", "key", "says"),
    [
        ("[validation]\nrequire_signature = true", "validation.require_signature", "no key"),
        ("[signatures.keys.k]", "signatures.keys.k.secret", "fewer than 32 characters"),
        ('[signatures.keys.k]\nsecret = "short"', "signatures.keys.k.secret", "fewer than 32"),
        (KEYS + "strategies = []", "signatures.keys.desk.strategies", "one at least"),
        (KEYS + "signal_ids = []", "signatures.keys.desk.signal_ids", "one at least"),
        (KEYS + 'signal_ids = ["a*b"]', "signatures.keys.desk.signal_ids", '"a*b" is neither'),
        (KEYS + 'signal_ids = [""]', "signatures.keys.desk.signal_ids", '"" is neither'),
        (
            KEYS + f"signal_ids = {[f'a{n}' for n in range(65)]}",
            "signatures.keys.desk.signal_ids",
            "65 patterns, more than 64",
        ),
        (KEYS + "not_after = 2026-01-01T00:00:00", "signatures.keys.desk.not_after", "its zone"),
        (KEYS + "not_after = 2026-01-01", "signatures.keys.desk.not_after", "its zone"),
        (KEYS + 'not_after = "soon"', "signatures.keys.desk.not_after", '"soon" is not'),
        (
            KEYS + "not_before = 2026-01-01T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z",
            "signatures.keys.desk.not_after",
            "not later than not_before",
        ),
        ('[signatures.keys."No Good"]', "signatures.keys.No Good", "not a key id"),
        (f"[signatures.keys.{'a' * 33}]", f"signatures.keys.{'a' * 33}", "32 characters"),
        (KEYS + 'secert = "x"', "signatures.keys.desk.secert", "keys.desk.secret?"),
        ("[signatures]\nkeys = 1", "signatures.keys", "is a table"),
        ('[tracing]\nendpoint = "h:1"', "tracing.endpoint", "not a base address"),
        ('[tracing]\nenabled = true\nendpoint = ""', "tracing.endpoint", "is missing"),
    ],
)
def test_an_unusable_signing_key_stops_the_start(
    tmp_path: Path, toml: str, key: str, says: str
) -> None:
    """Required signatures without a key, a secret one could guess, times that leave no time."""
    error = refusal(toml, tmp_path)
    assert error.key == key
    assert says in str(error)
    assert "0123456789" not in str(error)


def test_the_table_has_one_documented_row_a_key() -> None:
    """A key without a meaning is a key nobody can set."""
    rows = config_table().splitlines()[2:]
    keys = [".".join(path) for path, _ in walk()]
    assert [row.split("`")[1] for row in rows] == keys
    assert len(keys) == len(set(keys)) > 60
    assert all(field.meaning for _, field in walk())
    assert all(row.count("|") - row.count("\\|") == 5 for row in rows)
    assert "| `worker.concurrency` | `64` | 1 to 4096 | signals in flight |" in rows


def test_every_default_obeys_its_own_rule() -> None:
    """And every number has a bound, so that no key takes a value nobody thought of."""
    for path, field in walk():
        assert isinstance(resolve(path), ConfigField)
        if (
            field.kind in {ValueKind.INT, ValueKind.FLOAT, ValueKind.DECIMAL}
            and field.name != "seed"
        ):
            assert field.le is not None, path
            number = D(str(field.default))
            assert number <= field.le
            assert number >= field.ge if field.ge is not None else number > (field.gt or 0)


def test_our_check_agrees_with_the_structs_own() -> None:
    """Bounds are read from the structs; what msgspec refuses there, loading refuses."""
    for name, bad in [("concurrency", 0), ("max_waiting", 1_000_001), ("lease_seconds", 0.5)]:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({name: bad}, type(Config().worker))
        environ: dict[str, Any] = {f"WORKER__{name.upper()}": str(bad)}
        assert refusal(**environ).key == f"worker.{name}"
    assert set(fields_of(RedisConfig)) == set(RedisConfig.__struct_fields__)
    assert set(fields_of(ExchangeConfig)) == set(ExchangeConfig.__struct_fields__)


@pytest.mark.parametrize(
    ("retention", "age", "kept"), [("60", "30", 90), ("604800", "30", 604_800), ("60", "600", 660)]
)
def test_a_record_is_kept_while_its_signal_may_trade(retention: str, age: str, kept: int) -> None:
    """However short records are to be kept."""
    environ = {
        "WORKER_REDIS__RECORD_RETENTION_SECONDS": retention,
        "WORKER_VALIDATION__MAX_SIGNAL_AGE_SECONDS": age,
    }
    assert load_config(None, environ).record_retention_s == kept
