"""Traces of signals: what the engine reports of each, and who makes spans of it."""

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from worker.config.keys import TracingConfig
from worker.runtime.errors import ConfigError


class Trace(Protocol):
    """The trace of one delivery of a signal."""

    def step(self, name: str, seconds: float) -> None:
        """Add a span for a step that has just ended and took so long."""

    def traceparent(self) -> str:
        """Return what the signal's events carry on (W3C Trace Context)."""

    def committed(self, outcome: str, signal_id: str, fields: Mapping[str, object]) -> None:
        """Record the signal's end; the time since the last step was the commit's."""

    def close(self, error: BaseException | None = None) -> None:
        """End the trace, with the exception that ended the delivery, if there is one."""


class Tracing(Protocol):
    """One trace a delivery."""

    def begin(self, entry_id: str, fields: Mapping[bytes, bytes], deliveries: int) -> Trace:
        """Begin the trace of one delivery; it continues the producer's, if that has one."""

    def close(self) -> None:
        """Send what is left; blocks for some seconds at most."""


def tracing_of(config: TracingConfig, *, account: str, worker: str, version: str) -> Tracing | None:
    """Return the tracing that is configured: None, and nothing is loaded, where it is off.

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
