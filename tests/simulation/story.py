"""What one seed says: how many workers, which signals when, which faults how often, what limits."""

import json
from decimal import Decimal
from random import Random
from typing import Any, Final

import msgspec

from tests.simulation.faults import Fault, Rates
from tests.simulation.venue import PRICES
from worker.config.keys import (
    Config,
    ExchangeConfig,
    ExecutionConfig,
    ReconciliationConfig,
    RiskConfig,
    UpdatesConfig,
    ValidationConfig,
    WorkerConfig,
)
from worker.runtime.clock import utc

#: Virtual time starts here.
EPOCH_MS: Final = 1_750_000_000_000
#: Faults stop at this time, seconds.
CALM_S: Final = 14.0


class Production(msgspec.Struct, frozen=True, kw_only=True):
    """One entry put on the stream.

    ``age_s`` is how old the signal is when it comes, ``life_s`` how long it lives from then on
    (None: as configured). ``raw`` replaces the JSON.
    """

    at_s: float
    signal_id: str
    body: dict[str, Any] = {}
    age_s: float = 0.0
    life_s: float | None = None
    key: str = ""
    raw: bytes | None = None

    def fields(self, epoch_ms: int) -> dict[str, bytes]:
        """The entry's fields; a repeated production of the same values gives the same bytes."""
        created_ms = epoch_ms + int((self.at_s - self.age_s) * 1000)
        body = {
            "signal_id": self.signal_id,
            "created_at": utc(created_ms).isoformat(),
            "exchange": "sim",
            **self.body,
        }
        if self.life_s is not None:
            body["expires_at"] = utc(epoch_ms + int((self.at_s + self.life_s) * 1000)).isoformat()
        fields = {"data": self.raw if self.raw is not None else json.dumps(body).encode()}
        if self.key:
            fields["key"] = self.key.encode()
        return fields


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens at a time: crash, pause, stop, halt, reduce, resume, failover ..."""

    at_s: float
    what: str
    seconds: float = 0.0


class Story(msgspec.Struct, kw_only=True):
    """One run's input, all of it."""

    seed: int
    workers: int
    config: Config
    productions: list[Production]
    happenings: list[Happening]
    rates: Rates
    calm_s: float = CALM_S
    limit_s: float = 240.0


def configuration(**risk: Any) -> Config:
    """Short times, so that virtual time is short too."""
    return Config(
        mode="live",
        worker=WorkerConfig(concurrency=8, lease_seconds=4.0, max_deliveries=5, drain_seconds=3.0),
        exchanges={
            "sim": ExchangeConfig(
                adapter="paper",
                recv_window_ms=1_000,
                balance_refresh_seconds=10.0,
                ticker_refresh_seconds=4.0,
            )
        },
        validation=ValidationConfig(max_signal_age_seconds=15.0),
        risk=msgspec.structs.replace(
            RiskConfig(
                max_concurrent_positions=3,
                default_position_size_pct=Decimal(2),
                max_position_size_pct=Decimal(50),
                max_stop_loss_pct=Decimal(50),
            ),
            **risk,
        ),
        execution=ExecutionConfig(
            max_retries=3,
            base_delay=0.2,
            max_delay=2.0,
            skew_margin_ms=400,
            max_clock_skew_ms=900,
            max_lookup_seconds=5.0,
        ),
        reconciliation=ReconciliationConfig(max_wait_time=2.0, poll_interval=0.3),
    )


def opening(signal_id: str = "s0", symbol: str = "BTC/USDT:USDT", **rest: Any) -> Production:
    """A good signal to open a position, for scenarios."""
    body = {
        "symbol": symbol,
        "direction": "long",
        "strength": 0.9,
        "confluence_score": 8,
        "quantity": "0.1",
    }
    return msgspec.structs.replace(Production(at_s=0.5, signal_id=signal_id, body=body), **rest)


def closing(signal_id: str = "s1", symbol: str = "BTC/USDT:USDT", **rest: Any) -> Production:
    """A signal to close it."""
    body = {"symbol": symbol, "action": "close"}
    return msgspec.structs.replace(Production(at_s=0.5, signal_id=signal_id, body=body), **rest)


def tell(seed: int) -> Story:
    """Everything a seed means."""
    random = Random(seed)
    symbols = random.sample(sorted(PRICES), random.randint(2, 4))
    risk: dict[str, Any] = {"max_concurrent_positions": random.choice((1, 2, 3, 3))}
    if random.random() < 0.2:
        risk["max_orders_per_minute"] = random.randint(2, 6)
    if random.random() < 0.3:
        risk["max_total_exposure_pct"] = Decimal(random.randint(2, 5))
    story = Story(
        seed=seed,
        workers=random.randint(2, 4),
        config=configuration(**risk),
        productions=_productions(random, symbols),
        happenings=_happenings(random),
        rates=_rates(random),
    )
    # Of its own, so that everything else of a seed stays what it is.
    lines = Random(f"{seed}: lines")
    if lines.random() < 0.5:
        worker = msgspec.structs.replace(
            story.config.worker, max_group_waiting=lines.choice((1, 1, 2, 3))
        )
        story.config = msgspec.structs.replace(story.config, worker=worker)
    _let_rest(Random(f"{seed}: resting"), story)
    if any(happening.what == "failover" for happening in story.happenings):
        story.productions = _without_contradictions(story.productions)
    return story


def _let_rest(random: Random, story: Story) -> None:
    """Make some of the openings limit orders that rest at the venue, in half of the seeds."""
    if random.random() < 0.5:
        return
    share = random.choice((0.3, 0.8))
    longest_s = random.choice((3.0, 10.0, 30.0))
    execution = msgspec.structs.replace(story.config.execution, max_rest_seconds=longest_s)
    updates = UpdatesConfig(poll_seconds=random.choice((0.3, 1.0)))
    story.config = msgspec.structs.replace(story.config, execution=execution, updates=updates)
    limit: dict[str, Any] = {"order_type": "limit", "time_in_force": "GTC"}
    bodies: dict[str, dict[str, Any]] = {}  # the same bytes again stay the same
    for number, production in enumerate(story.productions):
        body = production.body
        if production.raw is not None or body.get("action") == "close":
            continue
        key = f"{production.signal_id} {sorted(body.items())}"
        if key not in bodies:
            price = {"entry_price": str(PRICES[body["symbol"]])}
            bodies[key] = body | limit | price if random.random() < share else body
        story.productions[number] = msgspec.structs.replace(production, body=bodies[key])


def _without_contradictions(productions: list[Production]) -> list[Production]:
    """Only records tell two contents of one id apart, and a failover may lose those."""
    first: dict[str, dict[str, Any]] = {}
    return [one for one in productions if first.setdefault(one.signal_id, one.body) == one.body]


def _productions(random: Random, symbols: list[str]) -> list[Production]:
    found: list[Production] = []
    maybe_open: set[str] = set()
    at_s = 0.0
    for number in range(random.randint(5, 18)):
        at_s += random.choice((0.0, 0.0, 0.05, 0.5, 2.0)) * random.random()
        signal_id, symbol = f"s{number}", random.choice(symbols)
        found.append(_signal(random, signal_id, at_s, symbol, maybe_open))
        again = random.random()
        if again < 0.08:  # the producer did not hear the first time
            found.append(found[-1])
        elif again < 0.14:  # ... and found out late
            found.append(_later(found[-1], random.uniform(0.0, 6.0)))
        elif again < 0.2:  # the id used for something else
            later_s = at_s + random.random() * 3
            found.append(_signal(random, signal_id, later_s, random.choice(symbols), maybe_open))
        elif again < 0.23:
            raw = random.choice((b"{", b"[]", b"\xff", b'{"signal_id": "x"}', b""))
            found.append(Production(at_s=at_s, signal_id="", raw=raw, key=random.choice(("", "k"))))
    return sorted(found, key=lambda production: production.at_s)


def _later(first: Production, seconds: float) -> Production:
    """The same bytes, produced later."""
    return msgspec.structs.replace(
        first,
        at_s=first.at_s + seconds,
        age_s=first.age_s + seconds,
        life_s=None if first.life_s is None else first.life_s - seconds,
    )


def _signal(
    random: Random, signal_id: str, at_s: float, symbol: str, maybe_open: set[str]
) -> Production:
    """One signal; ``maybe_open`` is what earlier ones may have opened."""
    body: dict[str, Any] = {"symbol": symbol}
    if random.random() < (0.65 if symbol in maybe_open else 0.08):
        body["action"] = "close"
        if random.random() < 0.3:
            body["quantity"] = str(Decimal(random.randint(1, 20)) / 100)
        else:
            maybe_open.discard(symbol)
    else:
        maybe_open.add(symbol)
        body |= {
            "direction": random.choice(("long", "long", "short")),
            "strength": 0.9,
            "confluence_score": 1 if random.random() < 0.04 else 8,
        }
        if random.random() < 0.9:
            body["quantity"] = str(Decimal(random.randint(1, 40)) / 100)
    age_s, life_s = 0.0, None
    drawn = random.random()
    if drawn < 0.02:
        age_s = 60.0
    elif drawn < 0.15:
        life_s = random.uniform(0.1, 4.0)
    key = random.choice(("strategy", symbol)) if random.random() < 0.12 else ""
    return Production(
        at_s=at_s, signal_id=signal_id, body=body, age_s=age_s, life_s=life_s, key=key
    )


def _happenings(random: Random) -> list[Happening]:
    found: list[Happening] = []

    def some(what: str, most: int, chance: float, seconds: tuple[float, float]) -> None:
        for _ in range(most):
            if random.random() < chance:
                at_s = random.uniform(0.02, CALM_S - 1)
                found.append(Happening(at_s=at_s, what=what, seconds=random.uniform(*seconds)))

    some("crash", 3, 0.3, (0.1, 4.0))
    some("pause", 3, 0.3, (0.5, 9.0))
    some("stop", 2, 0.2, (0.1, 2.0))
    some("halt", 2, 0.2, (0.2, 4.0))
    some("reduce", 1, 0.2, (0.2, 4.0))
    some("redis_outage", 1, 0.15, (0.2, 6.0))
    some("exchange_outage", 1, 0.15, (0.2, 6.0))
    some("step", 1, 0.1, (-1.0, 1.0))
    lost = random.random()
    if lost < 0.05:
        some("lose_group", 1, 1.0, (0.0, 0.0))
    elif lost < 0.25:
        stops_s = random.uniform(0.02, CALM_S - 4)
        after_s = random.choice((0.05, 0.5, 3.0)) * random.random()
        found.append(Happening(at_s=stops_s, what="replica_stops"))
        found.append(Happening(at_s=stops_s + after_s, what="failover"))
    return sorted(found, key=lambda happening: happening.at_s)


_REDIS: Final = (
    Fault.SLOW,
    Fault.SLOW_REPLY,
    Fault.LOST_REQUEST,
    Fault.LOST_REPLY,
    Fault.LATE,
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.PAUSE_BEFORE,
    Fault.PAUSE_AFTER,
)
_EXCHANGE: Final = (*_REDIS, Fault.NOT_SENT, Fault.THROTTLED, Fault.BUSY, Fault.REFUSED)
_RARE: Final = frozenset(
    {Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER}
)


def _rates(random: Random) -> Rates:
    """Some kinds of fault, not all: what a run is full of it cannot show the effect of one in."""
    redis, exchange = {}, {}
    for fault in _REDIS:
        if random.random() < 0.35:
            redis[fault] = random.choice((0.002, 0.01) if fault in _RARE else (0.005, 0.02, 0.06))
    for fault in _EXCHANGE:
        if random.random() < 0.4:
            exchange[fault] = random.choice((0.01, 0.03) if fault in _RARE else (0.02, 0.06, 0.15))
    return Rates(redis=redis, exchange=exchange)
