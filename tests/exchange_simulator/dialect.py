"""An exchange other than Binance over the same matching core: what all dialects share.

A dialect reads requests and writes replies as its exchange's public documents say; accepting,
filling, triggering and the money are the core's (``matching.py``, ``ledgers.py``). The core refuses
in Binance's codes; ``refusals.py`` names what each means, and a dialect's ``words`` say it in
the exchange's own code and text.
"""

import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec

from tests.exchange_simulator.allowances import Allowance, OverLimitError
from tests.exchange_simulator.errors import ApiError, Reply
from tests.exchange_simulator.markets import Market, Venue
from tests.exchange_simulator.orders import Conditions, Order, Side
from tests.exchange_simulator.refusals import SITUATIONS, RefusedError
from tests.exchange_simulator.simulator import Pending, Simulator


@dataclass(slots=True)
class Asked(Pending):
    """A request to a dialect; ``params`` holds symbol and client id for the faults and the log."""

    endpoint: "Endpoint | None" = None
    query: str = ""
    body: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=lambda: Conditions(0))
    #: after which the exchange must not carry the request out, None without a deadline
    deadline_ms: int | None = None
    #: the venue of the market it is about
    about: Venue = "spot"

    def text(self, name: str, default: str = "") -> str:
        """Return a field as text, ``default`` when it is absent or empty."""
        value = self.fields.get(name)
        return default if value is None or value == "" else str(value)

    def decimal(self, name: str) -> Decimal:
        """Return a field as a number, zero when it is absent; InvalidOperation when it is none."""
        return Decimal(self.text(name, "0"))

    def flag(self, name: str) -> bool:
        """Return a boolean field, false when absent."""
        return self.text(name).lower() == "true"

    def listed(self, name: str) -> list[str]:
        """Return a field that may be repeated, or hold several values between commas."""
        value = self.fields.get(name)
        if value is None or value == "":
            return []
        return [str(one) for one in value] if isinstance(value, list) else str(value).split(",")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of an exchange's API.

    Args:
        handler: gets the dialect and the request, returns the JSON of the reply.
        job: what it is for, so that a fault can name it on any exchange: ``create``, ``cancel``,
            ``look_up``, ``trades``, ``balance``, ``positions``, ``prices``, ``markets``, ``clock``.
        signed: whether it needs credentials.
        cost: what one call takes off the allowance.
    """

    handler: Callable[[Any, Asked], Any]
    job: str
    signed: bool = True
    cost: int = 1


class Dialect(Simulator):
    """One exchange's API over the shared core. Subclasses say what differs.

    Args:
        settings: as for Binance; weight and order limits do not count here.
        clock_ms: this machine's clock.

    Attributes:
        enforce_limits: whether the documented request limits are held, or only counted.
    """

    enforce_limits = False

    name: ClassVar[str]
    endpoints: ClassVar[Mapping[str, Endpoint]]
    #: situation to the exchange's code, text and HTTP status; a name ending in ``@spot`` or
    #: ``@futures`` counts for that venue alone
    words: ClassVar[Mapping[str, tuple[str, str, int]]]
    venues: ClassVar[tuple[Venue, ...]] = ("spot",)
    #: what spot fees are taken in unless a market says otherwise: see ``SpotLedger``
    fee_in: ClassVar[str] = ""

    def reset(self) -> None:
        """Forget everything, and list no market: tests add their own."""
        super().reset()
        for listed in self.engine.markets.values():
            listed.clear()
        self.engine.spot.fee_in = self.fee_in
        self.allowances = self._allowances()
        self.refused_for_limits: Counter[str] = Counter()

    # ---- what a dialect says ------------------------------------------------------------------

    def listed(self, venue: Venue) -> list[Market]:
        """Return the markets of a venue."""
        return list(self.engine.markets[venue].values())

    @abstractmethod
    def authenticate(self, asked: Asked) -> None:
        """Check key and signature, read the deadline; raises RefusedError."""

    @abstractmethod
    def error_reply(self, refused: RefusedError) -> Reply:
        """Return a refusal as the exchange writes it."""

    @abstractmethod
    def named(self, asked: Asked) -> tuple[str, str, Venue]:
        """Return symbol, client order id and venue of a request; empty where it has none.

        A request about several orders has all their symbols, with commas between, and the first
        one's client order id.
        """

    @abstractmethod
    def oid(self, order: Order) -> str:
        """Return the exchange's id of an order."""

    def _allowances(self) -> Mapping[str, Allowance]:
        """Return the documented request limits by name."""
        return {}

    def charge(self, asked: Asked) -> None:
        """Count the request against every limit it falls under; raises OverLimitError."""

    def throttled(self, over: OverLimitError) -> RefusedError:
        """Return what the exchange answers above a limit."""
        return self.refusal("throttled", "spot")

    # ---- orders -------------------------------------------------------------------------------

    def submit(self, order: Order) -> Order:
        """Accept an order, or raise what is against it."""
        if order.market.halted:
            raise self.refusal("closed", order.market.venue)
        return self.engine.submit(order)

    def order(self, asked: Asked, market: Market, side: str, **fields: Any) -> Order:
        """Build an order under the request's conditions."""
        which: Side = "BUY" if side.upper() == "BUY" else "SELL"
        whole: dict[str, Any] = {
            "kind": "order",
            "market": market,
            "client_id": asked.params["newClientOrderId"] or self._new_id(),
            "side": which,
            "tif": "GTC",
            "conditions": asked.conditions,
        }
        return Order(**whole | fields)

    def visible(self, *, venue: Venue | None = None, kind: str = "order") -> list[Order]:
        """Return the orders that queries find by now, oldest first."""
        now_ms = self.now_ms()
        return [
            order
            for order in self.engine.accepted
            if order.kind == kind
            and order.visible_ms <= now_ms
            and venue in {None, order.market.venue}
        ]

    def find(
        self,
        *,
        oid: str = "",
        client_id: str = "",
        kind: str = "order",
        hidden: bool = False,
    ) -> Order | None:
        """Return the newest order with that id of the exchange, or that client id.

        Args:
            oid: the exchange's id.
            client_id: the client's id, if the exchange's is not given.
            kind: ``order``, or ``algo`` for conditional orders kept apart.
            hidden: also what queries do not show yet, as cancelling does.
        """
        orders = self.engine.accepted if hidden else self.visible(kind=kind)
        for order in reversed(orders):
            if order.kind != kind:
                continue
            if self.oid(order) == oid if oid else order.client_id == client_id:
                return order
        return None

    # ---- refusals -----------------------------------------------------------------------------

    def refusal(self, situation: str, venue: Venue) -> RefusedError:
        """Return the exchange's words for a situation."""
        found = self.words.get(f"{situation}@{venue}") or self.words[situation]
        return RefusedError(*found)

    def tell_time(self, refused: RefusedError, until_ms: int) -> None:
        """Put the end of a throttle into a refusal, where the exchange tells it."""

    def translated(self, error: ApiError, asked: Asked) -> RefusedError:
        """Return a refusal of the core in the exchange's words."""
        if isinstance(error, RefusedError):
            return error
        for code, part, situation in SITUATIONS:
            if error.code == code and part in error.msg:
                return self.refusal(situation, asked.about)
        raise error

    def scripted(
        self, situation: str, venue: Venue = "spot", wait_s: int = 0
    ) -> dict[str, Any] | None:
        """Return the fields of a fault rule that answers with the words for a situation.

        None where the exchange has no words for it. ``wait_s`` goes into words that tell a time.
        """
        if not {situation, f"{situation}@{venue}"} & self.words.keys():
            return None
        refused = self.refusal(situation, venue)
        if wait_s:
            self.tell_time(refused, self.now_ms() + wait_s * 1000)
        reply = self.error_reply(refused)
        return {
            "action": "http_status",
            "status": reply.status,
            "body": reply.body.decode(),
            "headers": reply.headers,
        }

    def rule(self, job: str) -> dict[str, Any]:
        """Return the matcher of a fault rule for requests of a job."""
        return {"path": f"#{job}$"}

    def job_of(self, method: str, path: str) -> str:
        """Return what requests of a path are for."""
        endpoint, _ = self._endpoint(method, path)
        return endpoint.job if endpoint is not None else ""

    # ---- requests -----------------------------------------------------------------------------

    def take(
        self, method: str, path: str, query: str, body: str, headers: Mapping[str, str]
    ) -> Pending:
        """Take a request in: parse, match faults, count, authenticate."""
        endpoint, found = self._endpoint(method, path)
        fields = _query(query) | found | _body(body)
        asked = Asked(
            method,
            path,
            {},
            self.faults.judge("", "", {}),
            None,
            self.now_ms(),
            endpoint=endpoint,
            query=query,
            body=body,
            given=headers,
            fields=fields,
        )
        symbol, client_id, asked.about = self.named(asked)
        asked.params = {"symbol": symbol, "newClientOrderId": client_id}
        job = endpoint.job if endpoint is not None else ""
        asked.verdict = self.faults.judge(method, f"{path}#{job}", asked.params)

        def authenticate() -> None:
            if endpoint is None:
                raise RefusedError("404", f"no such path: {method} {path}", 404)
            try:
                self.charge(asked)
            except OverLimitError as over:
                self.refused_for_limits[over.limit] += 1
                if self.enforce_limits:
                    raise self.throttled(over) from None
            if endpoint.signed:
                self.authenticate(asked)
                self.check_deadline(asked)

        return self._take_in(asked, authenticate)

    def _admit(self, pending: Pending, authenticate: Callable[[], None]) -> None:
        authenticate()

    def check_deadline(self, asked: Asked) -> None:
        """Raise the exchange's refusal once the request's deadline is over."""
        if asked.deadline_ms is not None and self.now_ms() > asked.deadline_ms:
            raise self.refusal("late", "spot")

    def apply(self, pending: Pending) -> Reply:
        """Carry the request out now; the deadline is checked once more before the engine."""
        if not isinstance(pending, Asked):
            raise TypeError("not a request to this dialect")
        endpoint, verdict, now_ms = pending.endpoint, pending.verdict, self.now_ms()
        self.engine.advance(now_ms)
        if pending.refused is not None or endpoint is None:
            return self._refusal(
                pending, pending.refused or RefusedError("404", "no such path", 404)
            )
        pending.conditions = Conditions(
            now_ms,
            pending.window,
            verdict.late_visibility_ms,
            verdict.partial_fill,
            verdict.slow_fill_ms,
            verdict.rule_ids,
        )
        try:
            self.check_deadline(pending)
            result = endpoint.handler(self, pending)
        except InvalidOperation:
            return self._refusal(pending, self.refusal("malformed", "spot"))
        except ApiError as refused:
            return self._refusal(pending, refused)
        pending.applied = True
        return Reply(200, msgspec.json.encode(result), headers=pending.headers)

    def _refusal(self, pending: Pending, refused: ApiError) -> Reply:
        assert isinstance(pending, Asked)
        own = self.translated(refused, pending)
        pending.refused = own
        reply = self.error_reply(own)
        headers = pending.headers | reply.headers | own.headers
        return Reply(reply.status, reply.body, reply.content_type, headers)

    def _endpoint(self, method: str, path: str) -> tuple[Endpoint | None, dict[str, str]]:
        exact = self.endpoints.get(f"{method} {path}")
        if exact is not None:
            return exact, {}
        for route, endpoint in self.endpoints.items():
            verb, _, pattern = route.partition(" ")
            if verb == method and "{" in pattern:
                regex = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
                if match := re.fullmatch(regex, path):
                    return endpoint, match.groupdict()
        return None, {}


def _query(query: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in fields:
            held = fields[name]
            fields[name] = [*(held if isinstance(held, list) else [held]), value]
        else:
            fields[name] = value
    return fields


def _body(body: str) -> dict[str, Any]:
    if not body:
        return {}
    if body.startswith(("{", "[")):
        decoded = json.loads(body)
        return decoded if isinstance(decoded, dict) else {"items": decoded}
    return _query(body)


def page(rows: list[Any], asked: Asked, default: int, most: int) -> tuple[list[Any], str]:
    """Return one page of ``rows`` and the cursor of the next: the number of rows before it."""
    limit = min(int(asked.text("limit", str(default))), most)
    cursor = asked.text("cursor", "0")
    start = int(cursor) if re.fullmatch(r"[0-9]{1,9}", cursor) else 0
    end = start + limit
    return rows[start:end], str(end) if end < len(rows) else ""
