"""``reduce``: only close positions."""

from argparse import ArgumentParser, Namespace

from worker.cli import arguments, trading
from worker.domain.trading_state import TradingState


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    arguments.add_reason(parser, "why, for the record")


def run(options: Namespace) -> int:
    """Set the account to ``REDUCING``."""
    return trading.set_state(options, TradingState.REDUCING)
