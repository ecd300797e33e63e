"""The parts of the documentation that are made from the code, and the files that hold them.

``python -m tests.documents`` (``make docs``) writes them between their markers,
``<!-- name -->`` and ``<!-- /name -->``; ``tests/unit/test_docs.py`` compares.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.exchanges.table import capability_rows, card_header, card_rows, reasons
from tests.request_capacity import capacity_table
from worker.cli.schema import schemas
from worker.config.showing import config_table
from worker.domain.event import STREAM_OF, Header
from worker.domain.refusal import CancelCode, Code, DeadReason
from worker.observe.metric_table import METRICS, PREFIX, MetricKind, metrics_table
from worker.operator.attention_codes import Code as Attention

ROOT: Final = Path(__file__).resolve().parents[1]
_SCHEMAS: Final = schemas()
_MARKED: Final = re.compile(r"<!-- ([a-z-]+) -->\n(.*?)<!-- /([a-z-]+) -->\n", re.DOTALL)
_ANY_MARKER: Final = re.compile(r"^<!-- /?[a-z-]+ -->$", re.MULTILINE)

#: The meaning of each field of a signal; its type and default come from the struct.
SIGNAL_FIELDS: Final[Mapping[str, str]] = {
    "signal_id": "The idempotency key: a second signal with the same id is never traded.",
    "created_at": "When the signal was made, RFC 3339 with its zone.",
    "exchange": "One of `validation.valid_exchanges`.",
    "symbol": "CCXT unified: `BTC/USDT` (spot), `BTC/USDT:USDT` (linear perpetual).",
    "action": "Open a position, or close the one there is.",
    "direction": "Which way the position is to profit. Required to open.",
    "strength": "The strategy's confidence. Required to open.",
    "confluence_score": "How many indications agree. Required to open.",
    "order_type": "How the order is worked.",
    "time_in_force": "How long it may rest: `GTC` until it is cancelled, `GTD` until `good_till`, "
    "`IOC` and `FOK` not at all. `GTC` for limit and stop orders if absent; a close never rests.",
    "good_till": "When the order is cancelled if it has not filled; required for `GTD`, refused "
    "elsewhere. From then on nothing is sent either.",
    "post_only": "For `limit` alone: the exchange refuses the order, or ends it, where it would "
    "trade at once.",
    "entry_price": "The limit; required for `limit` and `stop_limit`. For other types the "
    "reference for slippage and size.",
    "stop_price": "The trigger; required for `stop` and `stop_limit`.",
    "stop_loss": "Where the loss is cut; by default `risk.default_stop_loss_pct` away.",
    "take_profit": "Where the profit is taken.",
    "quantity": "In base units; if absent the order is sized by risk.",
    "size_pct": "Size in percent of the balance; by default `risk.default_position_size_pct`.",
    "expires_at": "No order is sent from then on; by default `created_at` plus "
    "`validation.max_signal_age_seconds`, and no more than "
    "`validation.max_signal_lifetime_seconds` after it.",
    "strategy_id": "Who decided, at most 128 characters; carried into the events, and compared "
    "with the signing key.",
    "metadata": "The producer's own, at most 4096 bytes; carried into the events untouched.",
}

#: The meaning of each field of an event, the same in every event that has it.
EVENT_FIELDS: Final[Mapping[str, str]] = {
    "account": "The trading account.",
    "attempts": "Create requests that were made for the order.",
    "average_price": "Over all fills so far, in quote units.",
    "checked_positions": "How many were compared.",
    "client_order_id": "The id the exchange was given: a function of account, signal and leg.",
    "action": "Of `OperatorAction` what was tried: `halt`, `reduce`, `resume`, `flatten`, "
    "`correct`, `resolve`, `mend-stream`, `dead replay`, `dead discard`; of `SignalCompleted` what "
    "the signal asked for.",
    "actor": "Who did it, `user@host`.",
    "after": "What is so now.",
    "before": "What was so before.",
    "close_reason": "Why the position ended.",
    "closed_at": "When it ended.",
    "code": "The reason as a word: of `OrderFailed` and `OrderCancelled` one of the codes below, "
    "of `SystemError` `ORDER_UNRESOLVED`, `ORDER_DECIDED`, `POSITION_DRIFT`, `POSITION_CORRECTED`, "
    "`ENTRY_TOO_SMALL`, `STREAM_MENDED`, `DEAD_LETTERS_TRIMMED`, "
    "`TRADING_STATE_UNANNOUNCED` or `EVENTS_REMOVED`.",
    "component": "Which part of the worker speaks.",
    "direction": "Which way the position profits.",
    "drift": "What differs between book and exchange, a sentence each.",
    "entry_price": "Average price the position was opened at, in quote units.",
    "event_id": "A pure function of what happened.",
    "exchange": "The exchange; empty where the event is about none.",
    "exchange_order_id": "The exchange's own id of the order.",
    "exchange_time": "When it happened as the exchange says; null where it does not.",
    "exit_price": "Average price of everything that closed the position.",
    "fee": "Paid in `fee_currency`, for a position in quote units as far as it could be converted; "
    "negative for a rebate, null where it is not known yet.",
    "fee_currency": "The quote currency, or the first one paid where nothing was paid in it.",
    "fees": "Everything paid, by currency.",
    "filled_quantity": "Traded so far, in base units.",
    "last_price": "The fill's price.",
    "last_quantity": "The fill's size, in base units.",
    "latency_ms": "From the entry's arrival on the stream to the known fill.",
    "metadata": "The signal's own, untouched.",
    "occurred_at": "When the worker wrote it, UTC.",
    "opened_at": "When the position was opened.",
    "order_type": "How the order was worked.",
    "parent": "The client order id of the order that this one is part of (an order of a close that "
    "takes several); null for a whole one.",
    "position_id": "The client order id of the entry that opened it.",
    "previous": "The state before.",
    "price": "The order's limit, in quote units.",
    "quantity": "In base units: what was ordered; of a position what it now holds, or held.",
    "realized_pnl": "Profit net of fees, in quote units: of `PositionChanged` that of this change, "
    "of `PositionClosed` that of the whole position, changes included.",
    "realized_pnl_pct": "The same, in percent of what the position cost.",
    "reason": "A sentence for a person.",
    "result": "Of `SignalCompleted` what came of it, a sentence for a person; of `OperatorAction` "
    "`done`, `refused` or `unknown`.",
    "error": "Why it was not done, a sentence; empty if it was.",
    "retriable": "Whether a new signal for the same idea may do better.",
    "role": "Which leg the order is.",
    "severity": "How urgent it is.",
    "side": "Buy or sell.",
    "signal_id": "The signal it follows from; empty where there is none.",
    "slippage_bps": "How much worse than the reference the fill was, in basis points.",
    "slippage_exceeded": "Whether that is more than `reconciliation.max_price_slippage_pct`.",
    "stage": "Where in its life the signal ended.",
    "stop_loss": "Where the loss is to be cut.",
    "strategy_id": "The signal's own.",
    "subject": "What it was done to.",
    "symbol": "The market; empty where the event is about none.",
    "take_profit": "Where the profit is to be taken.",
    "target": "The signal that it was about.",
    "terminal": "True on the one event that ends its signal.",
    "trading_state": "The state now: `ACTIVE`, `REDUCING` or `HALTED`.",
    "worker": "Which process wrote it; empty where a command did.",
}


def signal_table() -> str:
    """Return the table of a signal's fields."""
    schema = _SCHEMAS["Signal"]
    rows = []
    for name, about in schema["properties"].items():
        default = "required" if name in schema["required"] else _code(about.get("default"))
        rows.append((f"`{name}`", kind_of(about, optional=False), default, SIGNAL_FIELDS[name]))
    return _table(("field", "type", "default", "meaning"), rows)


def common_table() -> str:
    """Return the table of the fields that every event has."""
    properties = _SCHEMAS["OrderPlaced"]["properties"]
    names = ("type", "event_id", *Header.__struct_fields__)
    meanings = {"type": "The event's name.", **EVENT_FIELDS}
    rows = [
        (f"`{name}`", "text" if name == "type" else kind_of(properties[name]), meanings[name])
        for name in names
    ]
    return _table(("field", "type", "meaning"), rows)


def events_section() -> str:
    """Return a section an event: its stream, its meaning, the fields beside the common ones."""
    parts = []
    for event, stream in STREAM_OF.items():
        properties = _SCHEMAS[event.__name__]["properties"]
        rows = [
            (f"`{name}`", kind_of(properties[name]), EVENT_FIELDS[name])
            for name in properties
            if name not in {"type", "event_id", *Header.__struct_fields__}
        ]
        summary = (event.__doc__ or "").strip().partition("\n")[0]
        table = _table(("field", "type", "meaning"), rows)
        parts.append(f"### {event.__name__}\n\nOn `{stream}`. {summary}\n\n{table}")
    return "\n" + "\n".join(parts) + "\n"


def codes_table() -> str:
    """Return the table of refusal codes."""
    rows = [(f"`{code}`", code.meaning, "yes" if code.retriable else "") for code in Code]
    return _table(("code", "meaning", "retriable"), rows)


def cancel_codes_table() -> str:
    """Return the table of a cancelled order's codes."""
    return _table(("code", "meaning"), [(f"`{code}`", code.meaning) for code in CancelCode])


def attention_table() -> str:
    """Return the table of attention codes."""
    return _table(("code", "meaning"), [(f"`{one}`", one.meaning) for one in Attention])


def dead_table() -> str:
    """Return the table of a dead letter's reasons."""
    return _table(("reason", "meaning"), [(f"`{one}`", one.meaning) for one in DeadReason])


def metric_names() -> str:
    """Return a list of all metrics with their labels; docs/metrics.md says what each means."""
    bullets = []
    for kind in MetricKind:
        names = (
            f"`{metric.name}{{{','.join(metric.labels)}}}`" if metric.labels else f"`{metric.name}`"
            for metric in METRICS
            if metric.kind is kind
        )
        bullets.append(
            textwrap.fill(
                f"- {kind}s: {', '.join(names)}",
                width=100,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return f"Each name begins with `{PREFIX}`.\n\n" + "\n".join(bullets) + "\n"


def capabilities_table() -> str:
    """Return the table of the exchanges that have an adapter of their own."""
    header = ("exchange", "`ccxt_id`", "markets", "orders over", "cards passed")
    return _table(header, capability_rows())


def cards_table() -> str:
    """Return the table of the conformance cards, exchange by exchange."""
    return _table(card_header(), card_rows())


def card_reasons() -> str:
    """Return why an exchange cannot do a card, and which cards are not passed yet."""
    return f"\n{reasons()}\n\n"


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "config": config_table,
    "metrics": metrics_table,
    "metric-names": metric_names,
    "request-capacity": capacity_table,
    "signal": signal_table,
    "common": common_table,
    "events": events_section,
    "codes": codes_table,
    "cancel-codes": cancel_codes_table,
    "attention": attention_table,
    "dead": dead_table,
    "capabilities": capabilities_table,
    "cards": cards_table,
    "card-reasons": card_reasons,
}


def kind_of(schema: Mapping[str, Any], *, optional: bool = True) -> str:
    """Return a field's type in words; with ``optional``, also whether it may be null."""
    if "$ref" in schema:
        return kind_of(_SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        kinds = [part for part in schema["anyOf"] if part.get("type") != "null"]
        or_null = " or null" if optional and len(kinds) < len(schema["anyOf"]) else ""
        return kind_of(kinds[0]) + or_null
    if "enum" in schema:
        is_code = schema["enum"] in (sorted(Code), sorted(CancelCode))
        return "a code" if is_code else ", ".join(_code(value) for value in schema["enum"])
    if "oneOf" in schema:
        return "decimal"
    if schema["type"] == "string":
        return _kind_of_text(schema)
    if "maximum" in schema:
        return f"number, {schema['minimum']} to {schema['maximum']}"
    return "decimals by currency" if "additionalProperties" in schema else _NAMES[schema["type"]]


def _kind_of_text(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "date-time":
        return "time"
    pattern = schema.get("pattern")
    if pattern is None:
        return "text"
    return "decimal" if pattern == _DECIMAL_TEXT else _code(pattern)


_DECIMAL_TEXT: Final = _SCHEMAS["OrderFilled"]["properties"]["fee"]["pattern"]
_NAMES: Final = {
    "array": "list of text",
    "boolean": "true or false",
    "integer": "whole number",
    "object": "object",
}


def _code(value: object) -> str:
    return "" if value is None else f"`{value}`"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    text = "\n".join("| " + " | ".join(line) + " |" for line in escaped)
    return text.replace("| --- ", "|---").replace("|--- |", "|---|") + "\n"


def documents() -> list[Path]:
    """Return every document; any of them may hold such a part."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(text: str) -> dict[str, str]:
    """Return the marked parts of a document by name, as they stand there.

    Raises:
        ValueError: a marker lacks its other half, stands within another part, or stands twice.
    """
    found: dict[str, str] = {}
    for match in _MARKED.finditer(text):
        begin, body, end = match.groups()
        if begin != end or begin in found:
            raise ValueError(f"<!-- {begin} --> is closed by <!-- /{end} -->, or there twice")
        found[begin] = body
    if len(_ANY_MARKER.findall(text)) != 2 * len(found):
        raise ValueError("a marker has lost its other half")
    return found


def renewed(text: str) -> str:
    """Return the document with every marked part made from the code.

    Raises:
        KeyError: a marker names no known part.
        ValueError: as :func:`blocks_of`.
    """
    blocks_of(text)
    return _MARKED.sub(
        lambda match: f"<!-- {match[1]} -->\n{BLOCKS[match[1]]()}<!-- /{match[1]} -->\n", text
    )


def main() -> None:
    """Write every document that differs."""
    for path in documents():
        text = path.read_text()
        new = renewed(text)
        if new != text:
            path.write_text(new)
            print(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
