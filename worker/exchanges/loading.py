"""An earlier name of ``worker.exchanges.ccxt_import``; goes with its last caller, a test."""

from worker.exchanges.ccxt_import import exchange_class as exchange_class  # noqa: PLC0414
