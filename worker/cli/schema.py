"""``schema``: print the AsyncAPI 3.0 document of the five streams, generated from the structs."""

import inspect
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from worker import __version__
from worker.cli import output
from worker.domain.event import STREAM_OF, Event, payload_struct
from worker.domain.identity import ACCOUNT_PATTERN
from worker.domain.refusal import CancelCode, Code, DeadReason
from worker.domain.signal import MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, Signal

#: The type documented for a raw payload field, whose content the worker never decodes.
Metadata = Annotated[
    dict[str, Any] | None,
    msgspec.Meta(
        description=f"The producer's own, carried untouched; at most {MAX_METADATA_BYTES} bytes."
    ),
]
#: Times of events always have a zone, which the structs' plain ``datetime`` does not state.
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_MOMENTS: Final[dict[Any, Any]] = {datetime: _Moment, datetime | None: _Moment | None}
_SCHEMAS: Final = "#/components/schemas/"
#: A decimal in a signal: text, so that nothing is lost, or a number, read digit by digit.
_DECIMAL: Final = {
    "oneOf": [
        {"type": "string", "pattern": r"^[+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"},
        {"type": "number", "exclusiveMinimum": 0},
    ],
    "description": "Greater than 0, between 1e-18 and 1e18; a string keeps every digit.",
}
_CONDITIONS: Final[list[dict[str, Any]]] = [
    {
        "if": {"properties": {"action": {"const": "close"}}, "required": ["action"]},
        "else": {"required": ["direction", "strength", "confluence_score"]},
    },
    {
        "if": {"properties": {"time_in_force": {"const": "GTD"}}, "required": ["time_in_force"]},
        "then": {"required": ["good_till"]},
        "else": {"properties": {"good_till": {"type": "null"}}},
    },
    {
        "if": {
            "properties": {"order_type": {"enum": ["limit", "stop_limit"]}},
            "required": ["order_type"],
        },
        "then": {"required": ["entry_price"]},
    },
    {
        "if": {
            "properties": {"order_type": {"enum": ["stop", "stop_limit"]}},
            "required": ["order_type"],
        },
        "then": {"required": ["stop_price"]},
    },
]
_CHANNELS: Final = {
    "signals": "Input: one trading signal an entry.",
    "orders": "Output: what became of each signal's order.",
    "positions": "Output: positions opened, changed and closed.",
    "system": "Output: what a person has to know.",
    "dead": "Entries that no worker could run, with the reason.",
}


def configure(parser: ArgumentParser) -> None:
    """Describe the command, which has no arguments of its own."""
    parser.description = "Print the AsyncAPI 3.0 document of all streams, as JSON."


def run(_options: Namespace) -> int:
    """Print the document."""
    output.say(*json.dumps(document(), indent=2, ensure_ascii=False).split("\n"))
    return 0


def document() -> dict[str, Any]:
    """Build the whole document."""
    messages = {"TradingSignalGenerated": _signal_message(), "DeadLetter": _dead_message()}
    messages |= {event.__name__: _event_message(event) for event in STREAM_OF}
    on_channel = {"signals": ["TradingSignalGenerated"], "dead": ["DeadLetter"]}
    for event, stream in STREAM_OF.items():
        on_channel.setdefault(stream, []).append(event.__name__)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "execution-worker",
            "version": __version__,
            "description": "Trading signals in, order and position events out. Every message is "
            "an entry of a Redis stream: the entry's field `data` is the payload, its other "
            "fields are the headers.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "127.0.0.1:6379",
                "protocol": "redis",
                "description": "Where `redis.url` points.",
            }
        },
        "channels": {
            name: _channel(name, summary, on_channel[name]) for name, summary in _CHANNELS.items()
        },
        "operations": {
            name: {
                "action": "receive" if name == "signals" else "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": _CHANNELS[name],
            }
            for name in _CHANNELS
        },
        "components": {"schemas": schemas(), "messages": messages},
    }


def schemas() -> dict[str, Any]:
    """Build every payload's JSON Schema, by name."""
    types = [_describable(Signal), *(_describable(payload_struct(event)) for event in STREAM_OF)]
    _, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "{name}")
    described = {name: _tidied(schema) for name, schema in components.items()}
    described["Signal"]["allOf"] = _CONDITIONS
    described["Code"]["x-meanings"] = {code.value: code.meaning for code in Code}
    described["CancelCode"]["x-meanings"] = {code.value: code.meaning for code in CancelCode}
    return described


def _describable(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Copy a struct with ``metadata`` as an object, for raw bytes have no JSON Schema."""
    fields: list[tuple[str, Any, Any]] = []
    for entry in msgspec.structs.fields(kind):
        if entry.name == "metadata":
            fields.append(("metadata", Metadata, None))
            continue
        kind_of = _MOMENTS.get(entry.type, entry.type)
        required = entry.default is msgspec.NODEFAULT
        fields.append((entry.name, kind_of, msgspec.field() if required else entry.default))
    config = kind.__struct_config__
    return msgspec.defstruct(
        kind.__name__,
        fields,
        namespace={"__doc__": inspect.cleandoc(kind.__doc__ or kind.__name__)},
        kw_only=True,
        tag=config.tag,
        tag_field=config.tag_field,
        forbid_unknown_fields=config.forbid_unknown_fields,
    )


def _tidied(schema: Any) -> Any:
    """Describe decimals in full, and drop ``discriminator``, whose form in AsyncAPI differs."""
    if isinstance(schema, list):
        return [_tidied(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "decimal":
        return _DECIMAL
    return {name: _tidied(part) for name, part in schema.items() if name != "discriminator"}


def _channel(name: str, summary: str, messages: Iterable[str]) -> dict[str, Any]:
    return {
        "address": f"{{account}}:{name}",
        "summary": summary,
        "servers": [{"$ref": "#/servers/redis"}],
        "parameters": {
            "account": {
                "description": "The account's id in braces, a Redis Cluster hash tag: the braces "
                f"are part of the key. The id matches {ACCOUNT_PATTERN}",
                "default": "{main}",
                "examples": ["{main}"],
            }
        },
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
    }


def _headers(
    described: Mapping[str, str], required: Iterable[str], constants: Mapping[str, str]
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        name: {"type": "string", "description": text} for name, text in described.items()
    }
    for name, value in constants.items():
        properties[name]["const"] = value
    return {"type": "object", "properties": properties, "required": list(required)}


def _signal_message() -> dict[str, Any]:
    kind = "TradingSignalGenerated"
    return {
        "name": kind,
        "title": "Trading signal",
        "summary": "One order wanted. Unknown fields are refused; "
        f"at most {MAX_PAYLOAD_BYTES} bytes.",
        "contentType": "application/json",
        "headers": _headers(
            {
                "type": "Optional.",
                "key": "Optional message group: signals of one group run strictly in stream "
                "order. By default `<exchange>:<symbol>`.",
                "traceparent": "Optional W3C trace context.",
                "key_id": "Which key `signature` was made with; both or neither.",
                "signature": "HMAC-SHA256 over account, key id, message group and payload, 64 hex "
                "digits; required where `validation.require_signature` is true.",
            },
            (),
            {"type": kind},
        ),
        "payload": {"$ref": f"{_SCHEMAS}Signal"},
        "examples": [
            {
                "payload": {
                    "signal_id": "breakout-20260101-1",
                    "created_at": "2026-01-01T12:00:00Z",
                    "exchange": "binance",
                    "symbol": "BTC/USDT",
                    "direction": "long",
                    "strength": 0.8,
                    "confluence_score": 7.5,
                    "entry_price": "65000.00",
                    "stop_loss": "64500.00",
                }
            }
        ],
    }


def _event_message(event: type[Event]) -> dict[str, Any]:
    name = event.__name__
    return {
        "name": name,
        "title": name,
        "summary": (event.__doc__ or name).partition("\n")[0],
        "contentType": "application/json",
        "headers": _headers(
            {
                "type": "The event's type.",
                "id": "The event's id, a pure function of what happened: one seen before may be "
                "dropped.",
                "subject": "The signal_id it is about; empty where it is about none.",
                "traceparent": "W3C trace context of the signal's execution, where the worker "
                "traces (`tracing.enabled`).",
            },
            ("type", "id", "subject"),
            {"type": name},
        ),
        "payload": {"$ref": f"{_SCHEMAS}{name}"},
    }


def _dead_message() -> dict[str, Any]:
    added = {
        "reason": f"A word: {', '.join(DeadReason)}.",
        "error": "A sentence that names the field and the rule.",
        "entry_id": "The entry's id on the signals stream.",
        "deliveries": "How often it was delivered, a decimal number.",
        "worker": "Which worker gave it up.",
        "at": "When, RFC 3339.",
    }
    own = {
        "type": "The entry's own, as it was.",
        "key": "The entry's own, as it was.",
        "traceparent": "The entry's own, as it was.",
        "key_id": "The entry's own, as it was.",
        "signature": "The entry's own, as it was.",
    }
    return {
        "name": "DeadLetter",
        "title": "Dead letter",
        "summary": "The entry's own fields, byte for byte, and after them why it is here.",
        "contentType": "application/octet-stream",
        "headers": _headers(own | added, added, {}),
        "payload": {
            "type": "string",
            "description": "The entry's `data` as it was; it need not be JSON, and is absent "
            "where the entry had none.",
        },
    }
