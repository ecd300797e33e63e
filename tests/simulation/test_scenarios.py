"""One misfortune at a time: what the fleet does about it, row by row of docs/failures.md."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from typing import cast

import pytest

from tests.simulation import scenarios
from tests.simulation.checker import TERMINAL
from tests.simulation.faults import Fault, Rule
from tests.simulation.redis_account import SimulationServer
from tests.simulation.scenarios import LONG_S, at, play
from tests.simulation.steps import Mutation
from tests.simulation.story import Happening, Production, closing, opening
from tests.simulation.venue import Plan
from tests.simulation.world import Machine, World
from worker.domain.order import OrderState

MAY_BREAK = [Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.LATE, Fault.SLOW, Fault.SLOW_REPLY]
MAY_STOP = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER]


def ends(world: World, signal_id: str = "s0") -> list[str]:
    """How a signal ended, with the code where it did not fill."""
    return [
        " ".join(part for part in map(str, (step[2], step[4], step[5])) if part)
        for step in world.trace.steps
        if step[1] == "event" and step[3] == signal_id and step[2] in TERMINAL
    ]


def kept(world: World) -> World:
    """The run kept every promise."""
    said = "\n".join([*world.checker.violations, *world.trace.lines()])
    assert not world.checker.violations, said
    return world


def counted(world: World, name: str) -> int:
    """How many steps of a name there were."""
    return sum(1 for step in world.trace.steps if step[2] == name)


@pytest.mark.parametrize("fault", [*MAY_BREAK, *MAY_STOP])
@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("exchange", "place"),
        ("redis", "ensure_group"),
        ("redis", "wait"),
        ("redis", "claim"),
        ("redis", "heartbeat"),
        ("redis", "elect"),
        ("redis", "adopt"),
        ("redis", "admit"),
        ("redis", "commit"),
    ],
)
def test_any_fault_at_any_call_leaves_one_order(
    server: SimulationServer, place: str, name: str, fault: Fault
) -> None:
    """Whatever happens to one call, before or after it is executed, the signal trades once."""
    seconds = LONG_S if fault.name.startswith("PAUSE") else 0.7
    for nth in (1, 2, 3):
        world = kept(play(server, at(place, name, fault, seconds, nth=nth)))
        assert len(world.venue.accepted) == 1
        assert ends(world) == ["OrderFilled 0.10"]


@pytest.mark.parametrize("fault", MAY_BREAK)
@pytest.mark.parametrize("name", ["authorize", "throttle", "release", "park", "resync", "leave"])
def test_the_reply_of_a_rarer_script_is_lost(
    server: SimulationServer, name: str, fault: Fault
) -> None:
    """A lost reply of a script that only trouble calls breaks no promise."""
    trouble: dict[str, list[Rule]] = {
        "authorize": [at("exchange", "place", Fault.NOT_SENT)],
        "throttle": [at("exchange", "place", Fault.THROTTLED, 0.5)],
        "release": [at("redis", "admit", Fault.LOST_REQUEST, 0.6, nth=n) for n in range(1, 7)],
        "park": [
            at("exchange", "place", Fault.LOST_REPLY),
            *[at("exchange", "get", Fault.LOST_REQUEST, 0.1, nth=n) for n in range(1, 12)],
        ],
        "resync": [at("redis", "claim", Fault.LOST_REPLY, nth=n) for n in range(3, 6)],
        "leave": [],
    }
    rule = at("redis", name, fault, 0.7)
    world = kept(play(server, *trouble[name], rule))
    assert rule.seen
    assert len(world.venue.accepted) == 1
    assert ends(world) == ["OrderFilled 0.10"]


def test_a_worker_dies_after_the_exchange_took_its_order(server: SimulationServer) -> None:
    """Another worker finds the order instead of sending a second one."""
    world = kept(scenarios.dies_after_the_exchange_took_it(server, {}))
    assert [order.worker for order in world.venue.accepted] in (["w1"], ["w2"])
    assert counted(world, "sends") == 1
    assert ends(world) == ["OrderFilled 0.10"]


def test_a_worker_is_stopped_with_the_request_in_its_hands(server: SimulationServer) -> None:
    """The exchange itself refuses what it sends when it goes on; another worker's order stands."""
    world = kept(scenarios.stops_before_sending(server, {}))
    assert world.venue.refused_late == 1
    assert counted(world, "sends") == 2
    assert len(world.venue.accepted) == 1


SCENARIOS: list[Callable[[SimulationServer, Mutation], World]] = [
    scenarios.cannot_renew,
    scenarios.speaks_late_of_failure,
    scenarios.found_before_handed_on,
    scenarios.dies_while_committing,
    scenarios.comes_twice,
    scenarios.is_granted_what_it_holds,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_one_order_and_one_ending(
    server: SimulationServer, scenario: Callable[[SimulationServer, Mutation], World]
) -> None:
    """Every scenario that a safeguard was made for sends one order at most and has one ending."""
    world = kept(scenario(server, {}))
    assert len(world.venue.accepted) <= 1
    assert len(ends(world)) == 1


def test_an_order_is_seen_late(server: SimulationServer) -> None:
    """A first "not found" is not believed while the order may still become visible."""

    def hide(world: World) -> None:
        world.venue.plan = lambda request: Plan(
            ((0.0, request.quantity),), OrderState.FILLED, 0.0, 0.55, "all"
        )

    world = kept(play(server, at("exchange", "place", Fault.LOST_REPLY), prepare=hide))
    assert counted(world, "sends") == 1
    assert ends(world) == ["OrderFilled 0.10"]


def test_the_connection_breaks_and_the_order_arrives_later(server: SimulationServer) -> None:
    """While the request's time has not passed, "not found" leads to no second request."""
    world = kept(scenarios.lands_late(server, {}))
    assert counted(world, "sends") == 1
    assert len(world.venue.accepted) == 1


def test_a_delivery_that_always_kills_its_worker(server: SimulationServer) -> None:
    """It ends as a dead letter whose producer is told; the next of its group goes on."""
    world = kept(
        play(
            server,
            at("redis", "admit", Fault.CRASH_BEFORE, always=True, subject="s0"),
            signals=[
                opening("s0", life_s=200.0),
                opening("s1", life_s=200.0),
                opening("s2", "ETH/USDT:USDT", at_s=2.0),
            ],
        )
    )
    assert [order.request.symbol for order in world.venue.accepted] == [
        "ETH/USDT:USDT",
        "BTC/USDT:USDT",
    ]
    assert ends(world, "s0") == ["OrderFailed DELIVERIES_EXHAUSTED"]
    assert ends(world, "s1") == ["OrderFilled 0.10"]


def test_the_keeper_dies_while_it_resolves(server: SimulationServer) -> None:
    """The next keeper takes the unresolved order over and finds it."""
    rules = [at("exchange", "get", Fault.LOST_REQUEST, 0.1, nth=n) for n in range(1, 9)]
    crash = at("exchange", "get", Fault.CRASH_BEFORE, nth=9)
    world = kept(play(server, at("exchange", "place", Fault.LOST_REPLY), *rules, crash, workers=3))
    assert counted(world, "park") >= 1
    assert counted(world, "dies") == 1
    assert counted(world, "sends") == 1
    assert ends(world) == ["OrderFilled 0.10"]


def test_halted_between_two_attempts(server: SimulationServer) -> None:
    """What has not reached the exchange when the account is halted is not sent again."""
    world = kept(
        play(
            server,
            at("exchange", "place", Fault.NOT_SENT, 0.5),
            happenings=[Happening(at_s=0.8, what="halt", seconds=20.0)],
        )
    )
    assert not world.venue.accepted
    assert ends(world) == ["OrderFailed TRADING_HALTED"]


def test_halted_between_admission_and_sending(server: SimulationServer) -> None:
    """An order halted after its admission is not sent: an old permission is renewed first."""
    world = kept(scenarios.halted_on_the_way(server, {}))
    assert not world.venue.accepted
    assert ends(world) == ["OrderFailed TRADING_HALTED"]


@pytest.mark.parametrize("seconds", [0.5, 8.0])
def test_stopping_with_an_order_in_flight(server: SimulationServer, seconds: float) -> None:
    """What ends in the time allowed ends here, the rest is handed over; either way one order."""
    world = kept(
        play(
            server,
            at("exchange", "place", Fault.SLOW_REPLY, seconds),
            workers=1,
            happenings=[Happening(at_s=0.6, what="stop", seconds=0.5)],
        )
    )
    assert len(world.venue.accepted) == 1
    assert ends(world) == ["OrderFilled 0.10"]


@pytest.mark.parametrize("place_s", [0.5, 0.95])
@pytest.mark.parametrize("stop_ms", range(540, 590, 10))
def test_stopping_while_a_commit_hands_the_next_signal_on(
    server: SimulationServer, stop_ms: int, place_s: float
) -> None:
    """The stop's resync lists the entry that the commit's reply hands on; it is not given away."""

    def stop_the_busy_one(world: World) -> None:
        chance = world._random

        class Choice:
            def __getattr__(self, name: str) -> object:
                return getattr(chance, name)

            def choice(self, machines: Sequence[Machine]) -> Machine:
                busy = [one for one in machines if one.worker.engine.in_flight]
                return busy[0] if busy else chance.choice(machines)

        world._random = cast("Random", Choice())

    world = kept(
        play(
            server,
            at("redis", "commit", Fault.SLOW_REPLY, 0.05),
            at("redis", "resync", Fault.SLOW_REPLY, 0.03, always=True),
            at("redis", "admit", Fault.SLOW_REPLY, 0.1, nth=2),
            at("exchange", "place", Fault.SLOW, place_s, nth=2),
            signals=[opening("s0"), closing("s1")],
            prepare=stop_the_busy_one,
            happenings=[Happening(at_s=stop_ms / 1000, what="stop", seconds=0.3)],
        )
    )
    assert len(world.venue.accepted) == 2


def test_a_machine_whose_clock_is_wrong_sends_nothing(server: SimulationServer) -> None:
    """A worker whose clock offset is over the limit sends no order."""

    def skew(world: World) -> None:
        start = world.start_worker

        def start_wrong() -> object:
            machine = start()
            machine.clock.ahead_ms = 3_000
            return machine

        world.start_worker = start_wrong  # type: ignore[method-assign,assignment]

    world = kept(play(server, prepare=skew))
    assert not world.venue.accepted
    assert ends(world) == ["OrderFailed CLOCK_SKEW"]


LOSSES = {
    "before the signal": (0.3, 0.2),
    "before its claim": (0.5001, 0.2),
    "between claim and admission": (0.5275, 0.2),
    "before the commit": (0.56, 0.2),
    "before the commit, late": (0.56, 3.0),
}


@pytest.mark.parametrize(("stops_s", "after_s"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("trades_s", [0.0, 1.0])
def test_a_failover_that_loses_the_last_writes(
    server: SimulationServer, stops_s: float, after_s: float, trades_s: float
) -> None:
    """An order of which no record speaks any more is found, not sent again."""

    def slow(world: World) -> None:
        world.venue.plan = lambda request: Plan(
            ((trades_s, request.quantity),), OrderState.FILLED, trades_s, 0.1, "all"
        )

    world = kept(
        play(
            server,
            happenings=[
                Happening(at_s=stops_s, what="replica_stops"),
                Happening(at_s=stops_s + after_s, what="failover"),
            ],
            prepare=slow,
        )
    )
    assert len(world.venue.accepted) == 1


def test_an_order_whose_record_was_lost_with_the_time_to_send_it(server: SimulationServer) -> None:
    """A signal that would be refused now is looked for first."""
    world = kept(scenarios.expired_but_traded(server, {}))
    assert len(world.venue.accepted) == 1
    assert ends(world) == ["OrderFilled 0.10", "OrderFilled 0.10"]  # the first is lost


def test_the_consumer_group_is_lost(server: SimulationServer) -> None:
    """It is created again; what has ended is recognised by its record."""
    world = kept(
        play(
            server,
            signals=[opening("s0"), closing("s1", at_s=1.5), opening("s2", at_s=3.0)],
            happenings=[Happening(at_s=1.6, what="lose_group")],
        )
    )
    assert len(world.venue.accepted) == 3


def test_a_partly_filled_order_is_cancelled(server: SimulationServer) -> None:
    """What traded before the cancellation is the position."""

    def rest(world: World) -> None:
        world.venue.plan = lambda _request: Plan(((0.2, Decimal("0.04")),), None, 0.0, 0.0, "ids")

    world = kept(play(server, prepare=rest))
    assert ends(world) == ["OrderCancelled NOT_FILLED_IN_TIME 0.04"]
    assert world.venue.net("BTC/USDT:USDT") == Decimal("0.04")


def test_a_repetition_is_acknowledged_and_a_contradiction_buried(server: SimulationServer) -> None:
    """The same id: the same content ends as a duplicate, other content as a dead letter."""
    first: Production = opening()
    world = kept(
        play(
            server,
            signals=[first, first, opening("s0", "ETH/USDT:USDT", at_s=1.5)],
        )
    )
    assert len(world.venue.accepted) == 1
    assert len(ends(world)) == 1
    assert list(world.checker._dead.values()) == ["conflict"]
