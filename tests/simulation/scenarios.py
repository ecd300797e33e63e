"""Single misfortunes, told as stories: what the signals are, and which call goes wrong how."""

from collections.abc import Callable, Sequence

from tests.simulation.faults import Fault, Rates, Rule, Script, Strike
from tests.simulation.steps import Mutation, Place
from tests.simulation.story import (
    Happening,
    Production,
    Story,
    closing,
    configuration,
    opening,
)
from tests.simulation.world import World

#: Longer than a lease and any request's deadline, seconds.
LONG_S = 9.0


def at(
    place: str, name: str, fault: Fault, seconds: float = 0.0, **which: str | float | bool
) -> Rule:
    """A fault at the first such call, or at the one ``which`` describes."""
    return Rule(place=place, name=name, strike=Strike(fault, seconds), **which)  # type: ignore[arg-type]


def play(
    place: Place,
    *rules: Rule,
    signals: Sequence[Production] | None = None,
    workers: int = 2,
    happenings: Sequence[Happening] = (),
    prepare: Callable[[World], None] = lambda _world: None,
    mutation: Mutation | None = None,
    calm: bool = True,
    seed: int = 1,
) -> World:
    """Run one scenario: everything works but for ``rules`` and ``happenings``.

    Args:
        place: where the account is kept.
        rules: what goes wrong.
        signals: what is produced; by default one opening.
        workers: how many there are at the start.
        happenings: what else happens.
        prepare: called before the run.
        mutation: a changed script.
        calm: whether every order fills whole at once.
        seed: of the small delays.
    """
    world = World(
        place,
        Story(
            seed=seed,
            workers=workers,
            config=configuration(),
            productions=list(signals if signals is not None else [opening()]),
            happenings=list(happenings),
            rates=Rates(),
            calm_s=1.0,
        ),
        faults=Script(*rules),
        mutation=mutation,
        detailed=True,
    )
    world.venue.calm = calm
    world.replace_after_s = lambda: 0.3
    prepare(world)
    world.run()
    return world


def dies_after_the_exchange_took_it(place: Place, mutation: Mutation) -> World:
    """The worker dies while the exchange's answer is on its way."""
    return play(place, at("exchange", "place", Fault.CRASH_AFTER), mutation=mutation)


def stops_before_sending(place: Place, mutation: Mutation) -> World:
    """The worker is stopped with the request in its hands until its lease is another's."""
    return play(place, at("exchange", "place", Fault.PAUSE_BEFORE, LONG_S), mutation=mutation)


def lands_late(place: Place, mutation: Mutation) -> World:
    """The connection breaks at once; the request arrives a moment later all the same."""
    return play(place, at("exchange", "place", Fault.LATE, 0.7), mutation=mutation)


def cannot_renew(place: Place, mutation: Mutation) -> World:
    """No heartbeat gets through, and the order's second attempt comes when the lease is short.

    Nor does a further claim of its worker: the entry is another's next.
    """
    return play(
        place,
        at("redis", "heartbeat", Fault.LOST_REQUEST, always=True),
        at("redis", "claim", Fault.LOST_REQUEST, always=True, worker="w2", after_s=1.0),
        at("exchange", "place", Fault.NOT_SENT, 3.2),
        at("exchange", "place", Fault.SLOW, 0.85, nth=2),
        mutation=mutation,
    )


def speaks_late_of_failure(place: Place, mutation: Mutation) -> World:
    """A worker without prices gives the signal up, is stopped, and says so when another has it."""
    return play(
        place,
        at("exchange", "ticker", Fault.NOT_SENT),
        at("redis", "commit", Fault.PAUSE_BEFORE, 6.0),
        at("exchange", "place", Fault.SLOW_REPLY, 4.0),
        mutation=mutation,
    )


def halted_on_the_way(place: Place, mutation: Mutation) -> World:
    """The worker is stopped between admission and sending; meanwhile the account is halted."""
    return play(
        place,
        at("redis", "admit", Fault.PAUSE_AFTER, 1.5),
        happenings=[Happening(at_s=0.8, what="halt", seconds=5.0)],
        mutation=mutation,
    )


def refused_then_asked_late(place: Place, mutation: Mutation) -> World:
    """An admission is refused, and a copy of the question arrives when the reason is gone."""
    return play(
        place,
        at("redis", "admit", Fault.LATE, 0.8),
        at("redis", "commit", Fault.LOST_REQUEST, 1.0),
        happenings=[Happening(at_s=0.1, what="halt", seconds=0.9)],
        mutation=mutation,
    )


def found_before_handed_on(place: Place, mutation: Mutation) -> World:
    """The next entry of a group is found by a resync before the commit's answer brings it."""
    return play(
        place,
        at("redis", "commit", Fault.SLOW_REPLY, 2.0),
        at("redis", "claim", Fault.LOST_REPLY, after_s=0.6),
        at("exchange", "place", Fault.SLOW_REPLY, 3.0),
        signals=[opening("s0", age_s=60.0), opening("s1")],
        workers=1,
        mutation=mutation,
    )


def dies_while_committing(place: Place, mutation: Mutation) -> World:
    """The commit is executed; its worker never hears of it."""
    return play(place, at("redis", "commit", Fault.CRASH_AFTER), mutation=mutation)


def opens_and_closes(place: Place, mutation: Mutation) -> World:
    """Two signals of one group, one after the other."""
    return play(
        place,
        at("exchange", "place", Fault.SLOW, 0.5),
        signals=[opening("s0"), closing("s1")],
        mutation=mutation,
    )


def announces_twice(place: Place, mutation: Mutation) -> World:
    """The reply to an announcement is lost."""
    return play(place, at("redis", "announce", Fault.LOST_REPLY), mutation=mutation)


def opens_more_than_allowed(place: Place, mutation: Mutation) -> World:
    """More openings at the same time than there may be positions."""
    symbols = ("BTC", "ETH", "SOL", "XRP")
    signals = [opening(f"s{n}", f"{base}/USDT:USDT") for n, base in enumerate(symbols)]
    return play(place, signals=signals, mutation=mutation)


def expired_but_traded(place: Place, mutation: Mutation) -> World:
    """The last writes are lost with a primary, and then the signal is too old to be sent."""
    return play(
        place,
        signals=[opening(life_s=0.5)],
        happenings=[
            Happening(at_s=0.4, what="replica_stops"),
            Happening(at_s=2.0, what="failover"),
        ],
        mutation=mutation,
    )


def is_granted_what_it_holds(place: Place, mutation: Mutation) -> World:
    """A worker is granted an entry it has in hand already, and finds expired.

    In between another worker had it, sent its order, and died.
    """

    def arrange(world: World) -> None:
        world.replace_after_s = lambda: None
        world.loop.outside(2.0, world.start_worker)

    def lost(name: str, **when: float) -> Rule:
        return at("redis", name, Fault.LOST_REQUEST, 0.1, always=True, worker="w1", **when)

    return play(
        place,
        at("exchange", "ticker", Fault.NOT_SENT, 9.0),
        lost("heartbeat"),
        lost("claim", after_s=1.0, until_s=8.0),
        at("exchange", "place", Fault.CRASH_AFTER),
        signals=[opening(life_s=7.0)],
        workers=1,
        prepare=arrange,
        mutation=mutation,
    )


def comes_twice(place: Place, mutation: Mutation) -> World:
    """The same signal again while it is worked on, in another group so that nothing orders them."""
    signals = [opening(key="a"), opening(key="b")]
    return play(place, at("exchange", "place", Fault.SLOW, 0.5), signals=signals, mutation=mutation)
