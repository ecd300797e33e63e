"""The errors with which the simulated exchange refuses a request."""

from worker.domain.order import OrderRequest
from worker.exchanges.errors import ExchangeError, InvalidOrderError, OrderNotFoundError, Outcome


def no_price(name: str, symbol: str, outcome: Outcome) -> ExchangeError:
    """Build the error of a request that needs a price where none is known."""
    text = f"{name} has no price for {symbol} yet"
    return ExchangeError(text, outcome=outcome, code="NO_PRICE", transient=True)


def invalid(code: str, problem: str, *, transient: bool = False) -> InvalidOrderError:
    """Build the refusal of an order that breaks a rule of the market."""
    return InvalidOrderError(problem, outcome=Outcome.REFUSED, code=code, transient=transient)


def not_found(request: OrderRequest, what: str = "order") -> OrderNotFoundError:
    """Build the answer about an order that this instance does not know."""
    return OrderNotFoundError(
        f"no {what} {request.client_order_id}", outcome=Outcome.REFUSED, code="NOT_FOUND"
    )
