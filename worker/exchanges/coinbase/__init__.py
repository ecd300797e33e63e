"""Coinbase Advanced."""

from typing import Final

from worker.exchanges.discovery import Capabilities

CAPABILITIES: Final = Capabilities(title="Coinbase")
