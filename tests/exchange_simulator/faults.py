"""Scripted misbehaviour: rules that match requests and say how to spoil them.

Rules are tried in the order they were added. Delays and order effects of all rules that hit a
request add up; the first hit with an ``action`` decides how the request ends.
"""

import random
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

import msgspec

from tests.exchange_simulator.errors import JSON, PRESETS, Reply, error_body

Action = Literal[
    "drop_before",
    "drop_after",
    "no_reply_before",
    "no_reply_after",
    "cut_response",
    "empty_200",
    "truncated_json_200",
    "http_status",
    "reject",
    "alter",
]
#: actions that let the request take effect before they spoil the reply
_ALWAYS_AFTER = frozenset(
    {"drop_after", "no_reply_after", "cut_response", "empty_200", "truncated_json_200", "alter"}
)


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault rule; the same fields are the JSON of ``POST /_sim/faults``.

    Matching: every given matcher must hold, then ``skip`` matches pass untouched, then each is hit
    with ``probability`` until ``count`` hits are used up.

    Args:
        method: HTTP method, any if None.
        path: regular expression searched in the path (``/api/v3/order$``).
        symbol: exchange symbol (``BTCUSDT``), any if None; a request may be about several.
        client_id: regular expression searched in the request's client order id.
        probability: chance of a hit, drawn from the rule's own seeded generator.
        count: hits until the rule is spent; None for ever.
        skip: matches to let through first.
        delay_ms: wait before processing; the recvWindow is checked again afterwards.
        delay_after_ms: wait after processing, before the reply.
        late_visibility_ms: queries do not find an accepted order for that long.
        partial_fill: fraction of a taking order that finds liquidity.
        slow_fill_ms: a market order is accepted NEW and fills that much later.
        action: how the request ends; see ``Action``.
        when: for ``http_status``: reply ``before`` or ``after`` the request took effect.
        preset: a reply from ``errors.PRESETS``; implies action ``http_status``.
        status: HTTP status of ``http_status`` (400 for ``reject``).
        body: body of ``http_status``.
        content_type: its content type.
        headers: extra headers.
        code: Binance code of ``reject`` (or of ``http_status`` without a body).
        msg: its text.
        fields: for ``alter``: what stands under these names of the reply instead, at any depth.
        hang_ms: bound of ``no_reply_*``.
        reset: drop with a TCP reset instead of an orderly close.
        name: free text, shown in listings.
    """

    method: str | None = None
    path: str = ""
    symbol: str | None = None
    client_id: str | None = None
    probability: float = 1.0
    count: int | None = None
    skip: int = 0
    delay_ms: int = 0
    delay_after_ms: int = 0
    late_visibility_ms: int = 0
    partial_fill: Decimal | None = None
    slow_fill_ms: int = 0
    action: Action | None = None
    when: Literal["before", "after"] = "before"
    preset: str | None = None
    status: int | None = None
    body: str | None = None
    content_type: str = JSON
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    code: int | None = None
    msg: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    hang_ms: int = 60_000
    reset: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse a rule that could not do what it says."""
        if self.preset is not None:
            if self.preset not in PRESETS:
                raise ValueError(f"unknown preset {self.preset!r}; one of {sorted(PRESETS)}")
            self.action = self.action or "http_status"
        if self.action is not None and self.action not in get_args(Action):
            raise ValueError(f"unknown action {self.action!r}; one of {get_args(Action)}")
        if self.action == "reject" and self.code is None:
            raise ValueError("action 'reject' needs a code")
        if self.action == "http_status" and self.preset is None and self.status is None:
            raise ValueError("action 'http_status' needs a preset or a status")
        if self.partial_fill is not None and not 0 <= self.partial_fill <= 1:
            raise ValueError("partial_fill is a fraction between 0 and 1")
        re.compile(self.path)
        re.compile(self.client_id or "")

    @property
    def applies_first(self) -> bool:
        """Whether the request takes effect before the action."""
        if self.action in _ALWAYS_AFTER:
            return True
        return self.action in {"http_status", "reject"} and self.when == "after"

    @property
    def outcome(self) -> str:
        """Return the word the request log counts this action under."""
        if self.action == "http_status":
            return f"fault:{self.preset or self.status}:{self.when}"
        if self.action == "reject":
            return f"fault:reject:{self.code}"
        return f"fault:{self.action}"

    def reply(self) -> Reply:
        """Return the reply of ``http_status`` or ``reject``."""
        if self.preset is not None:
            ready = PRESETS[self.preset]
            if not self.headers:
                return ready
            return Reply(ready.status, ready.body, ready.content_type, ready.headers | self.headers)
        body = error_body(self.code, self.msg) if self.code is not None else b""
        if self.body is not None:
            body = self.body.encode()
        return Reply(self.status or 400, body, self.content_type, self.headers)


@dataclass(slots=True)
class Armed:
    """A rule in force, with its counters and its own random generator."""

    rule_id: int
    rule: Rule
    rng: random.Random
    matched: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        """Compile the patterns once."""
        self._path = re.compile(self.rule.path)
        self._client = re.compile(self.rule.client_id) if self.rule.client_id else None

    _path: re.Pattern[str] = field(init=False)
    _client: re.Pattern[str] | None = field(init=False)

    @property
    def spent(self) -> bool:
        """Whether all hits are used."""
        return self.rule.count is not None and self.hits >= self.rule.count

    def hit(self, method: str, path: str, params: dict[str, str]) -> bool:
        """Decide whether this rule spoils the request, and count it."""
        rule = self.rule
        if self.spent or (rule.method and rule.method != method):
            return False
        if not self._path.search(path):
            return False
        if rule.symbol and rule.symbol not in params.get("symbol", "").split(","):
            return False
        if self._client is not None and not self._client.search(client_id_of(params)):
            return False
        self.matched += 1
        if self.matched <= rule.skip:
            return False
        if rule.probability < 1.0 and self.rng.random() >= rule.probability:
            return False
        self.hits += 1
        return True

    def view(self) -> dict[str, Any]:
        """Return the rule with its counters."""
        shown: dict[str, Any] = msgspec.to_builtins(self.rule)
        return shown | {
            "id": self.rule_id,
            "matched": self.matched,
            "hits": self.hits,
            "remaining": None if self.rule.count is None else self.rule.count - self.hits,
        }


@dataclass(slots=True)
class Verdict:
    """What the rules that hit a request add up to."""

    delay_ms: int = 0
    delay_after_ms: int = 0
    late_visibility_ms: int = 0
    slow_fill_ms: int = 0
    partial_fill: Decimal | None = None
    action: Rule | None = None
    rule_ids: tuple[int, ...] = ()


_UNTOUCHED = Verdict()


class Faults:
    """The rules in force. Equal seeds and equal request sequences give equal faults."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._next_id = 1
        self.armed: dict[int, Armed] = {}

    def add(self, rule: Rule) -> int:
        """Put a rule in force and return its id."""
        rule_id = self._next_id
        self._next_id += 1
        self.armed[rule_id] = Armed(rule_id, rule, random.Random(f"{self._seed}:{rule_id}"))
        return rule_id

    def remove(self, rule_id: int) -> bool:
        """Take a rule out of force; False if there is none."""
        return self.armed.pop(rule_id, None) is not None

    def clear(self) -> None:
        """Take every rule out of force."""
        self.armed.clear()

    def judge(self, method: str, path: str, params: dict[str, str]) -> Verdict:
        """Return what the rules do to one request."""
        if not self.armed:
            return _UNTOUCHED
        verdict = Verdict()
        for armed in self.armed.values():
            if not armed.hit(method, path, params):
                continue
            rule = armed.rule
            verdict.rule_ids += (armed.rule_id,)
            verdict.delay_ms += rule.delay_ms
            verdict.delay_after_ms += rule.delay_after_ms
            verdict.late_visibility_ms += rule.late_visibility_ms
            verdict.slow_fill_ms += rule.slow_fill_ms
            if rule.partial_fill is not None:
                verdict.partial_fill = rule.partial_fill
            if rule.action is not None and verdict.action is None:
                verdict.action = rule
        return verdict


def client_id_of(params: dict[str, str]) -> str:
    """Return the client order id a request names, under whichever parameter."""
    for name in ("newClientOrderId", "clientAlgoId", "origClientOrderId", "listClientOrderId"):
        if name in params:
            return params[name]
    return ""
