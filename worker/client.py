"""The client library: produce signals and consume events, safely across lost connections.

>>> from worker.client import SignalProducer, new_signal
>>> with SignalProducer("redis://127.0.0.1:6379/0", account="main") as producer:
...     producer.send(
...         new_signal(
...             "breakout-1",
...             "binance",
...             "BTC/USDT",
...             direction="long",
...             strength=0.8,
...             confluence_score=7,
...             entry_price="65000",
...         )
...     )
'1700000000000-0'

``AsyncSignalProducer`` is the same with ``await``; :func:`unique_events` is the other direction.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, Self, TypedDict, Unpack

import msgspec
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from worker.config.keys import Config, RedisConfig
from worker.domain.identity import account_key, is_account
from worker.domain.signal import (
    Action,
    Direction,
    MalformedSignalError,
    OrderType,
    Signal,
    TimeInForce,
    decode_signal,
)
from worker.domain.signal_encoding import encode_fields, encode_signals
from worker.domain.signature import Signer
from worker.ledger.access import OUTPUT_STREAMS, Access, StreamEntry
from worker.ledger.connection import Connections
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.limits import why_too_large
from worker.ledger.streams import SubmissionError, Tail, submit
from worker.runtime.errors import ConfigError
from worker.runtime.secret import Secret

__all__ = [
    "AsyncSignalProducer",
    "MalformedSignalError",
    "ProducerOptions",
    "ReceivedEvent",
    "Signal",
    "SignalFields",
    "SignalProducer",
    "new_signal",
    "unique_events",
]

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"
#: Event ids remembered by :func:`unique_events`: some 10 MB.
DEFAULT_MEMORY: Final = 100_000

#: A price, quantity or percentage; text and ``Decimal`` keep every digit.
Number = str | Decimal | int | float


class SignalFields(TypedDict, total=False):
    """The optional fields of a signal, as :func:`new_signal` takes them.

    Prices are in quote units, ``quantity`` in base units; the contract (docs/messages.md) says
    which kind of signal needs which field. Times are aware, or RFC 3339 text.
    """

    created_at: datetime | str | None
    action: Action | Literal["open", "close"]
    direction: Direction | Literal["long", "short"] | None
    strength: float | None
    confluence_score: float | None
    order_type: OrderType | Literal["market", "limit", "stop", "stop_limit"]
    time_in_force: TimeInForce | Literal["GTC", "GTD", "IOC", "FOK"] | None
    good_till: datetime | str | None
    post_only: bool
    entry_price: Number | None
    stop_price: Number | None
    stop_loss: Number | None
    take_profit: Number | None
    quantity: Number | None
    size_pct: Number | None
    expires_at: datetime | str | None
    strategy_id: str | None
    metadata: Mapping[str, Any] | msgspec.Raw | None


class ProducerOptions(TypedDict, total=False):
    """The keyword arguments of a producer; :class:`AsyncSignalProducer` explains each."""

    account: str
    redis: RedisConfig | None
    patience_s: float
    key_id: str
    secret: str


def new_signal(
    signal_id: str, exchange: str, symbol: str, **fields: Unpack[SignalFields]
) -> Signal:
    """Build a signal created now, its form checked as the worker will check it.

    Args:
        signal_id: the idempotency key: the same id is never traded twice.
        exchange: its configured name.
        symbol: CCXT unified.
        fields: any other field of the contract; ``created_at`` if not now.

    Raises:
        MalformedSignalError: names the field and the rule.
    """
    created_at = fields.pop("created_at", None) or datetime.now(UTC)
    return decode_signal(
        encode_fields(
            {"signal_id": signal_id, "created_at": created_at, "exchange": exchange}
            | {"symbol": symbol}
            | dict(fields)
        )
    )


def _access(url: str, account: str, redis: RedisConfig | None) -> Access:
    if not is_account(account):
        raise ConfigError("account", f"{account!r} is not an account's id")
    config = Config(account=account, redis=redis or RedisConfig(url=Secret(url)))
    connections = Connections(
        config.redis, key=account_key(account, "signals"), name="execution-worker-client"
    )
    return Access(connections, account)


class AsyncSignalProducer:
    """Puts signals on an account's stream; sending one again is harmless.

    After a lost reply the signal is sent again, which may put it on the stream twice; its
    ``signal_id`` makes the second a duplicate that no worker trades.

    Args:
        url: as ``redis.url``.
        account: the account.
        redis: the whole ``redis`` section instead of ``url`` (TLS files, password).
        patience_s: how long to keep trying while Redis cannot be reached, seconds.
        key_id: the key of ``signatures.keys`` to sign every signal with; none if empty.
        secret: that key's secret.

    Raises:
        ConfigError: the account, the key's id or its secret is invalid.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        account: str = "main",
        redis: RedisConfig | None = None,
        patience_s: float = 10.0,
        key_id: str = "",
        secret: str = "",
    ) -> None:
        self._signer = Signer(account, key_id, secret)
        self._access = _access(url, account, redis)
        self._patience_s = patience_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._access.connections.close()

    async def send(
        self,
        signal: Signal | Mapping[str, Any],
        *,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Put one signal on the stream.

        Args:
            signal: from :func:`new_signal`, or the fields of the contract by name (times aware or
                as RFC 3339 text); checked before it is sent.
            key: message group; by default exchange and symbol.
            traceparent: W3C trace context of the producer, which the worker's trace continues.

        Returns:
            The entry's id; of the second entry if a lost reply made two.

        Raises:
            MalformedSignalError: a field breaks its rule, or all are too large; nothing was sent.
            LedgerError: Redis refuses, or could not be reached for ``patience_s``.
        """
        return (await self.send_many([signal], key=key, traceparent=traceparent))[0]

    async def send_many(
        self,
        signals: Sequence[Signal | Mapping[str, Any]],
        *,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> list[str]:
        """Put several signals on the stream, in order, in as few round trips as possible.

        Raises:
            MalformedSignalError: says which of them breaks a rule; nothing was sent.
            LedgerError: as :meth:`send`; some may have been sent, sending all again is harmless.
        """
        given = {"key": key, "traceparent": traceparent}
        beside = {name: text.encode() for name, text in given.items() if text is not None}
        entries = [self._signer.sign({"data": data, **beside}) for data in encode_signals(signals)]
        for number, entry in enumerate(entries, 1):
            if problem := why_too_large(entry):
                raise MalformedSignalError(f"signal {number} of {len(entries)}: {problem}")
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_after_delay(self._patience_s),
            reraise=True,
        ):
            with attempt:
                return await submit(self._access, entries)
        raise AssertionError("unreachable")


def _is_passing(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, SubmissionError) else error
    return isinstance(cause, LedgerUnavailableError)


class SignalProducer:
    """:class:`AsyncSignalProducer` without ``await``, for programs that have no event loop.

    Keeps an event loop of its own that runs only while a call lasts; not for several threads at
    once. Takes the same arguments.
    """

    def __init__(self, url: str = DEFAULT_URL, **options: Unpack[ProducerOptions]) -> None:
        self._producer = AsyncSignalProducer(url, **options)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and the loop."""
        self._runner.run(self._producer.close())
        self._runner.close()

    def send(
        self,
        signal: Signal | Mapping[str, Any],
        *,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Put one signal on the stream; as :meth:`AsyncSignalProducer.send`."""
        return self._runner.run(self._producer.send(signal, key=key, traceparent=traceparent))

    def send_many(
        self,
        signals: Sequence[Signal | Mapping[str, Any]],
        *,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> list[str]:
        """Put several signals on the stream; as :meth:`AsyncSignalProducer.send_many`."""
        sending = self._producer.send_many(signals, key=key, traceparent=traceparent)
        return self._runner.run(sending)


class ReceivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event; ``data`` is its JSON, ``entry_id`` the id to continue reading after.

    ``traceparent`` is the trace of the signal's execution, empty where the worker does not trace.
    """

    stream: str
    entry_id: str
    type: str
    event_id: str
    signal_id: str
    data: dict[str, Any]
    traceparent: str = ""


async def unique_events(
    url: str = DEFAULT_URL,
    *,
    account: str = "main",
    redis: RedisConfig | None = None,
    streams: Sequence[str] = OUTPUT_STREAMS,
    from_id: str = "$",
    memory: int = DEFAULT_MEMORY,
) -> AsyncGenerator[ReceivedEvent, None]:
    """Yield an account's events from ``from_id`` on, for ever, each once.

    An event whose ``event_id`` was seen before is dropped. To continue after a restart, start from
    an entry id a little before the last one handled and drop the events handled already.

    Args:
        url: as ``redis.url``.
        account: the account.
        redis: the whole ``redis`` section instead of ``url``.
        streams: which of ``orders``, ``positions``, ``system``.
        from_id: start after this entry id; ``0`` for all, ``$`` for new entries only.
        memory: how many event ids to remember.

    Raises:
        LedgerRefusedError: Redis refuses for good. While it cannot be reached, reading is retried.
    """
    access = _access(url, account, redis)
    tail, seen = Tail(access, streams, from_id), _Seen(memory)
    pause = wait_random_exponential(multiplier=0.05, max=2.0)
    try:
        while True:
            entries: list[StreamEntry] = []
            async for attempt in AsyncRetrying(retry=retry_if_exception(_is_passing), wait=pause):
                with attempt:
                    entries = await tail.read()
            for entry in entries:
                if seen.is_new(entry.text("id")):
                    yield received(entry)
    finally:
        await access.connections.close()


def received(entry: StreamEntry) -> ReceivedEvent:
    """Return an entry of an output stream as the event it carries."""
    return ReceivedEvent(
        stream=entry.stream,
        entry_id=entry.id,
        type=entry.text("type"),
        event_id=entry.text("id"),
        signal_id=entry.text("subject"),
        data=msgspec.json.decode(entry.fields["data"], type=dict[str, Any]),
        traceparent=entry.text("traceparent"),
    )


class _Seen:
    """Remembers the last ``limit`` ids."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, identity: str) -> bool:
        if identity in self._ids:
            self._ids.move_to_end(identity)
            return False
        self._ids[identity] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True
