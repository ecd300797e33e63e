"""Finds the folder of an exchange by its ccxt id, so that no module has to list the adapters.

A folder ``worker/exchanges/<ccxt id>/`` declares ``CAPABILITIES`` in its ``__init__``, which
imports no ccxt, and ``ADAPTER`` in its ``adapter`` module.
"""

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from worker import exchanges
from worker.config.keys import ExchangeConfig
from worker.exchanges.ports import ExchangeAdapter
from worker.runtime.clock import Clock

#: The folder whose adapter serves every exchange without a folder of its own.
_GENERIC: Final = "ccxt"


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about an exchange's adapter that are needed before ccxt is imported.

    ``title`` is the exchange's name for people; ``websocket_orders`` is set where orders can be
    created over a WebSocket (``order_transport = "websocket"``), ``nonce_windows`` where an API key
    may have a nonce window.
    """

    title: str
    websocket_orders: bool = False
    nonce_windows: bool = False


class AdapterClass(Protocol):
    """The constructor of a real exchange's adapter."""

    def __call__(self, name: str, config: ExchangeConfig, clock: Clock, /) -> ExchangeAdapter:
        """Build the adapter, not started."""


@functools.cache
def exchange_folders() -> Mapping[str, Capabilities]:
    """Return the capabilities of every exchange that has a folder, by ccxt id."""
    folders = {}
    for module in pkgutil.iter_modules(exchanges.__path__):
        if module.ispkg:
            folder = importlib.import_module(f"{exchanges.__name__}.{module.name}")
            declared = getattr(folder, "CAPABILITIES", None)
            if isinstance(declared, Capabilities):
                folders[module.name] = declared
    return folders


def adapter_class(ccxt_id: str) -> AdapterClass:
    """Return the adapter of exchange ``ccxt_id``; importing it imports ccxt."""
    folder = ccxt_id if ccxt_id in exchange_folders() else _GENERIC
    module = importlib.import_module(f"{exchanges.__name__}.{folder}.adapter")
    adapter: AdapterClass = module.ADAPTER
    return adapter
