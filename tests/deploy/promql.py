"""Which metrics, labels and label values an expression names, and whether anybody exports them."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tests.deploy.tools import run, said, tool
from worker.observe.metric_table import METRICS, PREFIX, MetricKind

#: Added to every series by the scrape configuration.
TARGET_LABELS: Final = frozenset({"job", "instance", "account"})
#: What the worker's client library, Prometheus and redis_exporter export, of what is used here.
PROCESS: Final = frozenset({"process_cpu_seconds_total", "process_resident_memory_bytes"})
PROMETHEUS: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}
EXPORTER: Final[Mapping[str, frozenset[str]]] = {
    "redis_up": frozenset(),
    "redis_memory_used_bytes": frozenset(),
    "redis_memory_max_bytes": frozenset(),
    "redis_evicted_keys_total": frozenset(),
    "redis_aof_enabled": frozenset(),
    "redis_aof_last_write_status": frozenset(),
    "redis_rdb_last_bgsave_status": frozenset(),
    "redis_connected_slaves": frozenset(),
    "redis_commands_processed_total": frozenset(),
    "redis_errors_total": frozenset({"err"}),
    "redis_stream_length": frozenset({"db", "stream"}),
    "redis_stream_group_messages_pending": frozenset({"db", "stream", "group"}),
}
_STRINGS: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?")
_MATCHER: Final = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"((?:[^\"\\]|\\.)*)\"")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS: Final = frozenset({"or", "and", "unless", "offset", "bool", "inf", "nan"})


class Selected(msgspec.Struct, frozen=True):
    """One metric as an expression selects it."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def exported() -> dict[str, Mapping[str, tuple[str, ...]]]:
    """Every series the worker exports, with its labels and their known values."""
    found: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for metric in METRICS:
        name = PREFIX + metric.name
        if metric.kind is MetricKind.HISTOGRAM:
            found[f"{name}_bucket"] = {**metric.labels, "le": ()}
            found[f"{name}_sum"] = found[f"{name}_count"] = metric.labels
        else:
            found[name] = metric.labels
    for names in (PROMETHEUS, EXPORTER):
        found |= {name: dict.fromkeys(labels, ()) for name, labels in names.items()}
    return found | {name: {} for name in PROCESS}


def selected(expression: str) -> Iterator[Selected]:
    """The metrics of an expression, with what selects their series."""
    plain = _GROUPING.sub(" ", expression)
    hidden: list[str] = []

    def hide(match: re.Match[str]) -> str:
        hidden.append(match[0])
        return f'"{len(hidden) - 1}"'

    for match in _SELECTOR.finditer(_STRINGS.sub(hide, re.sub(r"\[[^\]]*\]", " ", plain))):
        name, braces = match[1], match[2] or ""
        after = match.string[match.end(1) :].lstrip()
        preceded = match.string[: match.start()][-1:] or " "
        if name in _WORDS or after.startswith("(") or preceded in '"$0123456789':
            continue
        restored = re.sub(r'"(\d+)"', lambda found: hidden[int(found[1])], braces)
        yield Selected(name, tuple(m.groups() for m in _MATCHER.finditer(restored)))  # type: ignore[misc]


def grouped(expression: str) -> set[str]:
    """Every label an expression groups or joins by."""
    return {
        label.strip()
        for match in _GROUPING.finditer(expression)
        for label in match[1].split(",")
        if label.strip()
    }


def problems(expression: str, recorded: frozenset[str] = frozenset()) -> list[str]:
    """What an expression names that nobody exports, a sentence each.

    Args:
        expression: PromQL, without Grafana's variables outside strings and ranges.
        recorded: names of recording rules; their labels are those of their own expressions.
    """
    known = exported()
    found, labels, any_recorded = [], set(TARGET_LABELS), False
    for one in selected(expression):
        if one.name in recorded:
            any_recorded = True
            continue
        if one.name not in known:
            found.append(f"nobody exports {one.name}")
            continue
        labels |= known[one.name].keys()
        for label, operator, value in one.matchers:
            values = known[one.name].get(label)
            if values is None and label not in TARGET_LABELS:
                found.append(f"{one.name} has no label {label}")
            elif values and operator in {"=", "!="} and value not in values:
                found.append(f"{one.name} never has {label}={value}")
    if not any_recorded:
        found += [f"nothing has the label {label}" for label in grouped(expression) - labels]
    return found


def parse_problems(expressions: list[str]) -> str:
    """What promtool says about expressions it cannot read; empty if it can read all."""
    rules = "groups:\n- name: expressions\n  rules:\n"
    for number, expression in enumerate(expressions):
        quoted = msgspec.json.encode(expression).decode()
        rules += f"  - record: expression:{number}\n    expr: {quoted}\n"
    result = run(tool("promtool"), "check", "rules", "/dev/stdin", stdin=rules)
    return "" if result.returncode == 0 else said(result)
