"""``halt``, ``reduce``, ``resume``: what the account may do."""

from argparse import ArgumentParser, Namespace

from worker.cli import arguments, session
from worker.domain.trading_state import TradingState
from worker.operator.reader import AccountReader

_STATE = {
    "halt": TradingState.HALTED,
    "reduce": TradingState.REDUCING,
    "resume": TradingState.ACTIVE,
}


def configure(parser: ArgumentParser) -> None:
    """The command's arguments; a reason must be given to stop, may be given to go on."""
    may_be_silent = parser.prog.endswith("resume")
    parser.add_argument(
        "--reason",
        type=str if may_be_silent else arguments.reason,
        required=not may_be_silent,
        default="",
        help="why, for whoever looks next",
    )


def run(options: Namespace) -> int:
    """Set the trading state and say what it was."""
    return session.run(_set(session.reader(options), _STATE[options.command], options.reason))


async def _set(reader: AccountReader, state: TradingState, reason: str) -> int:
    async with reader:
        before = await reader.set_trading_state(state, reason=reason, actor=session.actor())
    was = f"still {state}" if before is state else f"{state}, was {before}"
    print(f"account {reader.access.account} is {was}")
    return 0
