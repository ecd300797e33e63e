"""The main job: a thousand signals, two workers, an exchange behind HTTP, and all of it adds up."""

import json
import random
from decimal import Decimal

import pytest

from tests.acceptance import signals
from tests.acceptance.audit import Audit
from tests.acceptance.fleet import Fleet
from tests.acceptance.signals import Signal

SYMBOLS, ROUNDS = 50, 20


def _all_signals(fleet: Fleet) -> dict[str, Signal]:
    """Twenty a symbol: nine times open and close, then one too weak and one with nothing to close.

    Interleaved as a producer would send them: round by round over all symbols.
    """
    rng = random.Random(1)
    names = [signals.linear(n) if n % 2 else signals.spot(n) for n in range(SYMBOLS)]
    markets = signals.markets(fleet.exchange.call("GET", "prices"), names)
    made: dict[str, Signal] = {}
    for number in range(ROUNDS):
        for place, market in enumerate(markets):
            name = f"s{place:02d}-{number:02d}"
            if number == ROUNDS - 2:
                made[name] = signals.opening(name, market.symbol, confluence_score=1)
            elif number % 2:
                made[name] = signals.closing(name, market.symbol)
            else:
                made[name] = signals.filling(rng, market, name)
    return made


@pytest.mark.slow
def test_a_thousand_signals_become_orders_once_each_and_in_order(fleet: Fleet) -> None:
    """Each signal ends once; orders at the exchange are the filled events, in stream order.

    1,000 signals over 50 symbols go through ``submit``, two ``run`` processes trade them. Client
    order ids, quantities and average prices agree one by one; nothing is pending; the book is the
    exchange's; both workers took part.
    """
    # Fewer places than groups: one worker alone would otherwise take them all at the first claim.
    workers = [fleet.start({"worker": {"concurrency": 20}}) for _ in range(2)]
    for worker in workers:
        worker.until_ready()
    made = _all_signals(fleet)
    ids = fleet.command("submit", stdin="\n".join(map(json.dumps, made.values()))).splitlines()
    assert len(ids) == len(made) == SYMBOLS * ROUNDS
    ends = fleet.until_ended(made)
    fleet.until_quiet()

    assert fleet.exchange.duplicates() == {}
    accepted = {order["client_order_id"]: order for order in fleet.exchange.orders()}
    filled = {end["client_order_id"]: end for end in ends.values() if end["type"] == "OrderFilled"}
    assert len(filled) == SYMBOLS * (ROUNDS - 2)
    assert accepted.keys() == filled.keys()
    for client_id, end in filled.items():
        order = accepted[client_id]
        assert Decimal(order["executed_quantity"]) == Decimal(end["filled_quantity"])
        assert abs(Decimal(order["average_price"]) - Decimal(end["average_price"])) < Decimal(
            "1e-9"
        )
    codes = [end["code"] for end in ends.values() if end["type"] == "OrderFailed"]
    assert sorted(set(codes)) == ["CONFLUENCE_TOO_LOW", "NO_POSITION"]
    assert len(codes) == 2 * SYMBOLS

    tally = Audit(fleet, made).run()
    assert tally.breaches == []
    assert (tally.orders_accepted, tally.filled, tally.pending_left) == (900, 900, 0)
    assert {end["worker"] for end in ends.values()} == {
        worker.until_logged("worker_started")["worker"] for worker in workers
    }
    assert [worker.stop() for worker in workers] == [0, 0]
