"""``flatten``: close every position of the account, then halt it.

A halted account sends nothing, not even orders that close positions. So the account is set to
``REDUCING`` first, one closing signal is submitted for each open position, and the account is set
to ``HALTED`` when the book is empty or time is up. Closing signals are processed like any other: in
order within their symbol, each sent exactly once.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from worker.assembly.factory import takes_signal_prices
from worker.cli import arguments, output, session, signing
from worker.cli.environment import configuration
from worker.config.keys import Config
from worker.domain.event import TERMINAL_EVENTS
from worker.domain.money import rounded_text, text
from worker.domain.position import Position
from worker.domain.position_events import FLATTEN_PREFIX
from worker.domain.signature import Signer
from worker.domain.trading_state import TradingState
from worker.ledger.access import StreamEntry
from worker.ledger.replies import Book
from worker.operator.reader import AccountReader
from worker.runtime.clock import SystemClock, rfc3339

#: The pause before a failed close is submitted again, doubled each time up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
#: The default timeout: at least so long, and so much longer than an order may rest.
TIMEOUT_S, RESTING_MARGIN_S = 60.0, 30.0
#: A closing signal expires this long after the timeout, so that the halt and not its age ends it.
EXPIRY_MARGIN_S: Final = 60
#: The longest wait for events before the book is read again.
LOOK_EVERY_MS: Final = 500
_TERMINAL: Final = frozenset(event.__name__ for event in TERMINAL_EVENTS)
_encode = msgspec.json.Encoder().encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Set the account to REDUCING, submit a closing signal for every open position, wait until "
        "none is left, then set it to HALTED. Exit 1 with a list if any is left."
    )
    arguments.add_reason(parser, "why, for the record")
    parser.add_argument(
        "--timeout",
        type=arguments.seconds,
        metavar="S",
        help="seconds to wait for the positions to close (60, or 30 more than "
        "reconciliation.max_wait_time)",
    )
    signing.configure(parser)


def run(options: Namespace) -> int:
    """Close everything, then halt."""
    config = configuration(options)
    signer = signing.signer(options, config)
    _check_key(config, options.key_id)
    return session.run(_flatten(config, AccountReader(config), signer, options))


def _check_key(config: Config, key_id: str) -> None:
    """Refuse, before anything is changed, closing signals that no worker would accept.

    Raises:
        SigningError: a key is missing, or is not for every strategy, or not for flatten's ids.
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


async def _flatten(
    config: Config, reader: AccountReader, signer: Signer, options: Namespace
) -> int:
    who = session.actor()
    resting_s = config.reconciliation.max_wait_time + RESTING_MARGIN_S
    timeout_s = options.timeout or max(TIMEOUT_S, resting_s)
    async with reader:
        flattening = Flattening(config, reader, signer, reason=options.reason, actor=who)
        await flattening.begin()
        try:
            left = await flattening.close_all(timeout_s)
        except BaseException:
            output.complain("stopped early, trading stays REDUCING")
            raise
        await reader.set_trading_state(TradingState.HALTED, reason=options.reason, actor=who)
    output.complain(*left)
    what = f"{len(left)} left" if left else "no position is open"
    closes = f"{flattening.submitted} closes submitted"
    output.say(f"account {config.account} is HALTED, {closes}, {what}")
    return 1 if left else 0


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
        self.submitted = 0

    async def begin(self) -> None:
        """Stop new positions from being opened."""
        await self._tail.start()
        await self._reader.set_trading_state(
            TradingState.REDUCING, reason=self._reason, actor=self._actor
        )

    async def close_all(self, timeout_s: float) -> list[str]:
        """Close every position, those that orders under way still open included.

        Returns:
            A sentence for each position or order left when time is up.
        """
        deadline = time.monotonic() + timeout_s
        expires_at = rfc3339(self._clock.now_ms() + (timeout_s + EXPIRY_MARGIN_S) * 1_000)
        while True:
            book = await self._reader.positions()
            left_s = deadline - time.monotonic()
            if not (book.positions or book.busy):
                return []
            if left_s <= 0:
                return self._left(book)
            await self._submit(self._closable(book), expires_at)
            wait_ms = max(1, min(LOOK_EVERY_MS, int(left_s * 1000)))
            for entry in await self._tail.read(wait_ms):
                self._note(entry)

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
        if entry.text("type") not in _TERMINAL:
            return
        subject = entry.text("subject")
        for key, signal_id in tuple(self._outstanding.items()):
            if signal_id == subject:
                del self._outstanding[key]
                pause_s = self._pauses_s.get(key, FIRST_PAUSE_S)
                self._again_s[key] = time.monotonic() + pause_s
                self._pauses_s[key] = min(2 * pause_s, LONGEST_PAUSE_S)
                reason = msgspec.json.decode(entry.fields["data"]).get("reason")
                if reason:
                    self._failures[key] = reason

    def _left(self, book: Book) -> list[str]:
        left = [
            f"{key} is still open: {position.direction} {text(position.quantity)}"
            + (f" ({self._failures[key]})" if key in self._failures else "")
            for key, position in sorted(book.positions.items())
        ]
        return left + [
            f"{key} is still being changed by an order under way"
            for key in sorted(book.busy - book.positions.keys())
        ]
