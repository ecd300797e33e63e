"""Traces of signals: what the engine tells of them, and whether anybody is to be told."""

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, cast

from worker.config.keys import TracingConfig
from worker.runtime.errors import ConfigError

#: Given a stage's name, what is told the seconds that it took the signal in hand.
Watch = Callable[[str], Callable[[float], None]]


class Tracing(Protocol):
    """One trace a signal; every call is about the signal that the current task has in hand."""

    def signal(
        self, entry_id: str, fields: Mapping[bytes, bytes], deliveries: int
    ) -> AbstractContextManager[None]:
        """All that is done with one delivery; continues the producer's trace, if it has one."""

    def traceparent(self) -> str:
        """What the signal's events carry on (W3C Trace Context); empty outside of a signal."""

    def ended(self, outcome: str, signal_id: str, fields: Mapping[str, object]) -> None:
        """The signal's end is written: everything since the last stage was the commit."""

    def watch(self, inner: Watch) -> Watch:
        """``inner``, with a span for every stage it is told of."""

    def close(self) -> None:
        """Send what is left; blocks for some seconds at most."""


def tracing_of(config: TracingConfig, *, account: str, worker: str, version: str) -> Tracing | None:
    """The tracing that is configured: None, and nothing is loaded, where it is off.

    Raises:
        ConfigError: it is on, and the libraries are not installed.
    """
    if not config.enabled:
        return None
    try:
        module = importlib.import_module("worker.observe.otel")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "tracing.enabled",
            f"needs {error.name}, which the extra brings: pip install 'execution-worker[otel]'",
        ) from None
    made = module.exporting(config, account=account, worker=worker, version=version)
    return cast("Tracing", made)
