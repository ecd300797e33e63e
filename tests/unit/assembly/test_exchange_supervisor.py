"""Exchanges start one by one: whichever works is traded on, and the others are waited for."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest

from tests.unit.parts import (
    SYMBOL,
    ManualClock,
    ScriptedExchange,
    market_view,
    position,
    trouble,
)
from worker.assembly import worker as app
from worker.assembly.exchange_supervisor import ExchangeSupervisor
from worker.config.keys import Config, ExchangeConfig
from worker.domain.market import ExchangePosition
from worker.exchanges.errors import Outcome
from worker.exchanges.findings import AccountFinding, fail, ok, warn
from worker.ledger.ports import Ledger
from worker.ledger.replies import Book
from worker.market.data import MarketData
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.runtime.errors import ConfigError


class Gated(ScriptedExchange):
    """An exchange that starts when told to, or fails as told."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.gate = asyncio.Event()
        self.problem: Exception | None = None
        self.cancelled = False
        self.in_the_way = ""
        #: How reading the markets ends, time after time; at last the reading is stopped.
        self.refreshing: list[Exception | None] = []

    @property
    def obstacle(self) -> str:
        return self.in_the_way

    async def refresh_markets(self) -> bool:
        self.calls.append(("markets", self.time.ms))
        if not self.refreshing:
            raise asyncio.CancelledError
        problem = self.refreshing.pop(0)
        if problem is not None:
            raise problem
        return True

    async def start(self) -> None:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.problem is not None:
            raise self.problem


class Company:
    """Two exchanges, and what brings them up."""

    def __init__(self, **section: Any) -> None:
        self.clock = ManualClock()
        self.exchanges = {name: Gated(self.clock) for name in ("good", "late")}
        self.good, self.late = self.exchanges.values()
        self.health = Health(self.clock)
        self.market = MarketData(
            self.exchanges,
            clock=self.clock,
            max_price_age_ms=5_000,
            max_balance_age_ms=30_000,
            on_error=lambda _name, error: pytest.fail(str(error)),
            starting=self.exchanges,
        )
        self.supervisor = ExchangeSupervisor(
            self.exchanges,
            sections={name: ExchangeConfig(**section) for name in self.exchanges},
            market=self.market,
            metrics=Metrics(version="1", mode="paper"),
            health=self.health,
            clock=self.clock,
            random=Random(1),
            stopping=asyncio.Event().wait,
        )

    @property
    def markets(self) -> dict[str, Any]:
        """What is said of the markets."""
        return cast("dict[str, Any]", self.health.report()["checks"]["markets"])

    async def is_known(self, name: str) -> bool:
        view = await market_view(self.market, name, SYMBOL)
        return view.started and view.info is not None


def worker_of(exchanges: dict[str, Gated], clock: ManualClock) -> app.Worker:
    """A whole worker of these exchanges."""
    config = Config(exchanges={name: ExchangeConfig() for name in exchanges})
    factory = SimpleNamespace(all=lambda: exchanges, price_sources={})
    with mock.patch.object(app, "ExchangeFactory", return_value=factory):
        return app.Worker(config, clock=clock)


async def _pass_on() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_exchange_that_works_is_enough_to_begin() -> None:
    """The other's trouble is shown, and it joins when it can."""
    company = Company()
    company.good.gate.set()
    assert await company.supervisor.start()
    assert await company.is_known("good")
    assert not await company.is_known("late")
    assert company.markets == {"ok": False, "detail": "late: not yet"}
    company.late.problem = trouble(Outcome.NOT_SENT)
    company.late.gate.set()
    await _pass_on()
    assert company.markets == {"ok": False, "detail": "late: it was not_sent"}
    company.late.problem = None
    await company.supervisor._starts["late"]
    assert await company.is_known("late")
    assert company.markets == {"ok": True, "detail": "loaded"}


async def test_the_tasks_of_an_exchange_wait_for_its_start() -> None:
    """Nothing is asked of an exchange that is not there yet; the tasks that start it go on."""
    company = Company()
    company.good.gate.set()
    assert await company.supervisor.start()
    tasks = [asyncio.ensure_future(task()) for _, task in company.supervisor.side_tasks()]
    await _pass_on()
    assert "clock" in [name for name, _ in company.good.calls]
    assert company.late.calls == []
    company.late.gate.set()
    await _pass_on()
    assert "clock" in [name for name, _ in company.late.calls]
    for task in tasks:
        task.cancel()


async def test_markets_are_loaded_anew_and_a_failure_is_tried_again_soon() -> None:
    """Once an hour, a little apart from other workers; after a failure once a minute."""
    company = Company()
    company.good.gate.set()
    assert await company.supervisor.start()
    company.good.refreshing = [None, trouble(Outcome.UNKNOWN), trouble(Outcome.UNKNOWN), None]
    with pytest.raises(asyncio.CancelledError):
        await dict(company.supervisor.side_tasks())["markets:good"]()
    at_s = [at / 1000 for name, at in company.good.calls if name == "markets"]
    pauses = [later - sooner for sooner, later in zip([0.0, *at_s], at_s, strict=False)]
    whole = [3_600.0, 3_600.0, 60.0, 60.0, 3_600.0]
    assert all(0.9 <= pause / due <= 1.0 for pause, due in zip(pauses, whole, strict=True))
    assert len(set(pauses)) == 5


async def test_a_stop_before_any_exchange_works_ends_the_attempts() -> None:
    """And the worker claims nothing."""
    company = Company()
    worker = worker_of(company.exchanges, company.clock)
    starting = asyncio.ensure_future(worker.supervisor.start())
    await _pass_on()
    worker.engine.stop()
    assert not await starting
    assert company.good.cancelled
    assert company.late.cancelled


async def test_a_configuration_that_cannot_work_ends_the_start() -> None:
    """Whatever the others do."""
    company = Company()
    company.good.problem = ConfigError("exchanges.good.sandbox", "not there")
    company.good.gate.set()
    with pytest.raises(ConfigError, match="sandbox"):
        await company.supervisor.start()
    assert company.late.cancelled


async def test_a_configuration_that_cannot_work_ends_the_worker_later_too() -> None:
    """Beside the signals of the others."""
    company = Company()
    company.good.gate.set()
    assert await company.supervisor.start()
    company.late.problem = ConfigError("exchanges.late.sandbox", "not there")
    company.late.gate.set()
    tasks = dict(company.supervisor.side_tasks())
    with pytest.raises(ConfigError, match="sandbox"):
        await tasks["start:late"]()


class Books:
    """A ledger with positions on both exchanges."""

    worker = "w-1"

    async def book(self) -> Book:
        return Book(
            positions={f"{name}:{SYMBOL}": position(exchange=name) for name in ("good", "late")},
            busy=frozenset(),
        )

    async def announce(self, event: tuple[str, ...]) -> None:
        """Nobody listens."""


async def test_the_keeper_compares_the_book_with_exchanges_that_have_started() -> None:
    """One that starts meanwhile is compared the next time; its positions are no drift before.

    Nor is the comparison complete before.
    """
    company = Company()
    worker = worker_of(company.exchanges, company.clock)
    worker.ledger = cast("Ledger", Books())
    started = worker.supervisor.started

    class Joined(ScriptedExchange):
        """While it is asked, the other one starts."""

        async def get_positions(self) -> list[ExchangePosition]:
            started["late"] = company.late
            return []

    started["good"] = Joined(company.clock)
    comparison = worker.new_comparison()
    assert comparison.is_due()
    await comparison.compare()
    assert list(started) == ["good", "late"]
    assert {name: state.suspected for name, state in comparison.exchanges.items()} == {
        "good": {"BTC: the book needs 1, the exchange holds 0"},
        "late": frozenset(),
    }
    assert (comparison.done, comparison.missing) == (False, "late: has not started")
    assert comparison.is_due()
    await comparison.compare()
    assert all(state.suspected for state in comparison.exchanges.values())
    assert (comparison.done, comparison.missing) == (True, "")
    assert not comparison.is_due()


async def test_a_worker_says_while_it_cannot_send_orders() -> None:
    """Where orders take a connection that is made beforehand, readiness hangs on that too."""
    company = Company()
    for exchange in company.exchanges.values():
        exchange.keeps_order_connection = True
        exchange.gate.set()
    assert await company.supervisor.start()
    await asyncio.gather(*company.supervisor._starts.values())
    follow = {name: task for name, task in company.supervisor.side_tasks() if name[:6] == "orders"}
    assert sorted(follow) == ["orders:good", "orders:late"]
    shown = []

    class Watching(ManualClock):
        async def sleep(self, seconds: float) -> None:
            shown.append(company.health.report()["checks"]["orders:good"])
            company.good.in_the_way = "" if company.good.in_the_way else "no connection"
            if len(shown) == 3:
                raise asyncio.CancelledError

    company.supervisor._clock = Watching()
    with pytest.raises(asyncio.CancelledError):
        await follow["orders:good"]()
    can, cannot = ({"ok": True, "detail": "can be sent"}, {"ok": False, "detail": "no connection"})
    assert shown == [can, cannot, can]


async def test_readiness_hangs_on_no_connection_for_orders_over_rest() -> None:
    """REST connects while it sends."""
    company = Company()
    assert not [name for name, _ in company.supervisor.side_tasks() if name.startswith("orders")]


async def test_an_accounts_settings_are_shown_with_the_exchanges_name() -> None:
    """A failed one makes the worker not ready; where nothing is said there is no check."""
    company = Company()
    checks = company.health.report
    company.late.findings = (warn("margin mode", "isolated"), fail("position mode", "hedge"))
    company.late.problem = trouble(Outcome.REFUSED)
    company.good.gate.set()
    company.late.gate.set()
    assert await company.supervisor.start()
    await _pass_on()
    assert "account:good" not in checks()["checks"]
    assert checks()["checks"]["account:late"] == {
        "ok": False,
        "detail": "margin mode: isolated; position mode: hedge",
    }
    company.late.findings = (ok("position mode", "one-way"),)
    company.late.problem = None
    await _pass_on()
    assert checks()["checks"]["account:late"]["ok"] is True
    await company.supervisor.stop()


async def test_settings_that_change_while_trading_are_shown_after_the_next_refresh() -> None:
    """An exchange that was put into hedge mode goes on, and readiness says what is wrong."""
    company = Company(market_refresh_seconds=60)
    company.good.findings = (ok("position mode", "one-way"),)
    company.good.gate.set()
    assert await company.supervisor.start()
    follow = dict(company.supervisor.side_tasks())["markets:good"]
    seen = [company.health.report()["checks"]["account:good"]]

    async def read() -> tuple[AccountFinding, ...]:
        company.good.findings = (fail("position mode", "hedge"),)
        return company.good.findings

    company.good.refresh_findings = read  # type: ignore[method-assign]
    company.good.refreshing = [None]
    with pytest.raises(asyncio.CancelledError):
        await follow()
    seen.append(company.health.report()["checks"]["account:good"])
    assert [one["ok"] for one in seen] == [True, False]
    assert seen[1]["detail"] == "position mode: hedge"
    await company.supervisor.stop()
