"""What simulated exchanges are told of the account."""

from typing import Any, cast

import pytest

from tests.unit.parts import PERPETUAL, D, position
from worker.domain.market import ExchangePosition
from worker.exchanges.errors import ExchangeError, Outcome
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.ledger.replies import Account, Book
from worker.paper.account import PaperAccount


class Told:
    """A ledger that answers with what it is given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def account(self) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    book = account


def account_of(answer: Any) -> PaperAccount:
    return PaperAccount(cast("Ledger", Told(answer)))


async def test_holdings_are_what_was_realized_less_what_is_bound() -> None:
    """In every currency that has either."""
    numbers = Account(
        exposure={"USDT": D(30), "EUR": D(5)}, realized={"USDT": D(10), "USDC": D(-2)},
        open_positions=2, unresolved=0, dead_letters=0, lag=0, pending=0, oldest_pending_ms=0,
        leases=0,
    )  # fmt: skip
    held = await account_of(numbers).holdings("paper")
    assert held == {"USDT": D(-20), "EUR": D(-5), "USDC": D(-2)}


async def test_positions_are_those_of_the_one_exchange() -> None:
    """Of whatever market: the exchange knows which of them are derivatives."""
    held = [position(symbol=PERPETUAL.symbol), position()]
    elsewhere = position(symbol=PERPETUAL.symbol, exchange="other")
    book = Book(
        positions={"paper:perpetual": held[0], "paper:spot": held[1], "other:it": elsewhere},
        busy=frozenset(),
    )
    assert await account_of(book).positions("paper") == [
        ExchangePosition(
            symbol=one.symbol,
            direction=one.direction,
            quantity=one.quantity,
            entry_price=one.entry_price,
        )
        for one in held
    ]


async def test_a_ledger_that_does_not_answer_is_an_exchange_that_does_not() -> None:
    """Nothing was sent anywhere."""
    account = account_of(LedgerUnavailableError("Redis is away", kind="connection"))
    for asked in (account.holdings, account.positions):
        with pytest.raises(ExchangeError, match="Redis is away") as caught:
            await asked("paper")
        assert (caught.value.outcome, caught.value.code) == (Outcome.NOT_SENT, "ledger")
