"""``flatten``: close every position of the account, then halt it.

A halted account sends nothing for a signal, not even orders that close positions. So the account is
set to ``REDUCING`` first, one closing signal is submitted for each open position, again where one
fails, and the account is set to ``HALTED`` (``--then``) once the book is empty. Closing signals are
processed like any other: in order within their symbol, each sent exactly once.
"""

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from worker.assembly.factory import takes_signal_prices
from worker.cli import arguments, confirm, output, session, signing, trading
from worker.cli.environment import configuration
from worker.cli.exit_codes import FAILURE, OK
from worker.cli.heading import heading
from worker.cli.wording import count_of, price
from worker.config.keys import Config
from worker.domain.event import terminal_event
from worker.domain.money import rounded_text, text
from worker.domain.position import Position
from worker.domain.position_events import FLATTEN_PREFIX
from worker.domain.signature import Signer
from worker.domain.trading_state import TradingState
from worker.ledger.access import StreamEntry
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.replies import Book
from worker.ledger.streams import SubmissionError
from worker.operator.reader import AccountReader
from worker.runtime.clock import SystemClock, rfc3339
from worker.runtime.errors import UncertainError

#: The pause before a failed close is submitted again, doubled each time up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
#: The default timeout: at least so long, and so much longer than an order may rest.
TIMEOUT_S, RESTING_MARGIN_S = 60.0, 30.0
#: A closing signal expires this long after the timeout, so that the halt and not its age ends it;
#: so does the flatten's request, if the command dies.
EXPIRY_MARGIN_S: Final = 60
#: The longest wait for events before the book is read again.
LOOK_EVERY_MS: Final = 500
_THEN: Final = {state.value.lower(): state for state in TradingState}
_encode = msgspec.json.Encoder().encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Set the account to REDUCING, submit a closing signal for every open position, wait until "
        "none is left, then set it to HALTED (--then). If one is left in time, the account stays "
        "REDUCING, exit 1 with a list. Without a live worker nothing is changed."
    )
    arguments.add_reason(parser, "why, for the record")
    parser.add_argument(
        "--then",
        type=str.lower,
        choices=sorted(_THEN),
        default="halted",
        help="what to ask for once nothing is open (halted)",
    )
    parser.add_argument(
        "--timeout",
        type=arguments.seconds,
        metavar="S",
        help="seconds to wait for the positions to close (60, or 30 more than "
        "reconciliation.max_wait_time)",
    )
    confirm.add_arguments(parser)
    signing.configure(parser)


def run(options: Namespace) -> int:
    """Close everything, then halt."""
    config = configuration(options)
    signer = signing.signer(options, config)
    _check_key(config, options.key_id, signer)
    return session.run(_flatten(config, AccountReader(config), signer, options))


def _check_key(config: Config, key_id: str, signer: Signer) -> None:
    """Refuse, before anything is changed, closing signals that no worker would accept.

    Raises:
        SigningError: a key is missing, not good now, or not for every strategy and flatten's ids.
    """
    if config.validation.require_signature and not key_id:
        raise signing.SigningError(
            "validation.require_signature is true: --key-id must name a key to sign the closing "
            "signals with"
        )
    key = config.signatures.keys.get(key_id)
    if key is not None and "*" not in key.strategies:
        raise signing.SigningError(
            f'--key-id: signatures.keys.{key_id}.strategies must have "*": positions of any '
            "strategy are closed"
        )
    if key is not None and not any(
        pattern.endswith("*") and FLATTEN_PREFIX.startswith(pattern[:-1])
        for pattern in key.signal_ids
    ):
        raise signing.SigningError(
            f'--key-id: signatures.keys.{key_id}.signal_ids must have "{FLATTEN_PREFIX}*" or "*": '
            "the ids of the closing signals begin so"
        )
    if problem := signing.why_refused(signer.sign({"data": b"{}"}), config, None):
        raise signing.SigningError(f"no worker would accept the closing signals: {problem}")


async def _flatten(
    config: Config, reader: AccountReader, signer: Signer, options: Namespace
) -> int:
    async with reader:
        status, book = await reader.status(), await reader.positions()
        output.tell(heading(status))
        for key, position in sorted(book.positions.items()):
            output.tell(f"{key}: {_held(position)}")
        positions = count_of(len(book.positions), "position")
        if options.dry_run:
            output.tell(
                f"{positions} would be closed, then the account set to {options.then.upper()}"
            )
            return OK
        if not status.workers_alive and (book.positions or book.busy):
            problem = f"no worker is alive, so nobody can close {positions}: nothing was changed"
            output.complain(problem)
            await reader.journal.refused(
                "flatten", "positions",
                actor=session.actor(), reason=options.reason, error=problem,
            )  # fmt: skip
            return FAILURE
        if not await confirm.is_confirmed(reader, options, f"Close {positions}"):
            return FAILURE
        try:
            return await _close(config, reader, signer, options)
        except (LedgerUnavailableError, SubmissionError) as error:
            raise UncertainError(
                f"{error}: it is not known what of the flatten has happened; positions may still "
                "be closed, execution-worker status shows it"
            ) from error


async def _close(config: Config, reader: AccountReader, signer: Signer, options: Namespace) -> int:
    who = session.actor()
    resting_s = config.reconciliation.max_wait_time + RESTING_MARGIN_S
    timeout_s = options.timeout or max(TIMEOUT_S, resting_s)
    flattening = Flattening(config, reader, signer, reason=options.reason, actor=who)
    await flattening.begin(timeout_s)
    left: list[str] | None = None
    try:
        left = await flattening.close_all(timeout_s)
    finally:
        then = TradingState.REDUCING if left is None or left else _THEN[options.then]
        if not flattening.is_ended_by_others:
            change = await reader.trading.end_flatten(then, reason=options.reason, actor=who)
            if left is None:
                state = change.control.trading_state
                output.complain(f"stopped early, the account is {state}")
    if flattening.is_ended_by_others:
        output.complain("somebody has resumed trading: this flatten is over")
        return FAILURE
    output.complain(*left)
    state = change.control.trading_state
    what = f"{len(left)} left" if left else "no position is open"
    closed, attempts = len(flattening.closed), flattening.submitted
    output.tell(
        f"account {config.account} is {state}, {what}: {count_of(closed, 'position')} closed, "
        f"{count_of(attempts, 'attempt')}",
        flush=True,
    )
    if left:
        return FAILURE
    return await trading.until_held(reader, state, trading.TIMEOUT_S)


def _held(position: Position) -> str:
    return f"{position.direction} {text(position.quantity)} at {price(position.entry_price)}"


class Flattening:
    """Submits a closing signal for every position, again where one failed, until none is left.

    Args:
        config: which account, and which exchanges are simulated.
        reader: that account.
        signer: signs the closing signals.
        reason: carried into the events.
        actor: carried into the events.
    """

    def __init__(
        self,
        config: Config,
        reader: AccountReader,
        signer: Signer,
        *,
        reason: str,
        actor: str,
    ) -> None:
        self._reader = reader
        self._signer = signer
        self._reason = reason
        self._actor = actor
        self._tail = reader.tail(("orders", "positions"))
        #: A simulated exchange trades at the price a signal states; a closing one must state one.
        self._priced = {name for name in config.exchanges if takes_signal_prices(config, name)}
        self._clock = SystemClock()
        self._started_ms = self._clock.now_ms()
        self._outstanding: dict[str, str] = {}
        #: By position key: the next pause, and the monotonic time at which the current one ends.
        self._pauses_s: dict[str, float] = {}
        self._again_s: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        #: By position key: how many closing signals it took so far.
        self._attempts: Counter[str] = Counter()
        self._seen: set[str] = set()
        self.submitted = 0
        self.closed: set[str] = set()
        #: Whether somebody resumed trading meanwhile, which ends this.
        self.is_ended_by_others = False

    async def begin(self, timeout_s: float) -> None:
        """Stop new positions from being opened, for little longer than the timeout."""
        await self._tail.start()
        lasts_ms = int((timeout_s + EXPIRY_MARGIN_S) * 1_000)
        await self._reader.trading.begin_flatten(
            reason=self._reason, actor=self._actor, lasts_ms=lasts_ms
        )

    async def close_all(self, timeout_s: float) -> list[str]:
        """Close every position, those that orders under way still open included.

        Returns:
            A sentence for each position or order left when time is up, or when somebody resumes.
        """
        deadline = time.monotonic() + timeout_s
        expires_at = rfc3339(self._clock.now_ms() + (timeout_s + EXPIRY_MARGIN_S) * 1_000)
        while True:
            book = await self._reader.positions()
            self._say_closed(book)
            left_s = deadline - time.monotonic()
            if not (book.positions or book.busy):
                return []
            self.is_ended_by_others = not await self._reader.trading.is_flattening(self._actor)
            if left_s <= 0 or self.is_ended_by_others:
                return self._left(book)
            await self._submit(self._closable(book), expires_at)
            wait_ms = max(1, min(LOOK_EVERY_MS, int(left_s * 1000)))
            for entry in await self._tail.read(wait_ms):
                self._note(entry)

    def _say_closed(self, book: Book) -> None:
        """Print a line for each position that is gone since the last look."""
        held = set(book.positions)
        for key in sorted(self._seen - held):
            self.closed.add(key)
            output.tell(f"{key} is closed, {count_of(self._attempts[key], 'attempt')}", flush=True)
        self._seen = held

    def _closable(self, book: Book) -> list[tuple[str, Position]]:
        now = time.monotonic()
        return [
            (key, position)
            for key, position in sorted(book.positions.items())
            if key not in self._outstanding
            and key not in book.busy
            and self._again_s.get(key, now) <= now
        ]

    async def _submit(self, closable: Iterable[tuple[str, Position]], expires_at: str) -> None:
        entries = []
        for key, position in closable:
            self.submitted += 1
            self._attempts[key] += 1
            signal_id = f"{FLATTEN_PREFIX}{self._started_ms}-{self.submitted}"
            self._outstanding[key] = signal_id
            data = _encode(self._signal(signal_id, position, expires_at))
            entries.append(self._signer.sign({"data": data}))
        if entries:
            await self._reader.submit(entries)

    def _signal(self, signal_id: str, position: Position, expires_at: str) -> dict[str, Any]:
        signal: dict[str, Any] = {
            "signal_id": signal_id,
            "created_at": rfc3339(self._clock.now_ms()),
            "expires_at": expires_at,
            "exchange": position.exchange,
            "symbol": position.symbol,
            "action": "close",
            "strategy_id": position.strategy_id,
            "metadata": {"reason": self._reason[:1_000], "actor": self._actor},
        }
        if position.exchange in self._priced:
            signal["entry_price"] = rounded_text(position.entry_price)
        return signal

    def _note(self, entry: StreamEntry) -> None:
        """Drop a closing signal that has ended, so that a position it left open is tried again."""
        event = terminal_event(entry.text("type"), entry.fields["data"])
        if event is None:
            return
        subject = entry.text("subject")
        for key, signal_id in tuple(self._outstanding.items()):
            if signal_id == subject:
                del self._outstanding[key]
                pause_s = self._pauses_s.get(key, FIRST_PAUSE_S)
                self._again_s[key] = time.monotonic() + pause_s
                self._pauses_s[key] = min(2 * pause_s, LONGEST_PAUSE_S)
                reason = event.get("reason")
                if reason:
                    self._failures[key] = reason

    def _left(self, book: Book) -> list[str]:
        left = [
            f"{key} is still open after {count_of(self._attempts[key], 'attempt')}: "
            f"{position.direction} {text(position.quantity)}"
            + (f" ({self._failures[key]})" if key in self._failures else "")
            for key, position in sorted(book.positions.items())
        ]
        return left + [
            f"{key} is still being changed by an order under way"
            for key in sorted(book.busy - book.positions.keys())
        ]
