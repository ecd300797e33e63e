"""Loading the configuration: a TOML file, then the environment, then rules across keys."""

import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from worker.config.fields import (
    ANY_NAME,
    NAMED_TABLES,
    ConfigField,
    ValueKind,
    check,
    fields_of,
    parse_text,
    resolve,
    walk,
)
from worker.config.keys import (
    ENV_PREFIX,
    Config,
    ExchangeConfig,
    Section,
    SignatureKeyConfig,
    SignaturesConfig,
)
from worker.config.rules import EXCHANGE_NAME, check_rules
from worker.domain.nearest import hint
from worker.domain.signature import MAX_KEY_ID_LENGTH, is_key_id
from worker.runtime.errors import ConfigError

#: The variable that names the file; not a key.
FILE_VARIABLE: Final = "WORKER_CONFIG"
_FILE_SUFFIX: Final = "_file"
MAX_FILE_BYTES: Final = 1_048_576
MAX_SECRET_BYTES: Final = 65_536


class _Given(msgspec.Struct):
    """A value as it was given, and the file or variable that gave it."""

    value: Any
    origin: str


_Path = tuple[str, ...]
#: The user's names of the tables under each of ``NAMED_TABLES``, in the order given.
_Names = dict[_Path, dict[str, None]]


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Load the configuration: defaults, the file over them, the environment over both.

    Args:
        path: the TOML file; None means ``WORKER_CONFIG``, or no file.
        environ: the process environment. ``WORKER_<SECTION>__<KEY>`` sets a key, exchanges as
            ``WORKER_EXCHANGES__<NAME>__<KEY>``; a secret's name with ``_FILE`` appended names a
            file that holds it.

    Raises:
        ConfigError: names the key, the value (unless secret) and the rule.
    """
    given: dict[_Path, _Given] = {}
    names: _Names = {prefix: {} for prefix in NAMED_TABLES}
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    if path is not None:
        _read_table(_read_toml(path), (), str(path), given, names)
    _read_environment(environ, given, names)
    config = _build(given, names)
    check_rules(config)
    return config


def _read_toml(path: Path) -> dict[str, Any]:
    text = _read_text("", path, "configuration file", MAX_FILE_BYTES)
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        last = text.rstrip().count("\n") + 1
        problem = str(error).replace("at end of document", f"at line {last}, the last")
        raise ConfigError("", f"{path} is not valid TOML: {problem}") from None


def read_secret(key: str, path: Path) -> str:
    """Read a secret from a file, without the line break at its end.

    Args:
        key: the configuration key or command option it is for, for the error.
        path: the file.

    Raises:
        ConfigError: names ``key``, the file and why it cannot be read.
    """
    text = _read_text(key, path, "secret file", MAX_SECRET_BYTES)
    return text.removesuffix("\n").removesuffix("\r")


def _read_text(key: str, path: Path, what: str, limit: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(key, f"cannot read the {what} {path}: {reason}") from None
    if len(data) > limit:
        raise ConfigError(key, f"the {what} {path} is larger than {limit} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(key, f"the {what} {path} is not UTF-8 text") from None


def _read_table(
    table: Mapping[str, Any],
    path: _Path,
    origin: str,
    given: dict[_Path, _Given],
    names: _Names,
) -> None:
    for name, value in table.items():
        here = (*path, name)
        node = resolve(here)
        if node is None:
            raise _unknown(here, origin)
        if isinstance(node, ConfigField):
            given[here] = _Given(value, origin)
            continue
        if not isinstance(value, dict):
            raise ConfigError(_dotted(here), f"is a table, not a value (from {origin})")
        if path in names:
            names[path][name] = None
        _read_table(value, here, origin, given, names)


def _read_environment(
    environ: Mapping[str, str], given: dict[_Path, _Given], names: _Names
) -> None:
    own: dict[_Path, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable == FILE_VARIABLE:
            continue
        path: _Path = tuple(variable.removeprefix(ENV_PREFIX).lower().split("__"))
        node = resolve(path)
        value: Any = environ[variable]
        if node is None:
            path, node, value = _secret_from_file(path, variable, environ[variable])
        elif isinstance(node, ConfigField):
            value = parse_text(node, value)
        else:
            raise ConfigError(_dotted(path), f"is a table; {variable}__<KEY> sets one key of it")
        if path in own:
            raise ConfigError(_dotted(path), f"is given twice, by {own[path]} and {variable}")
        own[path] = variable
        given[path] = _Given(value, variable)
        for prefix, chosen in names.items():
            if path[: len(prefix)] == prefix:
                chosen[path[len(prefix)]] = None


def _secret_from_file(path: _Path, variable: str, file: str) -> tuple[_Path, ConfigField, str]:
    target = (*path[:-1], path[-1].removesuffix(_FILE_SUFFIX))
    node = resolve(target) if target != path else None
    if not isinstance(node, ConfigField):
        raise _unknown(path, variable)
    if node.kind is not ValueKind.SECRET:
        raise ConfigError(
            _dotted(target), f"is not a secret, so {variable} cannot read it from a file"
        )
    return target, node, read_secret(_dotted(target), Path(file))


def _unknown(path: _Path, origin: str) -> ConfigError:
    key = _dotted(path)
    chosen = [
        path[len(prefix)]
        for prefix in NAMED_TABLES
        if path[: len(prefix)] == prefix and len(path) > len(prefix)
    ]
    names = [_dotted(known) for known, _ in walk(named=next(iter(chosen), ANY_NAME))]
    return ConfigError(key, f"there is no such key (from {origin}){hint(key, names)}")


def _build(given: Mapping[_Path, _Given], names: _Names) -> Config:
    values = _section_values(Config, (), given)
    if names["signatures", "keys"]:
        keys = _signature_keys(given, names["signatures", "keys"])
        values["signatures"] = SignaturesConfig(keys=keys)
    if names["exchanges",]:
        exchanges = {}
        for name in names["exchanges",]:
            if len(name) > 32 or not EXCHANGE_NAME.fullmatch(name):
                raise ConfigError(
                    f"exchanges.{name}",
                    f'"{name}" is not an exchange name: lower-case letters, digits, single "-" '
                    'or "_" between them, at most 32 characters',
                )
            entry = _section_values(ExchangeConfig, ("exchanges", name), given)
            entry["ccxt_id"] = entry.get("ccxt_id") or name
            exchanges[name] = ExchangeConfig(**entry)
        values["exchanges"] = exchanges
    return Config(**values)


def _signature_keys(
    given: Mapping[_Path, _Given], names: Iterable[str]
) -> dict[str, SignatureKeyConfig]:
    keys = {}
    for name in names:
        if not is_key_id(name):
            raise ConfigError(
                f"signatures.keys.{name}",
                f'"{name}" is not a key id: lower-case letters, digits, single "-" or "_" between '
                f"them, at most {MAX_KEY_ID_LENGTH} characters",
            )
        entry = _section_values(SignatureKeyConfig, ("signatures", "keys", name), given)
        keys[name] = SignatureKeyConfig(**entry)
    return keys


def _section_values(
    section: type[Section], path: _Path, given: Mapping[_Path, _Given]
) -> dict[str, Any]:
    """Build the keyword arguments of ``section`` from given keys; others keep their default."""
    values: dict[str, Any] = {}
    for name, field in fields_of(section).items():
        here = (*path, name)
        if not isinstance(field, ConfigField):
            values[name] = field(**_section_values(field, here, given))
        elif here in given:
            entry = given[here]
            values[name] = check(_dotted(here), field, entry.value, entry.origin)
    return values


def _dotted(path: _Path) -> str:
    return ".".join(path)
