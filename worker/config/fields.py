"""One configuration key: its type and range, read from the structs, and how a value is checked."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from worker.config.keys import Config, ExchangeConfig, Section, SignatureKeyConfig
from worker.runtime.errors import ConfigError
from worker.runtime.secret import Secret

#: Stands for the name of an exchange or a key in the dotted names of documentation.
ANY_NAME: Final = "<name>"
#: Tables of tables whose names the user chooses, and the struct each of those tables is.
NAMED_TABLES: Final[Mapping[tuple[str, ...], type[Section]]] = {
    ("exchanges",): ExchangeConfig,
    ("signatures", "keys"): SignatureKeyConfig,
}
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class Kind(StrEnum):
    """What a key's value is."""

    BOOL = "true or false"
    INT = "a whole number"
    FLOAT = "a number"
    DECIMAL = "a decimal number"
    TEXT = "text"
    SECRET = "a secret"  # noqa: S105 - a kind of value
    LIST = "a list"
    MOMENT = "a date and time with its zone, as 2026-01-31T12:00:00Z"


class ConfigField(msgspec.Struct, kw_only=True, frozen=True):
    """One key. ``item`` describes the elements of a list; bounds are inclusive but ``gt``."""

    name: str
    kind: Kind
    meaning: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    enum: type[Enum] | None = None
    pattern: str = ""
    ge: Decimal | None = None
    gt: Decimal | None = None
    le: Decimal | None = None
    min_items: int = 0
    item: "ConfigField | None" = None

    @property
    def range(self) -> str:
        """The numbers allowed, in words; empty for what is not a bounded number."""
        if self.gt is not None:
            return f"more than {self.gt:f}, at most {self.le:f}"
        if self.ge is not None:
            return f"{self.ge:f} to {self.le:f}"
        return ""

    @property
    def rule(self) -> str:
        """What a value must be, to follow "is not"."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is Kind.LIST and self.item is not None:
            return f"a list of {self.item.rule}" + (", one at least" if self.min_items else "")
        if self.pattern:
            return f"text of the form {self.pattern}"
        numbers = f" {self.range}" if self.range else ""
        if numbers and self.gt is None:
            numbers = f" from{numbers}"
        return f"{self.kind}{numbers}"


#: What msgspec calls the types that need no further description; its custom type is the Secret.
_PLAIN_KINDS: Final[Mapping[type[inspect.Type], Kind]] = {
    inspect.BoolType: Kind.BOOL,
    inspect.DecimalType: Kind.DECIMAL,
    inspect.DateTimeType: Kind.MOMENT,
    inspect.CustomType: Kind.SECRET,
}


@cache
def fields_of(section: type[Section]) -> dict[str, ConfigField | type[Section]]:
    """A table's keys by name, sub-tables as their struct; ``NAMED_TABLES`` are not among them."""
    hints = get_type_hints(section)
    found: dict[str, ConfigField | type[Section]] = {}
    for entry in msgspec.structs.fields(section):
        hint = hints[entry.name]
        if isinstance(hint, type) and issubclass(hint, Section):
            found[entry.name] = hint
            continue
        about = inspect.type_info(entry.type)
        if not isinstance(about, inspect.DictType):
            # The hint keeps the choices in the order they are written in.
            order = get_args(hint) if get_origin(hint) is Literal else ()
            found[entry.name] = _describe(entry.name, about, entry.default, order)
    return found


def _describe(
    name: str, kind: inspect.Type, default: Any = None, choices: tuple[str, ...] = ()
) -> ConfigField:
    meaning, bounds = "", {}
    if isinstance(kind, inspect.Metadata):
        meaning = (kind.extra_json_schema or {}).get("description", "")
        bounds = {key: Decimal(value) for key, value in (kind.extra or {}).items()}
        kind = kind.type
    about: dict[str, Any] = {"name": name, "meaning": meaning, "default": default} | bounds
    if isinstance(kind, inspect.UnionType):
        kind = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
    match kind:
        case inspect.IntType() | inspect.FloatType():
            for bound in ("ge", "gt", "le"):
                value = getattr(kind, bound)
                about[bound] = None if value is None else Decimal(str(value))
            whole = isinstance(kind, inspect.IntType)
            return ConfigField(kind=Kind.INT if whole else Kind.FLOAT, **about)
        case inspect.StrType(pattern=pattern):
            return ConfigField(kind=Kind.TEXT, pattern=pattern or "", **about)
        case inspect.LiteralType():
            return ConfigField(kind=Kind.TEXT, choices=choices, **about)
        case inspect.EnumType(cls=cls):
            values = tuple(str(member.value) for member in cls)
            return ConfigField(kind=Kind.TEXT, choices=values, enum=cls, **about)
        case inspect.VarTupleType(item_type=item, min_length=least):
            return ConfigField(
                kind=Kind.LIST, item=_describe(name, item), min_items=least or 0, **about
            )
        case _ if type(kind) in _PLAIN_KINDS:
            return ConfigField(kind=_PLAIN_KINDS[type(kind)], **about)
    raise TypeError(f"{name}: no configuration key can be {kind}")


def resolve(path: tuple[str, ...]) -> ConfigField | type[Section] | None:
    """The key or table at ``path``; None if there is none. Any name the user may choose will do."""
    section: type[Section] = Config
    for prefix, named in NAMED_TABLES.items():
        if path == prefix:
            return Section
        if path[: len(prefix)] == prefix:
            section, path = named, path[len(prefix) + 1 :]
            break
    for position, name in enumerate(path):
        found = fields_of(section).get(name)
        if not isinstance(found, type):
            return found if position == len(path) - 1 else None
        section = found
    return section


def walk(
    section: type[Section] = Config, path: tuple[str, ...] = (), named: str = ANY_NAME
) -> Iterator[tuple[tuple[str, ...], ConfigField]]:
    """Every key with its path, in the order of the structs; ``NAMED_TABLES`` once, as ``named``."""
    for name in section.__struct_fields__:
        here = (*path, name)
        if here in NAMED_TABLES:
            yield from walk(NAMED_TABLES[here], (*here, named))
            continue
        found = fields_of(section)[name]
        if isinstance(found, ConfigField):
            yield here, found
        else:
            yield from walk(found, here, named)


def parse_text(field: ConfigField, text: str) -> Any:
    """An environment variable's text as the kind of value a file would have held.

    Text that is no such value comes back unchanged, for ``check`` to refuse.
    """
    word = text.strip()
    match field.kind:
        case Kind.BOOL:
            lower = word.lower()
            return True if lower in _TRUE else False if lower in _FALSE else text
        case Kind.INT:
            return int(word) if re.fullmatch(r"[+-]?[0-9]{1,30}", word) else text
        case Kind.FLOAT | Kind.DECIMAL:
            try:
                return Decimal(word)
            except InvalidOperation:
                return text
        case Kind.LIST:
            return [part.strip() for part in text.split(",") if part.strip()]
        case _:
            return text


def check(key: str, field: ConfigField, value: Any, origin: str = "") -> Any:
    """``value`` as the key's own type.

    Args:
        key: the dotted name, for the error.
        field: what the key must be.
        value: from a TOML file (floats as Decimal) or from ``parse_text``.
        origin: where it was given, for the error.

    Raises:
        ConfigError: with the value (a secret's excepted), the rule, and the origin.
    """
    good = _convert(field, value)
    if good is None:
        shown = "the value" if field.kind is Kind.SECRET else _shown(value)
        where = f" (from {origin})" if origin else ""
        raise ConfigError(key, f"{shown} is not {field.rule}{where}")
    return good


def _convert(field: ConfigField, value: Any) -> Any:
    """The checked value, or None."""
    is_text = isinstance(value, str)
    match field.kind:
        case Kind.BOOL:
            return value if isinstance(value, bool) else None
        case Kind.INT:
            is_int = isinstance(value, int) and not isinstance(value, bool)
            return value if is_int and _in_range(field, Decimal(value)) else None
        case Kind.FLOAT | Kind.DECIMAL:
            number = _number(value, text_too=field.kind is Kind.DECIMAL)
            if number is None or not _in_range(field, number):
                return None
            return number if field.kind is Kind.DECIMAL else float(number)
        case Kind.SECRET:
            return Secret(value) if is_text else None
        case Kind.LIST:
            return _items(field, value)
        case Kind.MOMENT:
            return _moment(value)
    if not is_text or (field.choices and value not in field.choices):
        return None
    if field.pattern and not re.fullmatch(field.pattern, value):
        return None
    return field.enum(value) if field.enum is not None else value


def _number(value: Any, *, text_too: bool) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str) and not text_too:
        return None
    try:
        number = Decimal(str(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _moment(value: Any) -> datetime | None:
    """TOML has dates of its own; the environment has text."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    return value if isinstance(value, datetime) and value.tzinfo is not None else None


def _in_range(field: ConfigField, number: Decimal) -> bool:
    return (
        (field.ge is None or number >= field.ge)
        and (field.gt is None or number > field.gt)
        and (field.le is None or number <= field.le)
    )


def _items(field: ConfigField, value: Any) -> tuple[Any, ...] | None:
    if not isinstance(value, list) or len(value) < field.min_items or field.item is None:
        return None
    items = tuple(_convert(field.item, part) for part in value)
    return None if None in items else items


def _shown(value: Any) -> str:
    """A value as a file would spell it, at most 100 characters of it."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, list):
        text = "[" + ", ".join(_shown(part) for part in value) + "]"
    return text if len(text) <= 100 else text[:97] + "..."
