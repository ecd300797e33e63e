"""Configuration keys: types and ranges read from the structs, and checks of given values."""

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

#: Placeholder for the name of an exchange or signing key in documented key names.
ANY_NAME: Final = "<name>"
#: Tables of tables whose names the user chooses, and the struct each of those tables is.
NAMED_TABLES: Final[Mapping[tuple[str, ...], type[Section]]] = {
    ("exchanges",): ExchangeConfig,
    ("signatures", "keys"): SignatureKeyConfig,
}
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class ValueKind(StrEnum):
    """The kind of value a key takes; the text is how error messages call it."""

    BOOL = "true or false"
    INT = "a whole number"
    FLOAT = "a number"
    DECIMAL = "a decimal number"
    TEXT = "text"
    SECRET = "a secret"  # noqa: S105 - a kind of value
    LIST = "a list"
    MOMENT = "a date and time with its zone, as 2026-01-31T12:00:00Z"


class ConfigField(msgspec.Struct, kw_only=True, frozen=True):
    """One key: its kind, default and bounds.

    ``ge`` and ``le`` are inclusive bounds, ``gt`` an exclusive one; ``item`` describes the elements
    of a list; ``name`` is the last part of the dotted name.
    """

    name: str
    kind: ValueKind
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
        """The allowed numbers in words; empty for values without bounds."""
        if self.gt is not None:
            return f"more than {self.gt:f}, at most {self.le:f}"
        if self.ge is not None:
            return f"{self.ge:f} to {self.le:f}"
        return ""

    @property
    def rule(self) -> str:
        """The rule for a value, as the end of a sentence "... is not <rule>"."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is ValueKind.LIST and self.item is not None:
            return f"a list of {self.item.rule}" + (", one at least" if self.min_items else "")
        if self.pattern:
            return f"text of the form {self.pattern}"
        numbers = f" {self.range}" if self.range else ""
        if numbers and self.gt is None:
            numbers = f" from{numbers}"
        return f"{self.kind}{numbers}"


#: msgspec's names of the types that are described in full by their kind; its custom type is the
#: Secret.
_PLAIN_KINDS: Final[Mapping[type[inspect.Type], ValueKind]] = {
    inspect.BoolType: ValueKind.BOOL,
    inspect.DecimalType: ValueKind.DECIMAL,
    inspect.DateTimeType: ValueKind.MOMENT,
    inspect.CustomType: ValueKind.SECRET,
}


@cache
def fields_of(section: type[Section]) -> dict[str, ConfigField | type[Section]]:
    """Describe a table's keys by name, sub-tables as their struct, ``NAMED_TABLES`` left out."""
    hints = get_type_hints(section)
    fields: dict[str, ConfigField | type[Section]] = {}
    for entry in msgspec.structs.fields(section):
        hint = hints[entry.name]
        if isinstance(hint, type) and issubclass(hint, Section):
            fields[entry.name] = hint
            continue
        about = inspect.type_info(entry.type)
        if not isinstance(about, inspect.DictType):
            # msgspec sorts the choices; the hint keeps their order.
            order = get_args(hint) if get_origin(hint) is Literal else ()
            fields[entry.name] = _describe(entry.name, about, entry.default, order)
    return fields


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
            is_int = isinstance(kind, inspect.IntType)
            return ConfigField(kind=ValueKind.INT if is_int else ValueKind.FLOAT, **about)
        case inspect.StrType(pattern=pattern):
            return ConfigField(kind=ValueKind.TEXT, pattern=pattern or "", **about)
        case inspect.LiteralType():
            return ConfigField(kind=ValueKind.TEXT, choices=choices, **about)
        case inspect.EnumType(cls=cls):
            values = tuple(str(member.value) for member in cls)
            return ConfigField(kind=ValueKind.TEXT, choices=values, enum=cls, **about)
        case inspect.VarTupleType(item_type=item, min_length=least):
            return ConfigField(
                kind=ValueKind.LIST, item=_describe(name, item), min_items=least or 0, **about
            )
        case _ if type(kind) in _PLAIN_KINDS:
            return ConfigField(kind=_PLAIN_KINDS[type(kind)], **about)
    raise TypeError(f"{name}: no configuration key can be {kind}")


def resolve(path: tuple[str, ...]) -> ConfigField | type[Section] | None:
    """Return the key or table at ``path``; None if there is none.

    Any name is accepted where the user chooses it (``NAMED_TABLES``).
    """
    section: type[Section] = Config
    for prefix, named in NAMED_TABLES.items():
        if path == prefix:
            return Section
        if path[: len(prefix)] == prefix:
            section, path = named, path[len(prefix) + 1 :]
            break
    for position, name in enumerate(path):
        node = fields_of(section).get(name)
        if not isinstance(node, type):
            return node if position == len(path) - 1 else None
        section = node
    return section


def walk(
    section: type[Section] = Config, path: tuple[str, ...] = (), named: str = ANY_NAME
) -> Iterator[tuple[tuple[str, ...], ConfigField]]:
    """Yield every key with its path, in the order of the structs; ``NAMED_TABLES`` as ``named``."""
    for name in section.__struct_fields__:
        here = (*path, name)
        if here in NAMED_TABLES:
            yield from walk(NAMED_TABLES[here], (*here, named))
            continue
        node = fields_of(section)[name]
        if isinstance(node, ConfigField):
            yield here, node
        else:
            yield from walk(node, here, named)


def parse_text(field: ConfigField, text: str) -> Any:
    """Convert an environment variable's text to the type a TOML file would have held.

    Text that cannot be converted is returned unchanged, for :func:`check` to refuse.
    """
    word = text.strip()
    match field.kind:
        case ValueKind.BOOL:
            lower = word.lower()
            return True if lower in _TRUE else False if lower in _FALSE else text
        case ValueKind.INT:
            return int(word) if re.fullmatch(r"[+-]?[0-9]{1,30}", word) else text
        case ValueKind.FLOAT | ValueKind.DECIMAL:
            try:
                return Decimal(word)
            except InvalidOperation:
                return text
        case ValueKind.LIST:
            return [part.strip() for part in text.split(",") if part.strip()]
        case _:
            return text


def check(key: str, field: ConfigField, value: Any, origin: str = "") -> Any:
    """Check a value and convert it to the key's own type.

    Args:
        key: the dotted name, for the error.
        field: the key's description.
        value: from a TOML file (floats as Decimal) or from :func:`parse_text`.
        origin: the file or variable it is from, for the error.

    Raises:
        ConfigError: with the value (unless secret), the rule, and the origin.
    """
    converted = _convert(field, value)
    if converted is None:
        shown = "the value" if field.kind is ValueKind.SECRET else _shown(value)
        where = f" (from {origin})" if origin else ""
        raise ConfigError(key, f"{shown} is not {field.rule}{where}")
    return converted


def _convert(field: ConfigField, value: Any) -> Any:
    """Return the converted value, or None if it breaks the rule."""
    is_text = isinstance(value, str)
    match field.kind:
        case ValueKind.BOOL:
            return value if isinstance(value, bool) else None
        case ValueKind.INT:
            is_int = isinstance(value, int) and not isinstance(value, bool)
            return value if is_int and _in_range(field, Decimal(value)) else None
        case ValueKind.FLOAT | ValueKind.DECIMAL:
            number = _number(value, text_too=field.kind is ValueKind.DECIMAL)
            if number is None or not _in_range(field, number):
                return None
            return number if field.kind is ValueKind.DECIMAL else float(number)
        case ValueKind.SECRET:
            return Secret(value) if is_text else None
        case ValueKind.LIST:
            return _items(field, value)
        case ValueKind.MOMENT:
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
    """Return an aware datetime from a TOML date or an environment variable's text, or None."""
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
    """Spell a value as a TOML file would, cut at 100 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, list):
        text = "[" + ", ".join(_shown(part) for part in value) + "]"
    return text if len(text) <= 100 else text[:97] + "..."
