"""The AsyncAPI document says what the structs and the contract say."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from worker.cli.schema import document
from worker.domain.event import STREAM_OF, Event, payload_struct
from worker.domain.refusal import CancelCode, Code
from worker.domain.signal import Signal

_DOCUMENT = document()
_SCHEMAS = _DOCUMENT["components"]["schemas"]
_MESSAGES = _DOCUMENT["components"]["messages"]


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def test_every_reference_leads_somewhere() -> None:
    """Each ``$ref`` names something in the document itself."""
    references = set(_references(_DOCUMENT))
    assert len(references) > 30
    for reference in references:
        place: Any = _DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, reference
            place = place[step]


def test_it_has_the_parts_asyncapi_3_asks_for() -> None:
    """Version, info, channels with addresses and parameters, operations on them."""
    assert _DOCUMENT["asyncapi"].startswith("3.0.")
    assert {"title", "version"} <= _DOCUMENT["info"].keys()
    assert set(_DOCUMENT["channels"]) == {"signals", "orders", "positions", "system", "dead"}
    for name, channel in _DOCUMENT["channels"].items():
        assert channel["address"] == f"{{account}}:{name}"
        assert channel["parameters"]["account"]["default"] == "{main}"
        assert channel["messages"]
    actions = {name: one["action"] for name, one in _DOCUMENT["operations"].items()}
    assert actions == dict.fromkeys(("orders", "positions", "system", "dead"), "send") | {
        "signals": "receive"
    }


def test_it_is_json_without_discriminators() -> None:
    """No ``discriminator`` object is left: msgspec's are not AsyncAPI's."""
    assert '"discriminator"' not in json.dumps(_DOCUMENT)


@pytest.mark.parametrize("event", STREAM_OF, ids=lambda event: event.__name__)
def test_each_event_is_described_field_by_field(event: type[Event]) -> None:
    """The schema's properties are the struct's fields and its tag, on the right channel."""
    name = event.__name__
    schema = _SCHEMAS[name]
    assert set(schema["properties"]) == {*payload_struct(event).__struct_fields__, "type"}
    assert schema["properties"]["type"] == {"enum": [name]}
    assert schema["properties"]["occurred_at"]["format"] == "date-time"
    assert name in _DOCUMENT["channels"][STREAM_OF[event]]["messages"]
    assert _MESSAGES[name]["headers"]["required"] == ["type", "id", "subject"]


def test_a_signals_schema_is_strict_and_knows_its_conditions() -> None:
    """Unknown fields are refused; an opening needs a direction, a limit order its price."""
    schema = _SCHEMAS["Signal"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Signal.__struct_fields__)
    assert set(schema["required"]) == {"signal_id", "created_at", "exchange", "symbol"}
    needed = [part.get("then", part.get("else"))["required"] for part in schema["allOf"]]
    assert needed == [
        ["direction", "strength", "confluence_score"],
        ["good_till"],
        ["entry_price"],
        ["stop_price"],
    ]


def test_a_signals_decimals_may_be_text_or_numbers() -> None:
    """Both spellings the decoder takes are in the schema; events carry text only."""
    kinds = [
        one["type"] for one in _SCHEMAS["Signal"]["properties"]["entry_price"]["anyOf"][0]["oneOf"]
    ]
    assert kinds == ["string", "number"]
    assert _SCHEMAS["OrderFilled"]["properties"]["filled_quantity"]["type"] == "string"


def test_the_example_is_a_signal() -> None:
    """The documented example decodes."""
    example = _MESSAGES["TradingSignalGenerated"]["examples"][0]["payload"]
    signal = msgspec.json.decode(json.dumps(example), type=Signal)
    assert signal.symbol == "BTC/USDT"


def test_every_refusal_code_is_explained() -> None:
    """Each code of OrderFailed and of OrderCancelled has its meaning beside it."""
    assert _SCHEMAS["Code"]["x-meanings"] == {code.value: code.meaning for code in Code}
    assert _SCHEMAS["CancelCode"]["x-meanings"] == {code.value: code.meaning for code in CancelCode}


def test_a_dead_letter_carries_its_reason_beside_the_original() -> None:
    """The six added fields are required headers; the payload is whatever it was."""
    message = _MESSAGES["DeadLetter"]
    assert message["headers"]["required"] == [
        "reason", "error", "entry_id", "deliveries", "worker", "at",
    ]  # fmt: skip
    assert message["contentType"] == "application/octet-stream"
