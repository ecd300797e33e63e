"""Setting the account's trading state, as ``halt``, ``reduce`` and ``resume`` do."""

import asyncio
import time
from argparse import ArgumentParser, Namespace
from typing import Final

from worker.cli import arguments, confirm, output, session
from worker.cli.exit_codes import FAILURE, NOT_KNOWN, OK
from worker.domain.trading_state import TradingState
from worker.ledger.errors import LedgerUnavailableError
from worker.operator.reader import AccountReader
from worker.operator.trading import ACTIONS, Change, Holding, TradingStateBusyError
from worker.runtime.counted import count_of
from worker.runtime.errors import UncertainError

#: How long to wait for the workers by default, seconds: they ask for the state every few seconds.
TIMEOUT_S: Final = 20.0
LOOK_EVERY_S: Final = 0.2


def configure(parser: ArgumentParser, *, reason_is_needed: bool) -> None:
    """Add ``--reason`` and ``--timeout``."""
    if reason_is_needed:
        arguments.add_reason(parser, "why, for the record")
    else:
        parser.add_argument("--reason", default="", help="why, for the record")
    confirm.add_arguments(parser)
    parser.add_argument(
        "--timeout",
        type=arguments.seconds,
        default=TIMEOUT_S,
        metavar="S",
        help=f"seconds to wait until every live worker holds the state ({TIMEOUT_S:g})",
    )


def set_state(options: Namespace, state: TradingState) -> int:
    """Ask for a state, wait until the live workers hold it, and say what is in force."""
    return session.run(_set(session.reader(options), state, options))


async def _set(reader: AccountReader, state: TradingState, options: Namespace) -> int:
    actor = session.actor()
    async with reader:
        if options.dry_run:
            before = (await reader.trading.read()).control.trading_state
            output.tell(f"would ask for {state}; account {reader.access.account} is {before}")
            return OK
        # What makes it stricter is never held up by a question.
        if state is TradingState.ACTIVE and not await confirm.is_confirmed(
            reader, options, f"Resume trading on account {reader.access.account}"
        ):
            return FAILURE
        try:
            if state is TradingState.ACTIVE:
                change = await reader.trading.resume(
                    reason=options.reason, actor=actor, forgive=options.forgive
                )
            else:
                change = await reader.trading.ask(state, reason=options.reason, actor=actor)
        except TradingStateBusyError as error:
            await reader.journal.refused(
                ACTIONS[state], "trading_state",
                actor=actor, reason=options.reason, error=str(error),
            )  # fmt: skip
            raise
        except LedgerUnavailableError as error:
            if not error.may_have_run:
                raise
            raise UncertainError(
                f"{error}: it is not known whether this was noted, ask again"
            ) from error
        output.tell(sentence(reader.access.account, change, state), flush=True)
        held = await until_held(reader, change.control.trading_state, options.timeout)
    still_asked = state is TradingState.ACTIVE and change.control.trading_state is not state
    return FAILURE if still_asked and held == OK else held


def sentence(account: str, change: Change, asked: TradingState) -> str:
    """Say what is in force after a change, and why where it is not what was asked for."""
    control, before = change.control, change.before
    state = control.trading_state
    was = f"still {state}" if before is state else f"{state}, was {before}"
    told = f"account {account} is {was}"
    if state is asked:
        return told
    others = ", ".join(dict.fromkeys(one.asker for one in change.asks if one.state is state))
    why = f" ({control.reason})" if control.reason else ""
    told += f": {others} asks for it{why}"
    if asked is TradingState.ACTIVE:
        return f"{told}; resume --forgive ends that too"
    return f"{told}; that you ask for {asked} is noted"


async def until_held(reader: AccountReader, state: TradingState, timeout_s: float) -> int:
    """Wait until every live worker acts by a state, and print how many do.

    Returns:
        The exit code: 0 if all do, 1 if one does not in time, 75 if Redis does not answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            holding = await reader.trading.holding(state)
        except LedgerUnavailableError as error:
            if time.monotonic() >= deadline:
                output.complain(f"{error}: it is not known which workers hold {state}")
                return NOT_KNOWN
        else:
            if not holding.missing or time.monotonic() >= deadline:
                return _say(holding, state)
        await asyncio.sleep(LOOK_EVERY_S)


def _say(holding: Holding, state: TradingState) -> int:
    live = len(holding.held) + len(holding.missing)
    if holding.silent:
        names = ", ".join(holding.silent)
        output.complain(f"not heard from, so it holds no lease and may send nothing: {names}")
    if not live:
        output.tell(f"no worker is alive; whoever starts will hold {state}")
        return OK
    hold = f"{count_of(live, 'worker')} hold{'s' if live == 1 else ''} it"
    output.tell(f"{len(holding.held)} of {hold}")
    if not holding.missing:
        return OK
    output.complain(f"{', '.join(holding.missing)} did not say so in time")
    return FAILURE
