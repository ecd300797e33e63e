"""All workers' trading on simulated exchanges, as the ledger has it."""

from collections.abc import Mapping
from decimal import Decimal

from worker.domain.market import ExchangePosition
from worker.exchanges.errors import ExchangeError, Outcome
from worker.ledger.errors import LedgerError
from worker.ledger.ports import Ledger


class PaperAccount:
    """The money and the positions a simulated exchange would report.

    Args:
        ledger: the account.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def holdings(self, _exchange: str) -> Mapping[str, Decimal]:
        """Return how far all workers' trading has moved each quote currency.

        Raises:
            ExchangeError: the ledger does not answer.
        """
        try:
            account = await self._ledger.account()
        except LedgerError as error:
            raise ExchangeError(str(error), outcome=Outcome.NOT_SENT, code="ledger") from error
        currencies = account.realized.keys() | account.exposure.keys()
        return {
            currency: account.realized.get(currency, Decimal(0))
            - account.exposure.get(currency, Decimal(0))
            for currency in currencies
        }

    async def positions(self, exchange: str) -> list[ExchangePosition]:
        """Return the book's positions on one exchange.

        Raises:
            ExchangeError: the ledger does not answer.
        """
        try:
            book = await self._ledger.book()
        except LedgerError as error:
            raise ExchangeError(str(error), outcome=Outcome.NOT_SENT, code="ledger") from error
        return [
            ExchangePosition(
                symbol=position.symbol,
                direction=position.direction,
                quantity=position.quantity,
                entry_price=position.entry_price,
            )
            for position in book.positions.values()
            if position.exchange == exchange
        ]
