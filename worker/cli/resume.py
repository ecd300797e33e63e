"""``resume``: trade again."""

from argparse import ArgumentParser, Namespace

from worker.cli import trading
from worker.domain.trading_state import TradingState


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments: a reason to stop is needed, one to resume may be given."""
    parser.description = (
        "Take back what every person asks for, and wait until every live worker trades again. What "
        "a limit asks for stays, exit 1, unless --forgive."
    )
    trading.configure(parser, reason_is_needed=False)
    parser.add_argument(
        "--forgive", action="store_true", help="take back what limits ask for as well"
    )


def run(options: Namespace) -> int:
    """Take back what persons ask for."""
    return trading.set_state(options, TradingState.ACTIVE)
