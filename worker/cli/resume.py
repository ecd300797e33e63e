"""``resume``: trade again."""

from argparse import ArgumentParser, Namespace

from worker.cli import trading
from worker.domain.trading_state import TradingState


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments: a reason to stop is needed, one to resume may be given."""
    parser.add_argument("--reason", default="", help="why, for the record")


def run(options: Namespace) -> int:
    """Set the account to ``ACTIVE``."""
    return trading.set_state(options, TradingState.ACTIVE)
