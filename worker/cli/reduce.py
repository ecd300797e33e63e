"""``reduce``: only close positions."""

from argparse import ArgumentParser, Namespace

from worker.cli import trading
from worker.domain.trading_state import TradingState


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Ask for REDUCING: the strictest state that anybody asks for is in force. Waits until "
        "every live worker holds it; exit 1 if one does not say so in time, 75 if Redis does not "
        "answer."
    )
    trading.configure(parser, reason_is_needed=True)


def run(options: Namespace) -> int:
    """Ask for ``REDUCING``."""
    return trading.set_state(options, TradingState.REDUCING)
