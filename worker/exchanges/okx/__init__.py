"""OKX v5."""

from typing import Final

from worker.exchanges.discovery import Capabilities

CAPABILITIES: Final = Capabilities(title="OKX")
