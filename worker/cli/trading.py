"""Setting the account's trading state, as ``halt``, ``reduce`` and ``resume`` do."""

from argparse import Namespace

from worker.cli import output, session
from worker.domain.trading_state import TradingState
from worker.operator.reader import AccountReader


def set_state(options: Namespace, state: TradingState) -> int:
    """Set the state for ``options.reason``, and print it with the state before."""
    return session.run(_set(session.reader(options), state, options.reason))


async def _set(reader: AccountReader, state: TradingState, reason: str) -> int:
    async with reader:
        before = await reader.set_trading_state(state, reason=reason, actor=session.actor())
    was = f"still {state}" if before is state else f"{state}, was {before}"
    output.say(f"account {reader.access.account} is {was}")
    return 0
