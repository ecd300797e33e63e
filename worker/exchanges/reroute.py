"""An earlier name of ``worker.exchanges.http_session``; goes with its last caller, a test."""

from worker.exchanges.http_session import open_session as open_session  # noqa: PLC0414
