"""Showing the configuration: the effective one as TOML, every key as a table, secrets hidden."""

import re
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from worker.config.fields import ConfigField, ValueKind, walk
from worker.config.keys import Config, Section
from worker.runtime.secret import HIDDEN, Secret


def render_config(config: Config) -> str:
    """Render the configuration as TOML that loads again, secrets masked.

    Keys without a value (``worker.seed``) are left out.
    """
    lines: list[str] = []
    _render(config, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _render(section: Section, path: tuple[str, ...], lines: list[str]) -> None:
    tables: dict[str, Section] = {}
    if path:
        lines += ["", f"[{'.'.join(path)}]"]
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Section):
            tables[name] = value
        elif isinstance(value, dict):
            tables.update({f"{name}.{chosen}": entry for chosen, entry in value.items()})
        elif value is not None:
            lines.append(f"{name} = {_toml((*path, name), value)}")
    for name, table in tables.items():
        _render(table, (*path, name), lines)


def _toml(path: tuple[str, ...], value: Any) -> str:
    match value:
        case Secret():
            text = mask_url(value.reveal()) if path == ("redis", "url") else str(value)
            return _quoted(text)
        case bool():
            return str(value).lower()
        case Decimal():
            return f"{value:f}"
        case Enum():
            return _quoted(str(value.value))
        case datetime():
            return value.isoformat()
        case str():
            return _quoted(value)
        case tuple():
            return "[" + ", ".join(_toml(path, item) for item in value) + "]"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    """Write a TOML basic string (TOML 1.0, "String")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else _escape(ord(c)) for c in escaped) + '"'


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def mask_url(url: str) -> str:
    """Mask every password in a URL: the user's, and one given as a query option."""
    scheme, separator, rest = url.partition("://")
    # The last @, for a password may hold a / or an @ that somebody forgot to escape.
    credentials, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        rest = f"{user}:{HIDDEN}@{place}" if colon else f"{HIDDEN}@{place}"
    rest = re.sub(r"(?i)((?:^|[?&])[a-z_]*password=)[^&]*", rf"\1{HIDDEN}", rest)
    return f"{scheme}{separator}{rest}"


def secret_strings(config: Config) -> frozenset[str]:
    """Collect every secret in the spellings a log could show, the URL's password included."""
    secrets = {config.redis.password.reveal()}
    url = config.redis.url.reveal()
    credentials, at, _ = url.partition("://")[2].rpartition("@")
    if at:
        password = credentials.partition(":")[2] or credentials
        secrets |= {password, unquote(password)}
    for name, value in parse_qsl(url.partition("?")[2]):
        if name.lower().endswith("password"):
            secrets.add(value)
    for exchange in config.exchanges.values():
        secrets.update(s.reveal() for s in (exchange.api_key, exchange.secret, exchange.password))
    secrets.update(key.secret.reveal() for key in config.signatures.keys.values())
    return frozenset(secrets - {""})


def config_table() -> str:
    """Render every key with its default, range and meaning as one Markdown table."""
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for path, field in walk():
        cells = (f"`{'.'.join(path)}`", _default(path, field), _values(field), field.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(path: tuple[str, ...], field: ConfigField) -> str:
    value = field.default
    if value in (None, "", ()) or (isinstance(value, Secret) and not value):
        return ""
    return f"`{_toml(path, value)}`"


def _values(field: ConfigField) -> str:
    item = field.item or field
    if item.choices:
        return ", ".join(f"`{choice}`" for choice in item.choices)
    if item.pattern:
        return f"`{item.pattern}`"
    if field.kind is ValueKind.BOOL:
        return "`true`, `false`"
    return field.range or _PLAIN.get(field.kind, "")


#: The words of the table for values without choices, a pattern or a range.
_PLAIN: Final = {
    ValueKind.SECRET: "secret",
    ValueKind.INT: "whole number",
    ValueKind.LIST: "list of names",
    ValueKind.MOMENT: "date and time",
}
