"""Binance, spot and USDS-M futures."""

from typing import Final

from worker.exchanges.discovery import Capabilities

CAPABILITIES: Final = Capabilities(title="Binance", websocket_orders=True)
