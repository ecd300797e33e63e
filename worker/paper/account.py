"""What simulated exchanges are told of the account: all workers' trading, as the ledger has it."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from worker.domain.market import ExchangePosition, MarketKind
from worker.exchanges.ports import ExchangeAdapter, ExchangeError, Outcome
from worker.ledger.calls import Ledger
from worker.ledger.errors import LedgerError


class PaperAccount:
    """The money and the positions a simulated exchange would report.

    Args:
        ledger: the account.
        adapter: an exchange by its name, asked for its markets.
    """

    def __init__(self, ledger: Ledger, *, adapter: Callable[[str], ExchangeAdapter]) -> None:
        self._ledger = ledger
        self._adapter = adapter

    async def holdings(self, _exchange: str) -> Mapping[str, Decimal]:
        """How far all workers' simulated trading has moved each quote currency.

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
        """The book's own derivative positions on one exchange.

        Raises:
            ExchangeError: the ledger does not answer.
        """
        try:
            book = await self._ledger.book()
        except LedgerError as error:
            raise ExchangeError(str(error), outcome=Outcome.NOT_SENT, code="ledger") from error
        found = []
        for position in book.positions.values():
            if position.exchange != exchange:
                continue
            info = self._adapter(exchange).get_symbol_info(position.symbol)
            if info is not None and info.kind is MarketKind.LINEAR:
                found.append(
                    ExchangePosition(
                        symbol=position.symbol,
                        direction=position.direction,
                        quantity=position.quantity,
                        entry_price=position.entry_price,
                    )
                )
        return found
