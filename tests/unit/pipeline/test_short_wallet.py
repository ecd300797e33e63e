"""Sales whose wallet lacks a little: sold as far as it is there, else wallet and book are told."""

from typing import Any

import pytest

from tests.unit.parts import (
    PERPETUAL,
    SPOT,
    D,
    ManualClock,
    ScriptedExchange,
    admitted_order,
    order_request,
    position,
    report,
    signal,
    trouble,
)
from worker.domain.market import Balance, SymbolInfo
from worker.domain.order import OrderState, Role, Side
from worker.exchanges.errors import ExchangeError, InsufficientBalanceError, Outcome
from worker.pipeline.flow import AdmittedOrder
from worker.pipeline.short_wallet import as_it_was_cut, cut_to_wallet, sells_coins

REFUSED = InsufficientBalanceError("no funds", outcome=Outcome.REFUSED, code="-2010")


def sale(held: str = "10", ordered: str | None = None, info: SymbolInfo = SPOT) -> AdmittedOrder:
    """A close of a long spot position."""
    request = order_request(
        role=Role.EXIT, side=Side.SELL, quantity=D(ordered or held), reduce_only=True
    )
    return admitted_order(
        request,
        signal=signal(action="close", direction=None),
        info=info,
        position=position(quantity=D(held)),
    )


async def cut(wallet: Any, order: AdmittedOrder) -> AdmittedOrder | ExchangeError:
    exchange = ScriptedExchange(ManualClock())
    exchange.wallet = [wallet]
    return await cut_to_wallet(exchange, order, REFUSED)


def wallet(free: str, total: str | None = None) -> dict[str, Balance]:
    return {"BTC": Balance(free=D(free), total=D(total or free))}


@pytest.mark.parametrize(
    ("free", "sent", "missing"),
    [("9.98", "9.98", "0.02"), ("9.99999", "9.9999", "0.00001"), ("9.985", "9.985", "0.015")],
)
async def test_nearly_all_is_sold(free: str, sent: str, missing: str) -> None:
    """On the grid, and what is not there is closed with it."""
    order = await cut(wallet(free), sale())
    assert isinstance(order, AdmittedOrder)
    assert (order.request.quantity, order.missing) == (D(sent), D(missing))


async def test_coins_that_something_else_holds_are_not_missing() -> None:
    """They are in the wallet, and stay in the book."""
    order = await cut(wallet("9.99", "10"), sale())
    assert isinstance(order, AdmittedOrder)
    assert (order.request.quantity, order.missing) == (D("9.99"), D(0))


@pytest.mark.parametrize("held", [{}, wallet("9.97"), wallet("0", "10")])
async def test_a_wallet_that_lacks_more_is_told(held: Any) -> None:
    """Both numbers and what to do, under the exchange's own refusal."""
    error = await cut(held, sale())
    assert isinstance(error, InsufficientBalanceError)
    for part in ("no funds", "the book has 10", "execution-worker correct"):
        assert part in str(error)


@pytest.mark.parametrize("held", [wallet("10"), wallet("11"), trouble(Outcome.UNKNOWN)])
async def test_the_refusal_stays_where_the_wallet_explains_nothing(held: Any) -> None:
    """The coins are there, or nobody says."""
    assert await cut(held, sale()) is REFUSED


def test_only_sales_of_coins_are_cut() -> None:
    """Not entries, not derivatives."""
    assert sells_coins(sale())
    assert not sells_coins(sale(info=PERPETUAL))
    assert not sells_coins(admitted_order(order_request()))


@pytest.mark.parametrize(
    ("filled", "quantity", "missing"),
    [("9.98", "9.98", "0.02"), ("9.9", "10", "0"), ("10", "10", "0")],
)
def test_another_worker_sees_that_a_sale_was_cut(filled: str, quantity: str, missing: str) -> None:
    """From the exchange's report alone."""
    order = sale()
    said = report(OrderState.FILLED, filled_quantity=D(filled))(order.request)
    after = as_it_was_cut(order, said)
    assert (after.request.quantity, after.missing) == (D(quantity), D(missing))
