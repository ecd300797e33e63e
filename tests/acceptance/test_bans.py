"""A ban by the exchange: no worker of the fleet asks it anything until the ban is over."""

import time

from tests.acceptance import signals
from tests.acceptance.fleet import Fleet, wait_until

SYMBOL = signals.spot(3)


def test_a_ban_told_to_one_worker_silences_all_of_them(fleet: Fleet) -> None:
    """Balances, prices, the clock, orders, a worker that starts: all wait, then all go on."""
    workers = fleet.start_ready(2)
    fleet.exchange.add_fault(preset="418", headers={"Retry-After": "6"})
    made = {"b0": signals.opening("b0", SYMBOL)}
    fleet.submit(*made.values())
    wait_until(lambda: any(w.logged("exchange_held") for w in workers), "nobody was banned")
    time.sleep(0.5)  # what was on its way
    before = fleet.exchange.requests()["total"]
    late = fleet.start()
    time.sleep(3.5)
    assert fleet.exchange.requests()["total"] == before
    fleet.exchange.clear_faults()
    fleet.until_ended(made)
    late.until_ready()
