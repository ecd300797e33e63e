"""Kraken spot."""

from typing import Final

from worker.exchanges.discovery import Capabilities

CAPABILITIES: Final = Capabilities(title="Kraken", nonce_windows=True)
