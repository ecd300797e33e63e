"""The client's typed arguments follow what they describe."""

import inspect

import msgspec
import pytest

from worker.client import (
    AsyncSignalProducer,
    MalformedSignalError,
    ProducerOptions,
    Signal,
    SignalFields,
    new_signal,
)


def test_a_new_signal_may_state_every_field_of_the_contract() -> None:
    """A field added to the signal is one that a type checker lets a producer give."""
    named = set(inspect.signature(new_signal).parameters) - {"fields"}
    assert named | set(SignalFields.__annotations__) == set(Signal.__struct_fields__)


def test_both_producers_take_the_same_options() -> None:
    """The one without ``await`` hands them on."""
    options = inspect.signature(AsyncSignalProducer).parameters
    keywords = {
        name for name, option in options.items() if option.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert set(ProducerOptions.__annotations__) == keywords


def test_a_field_outside_the_contract_is_refused_at_run_time_too() -> None:
    """A program that is not type-checked is told which field it was."""
    fields = {"stop_los": "1"}
    with pytest.raises(MalformedSignalError, match="stop_los"):
        new_signal("a", "paper", "BTC/USDT", **fields)  # type: ignore[arg-type]


def test_a_signal_without_optional_fields_has_their_defaults() -> None:
    """Only the id, the market and the time are needed to build one."""
    signal = new_signal("a", "paper", "BTC/USDT")
    given = {"signal_id", "exchange", "symbol", "created_at"}
    defaults = {field.name: field.default for field in msgspec.structs.fields(Signal)}
    assert all(
        getattr(signal, name) == value for name, value in defaults.items() if name not in given
    )
