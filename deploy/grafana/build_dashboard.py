"""Writes dashboards/execution-worker.json; run it after changing a panel here."""

import json
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).parent / "dashboards" / "execution-worker.json"
WIDTH: Final = 24
#: Restricts every expression to the account chosen at the top.
A: Final = 'account=~"$account"'
W: Final = f'job="execution-worker",{A}'
RATE: Final = "[$__rate_interval]"

Panel = dict[str, Any]


def _targets(queries: dict[str, str] | str, *, instant: bool) -> list[dict[str, Any]]:
    pairs = {"": queries} if isinstance(queries, str) else queries
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "expr": expression,
            "legendFormat": legend or "__auto",
            "instant": instant,
            "range": not instant,
        }
        for number, (legend, expression) in enumerate(pairs.items())
    ]


def _panel(
    kind: str,
    title: str,
    queries: dict[str, str] | str,
    *,
    width: int,
    height: int = 7,
    unit: str = "short",
    steps: list[tuple[str, float | None]] | None = None,
    about: str = "",
    options: dict[str, Any] | None = None,
    instant: bool = False,
) -> Panel:
    defaults: dict[str, Any] = {"unit": unit}
    if steps:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": color, "value": value} for color, value in steps],
        }
        defaults["color"] = {"mode": "thresholds"}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options or {},
        "targets": _targets(queries, instant=instant),
    }


def stat(title: str, query: str, *, bad_from: float | None = None, **more: Any) -> Panel:
    """One number, red from ``bad_from`` on."""
    steps: list[tuple[str, float | None]] = [("green", None)]
    if bad_from is not None:
        steps.append(("red", bad_from))
    options = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
    more = {"width": 3, "height": 4, "instant": True, "options": options, **more}
    return _panel("stat", title, query, steps=steps, **more)


def graph(title: str, queries: dict[str, str], *, unit: str = "short", **more: Any) -> Panel:
    """Lines over time."""
    options = {"legend": {"displayMode": "list", "placement": "bottom"},
               "tooltip": {"mode": "multi", "sort": "desc"}}  # fmt: skip
    return _panel("timeseries", title, queries, unit=unit, options=options, **{"width": 8, **more})


def quantiles(name: str, by: str = "") -> dict[str, str]:
    """The median and the slowest of a histogram, by label if one is named."""
    inner = f"sum by ({'le, ' + by if by else 'le'}) (rate({metric(f'{name}_bucket')}{RATE}))"
    shown = f" {{{{{by}}}}}" if by else ""
    wanted = (0.99,) if by else (0.5, 0.95, 0.99)
    return {f"p{int(q * 100)}{shown}": f"histogram_quantile({q}, {inner})" for q in wanted}


def metric(name: str, **labels: str) -> str:
    """A worker's metric, selected by account and by these labels."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return f"execution_worker_{name}{{{W}{more}}}"


def per_second(name: str, by: str = "", **labels: str) -> str:
    """How often something is counted, summed over the workers."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric(name, **labels)}{RATE}))"


def over_range(name: str, **labels: str) -> str:
    """How often something was counted in the time shown."""
    return f"sum(increase({metric(name, **labels)}[$__range]))"


def redis(name: str) -> str:
    """One of redis_exporter's metrics, selected."""
    return f"redis_{name}{{{A}}}"


STATE_OPTIONS: Final = {
    "colorMode": "background",
    "textMode": "name",
    "justifyMode": "center",
    "text": {"valueSize": 60},
    "reduceOptions": {"calcs": ["lastNotNull"]},
}

ROWS: Final[dict[str, list[Panel]]] = {
    "Needs attention": [
        _panel("stat", "Trading state",
               {"{{state}}": "max by (state) (" + metric("trading_state") + ") == 1"},
               width=6, height=8, instant=True, options=STATE_OPTIONS,
               about="More than one name: workers disagree."),
        _panel("table", "Alerts", f'ALERTS{{alertstate="firing",{A}}}', width=9, height=8,
               instant=True, about="Empty on a good day."),
        stat("Workers", f'sum(up{{{W}}})', about="Answering now."),
        stat("Unresolved orders", f"max({metric('unresolved')})", bad_from=1),
        stat("Dead letters", f"max({metric('dead_letters')})", bad_from=1),
        stat("Differences to the exchange", f"max({metric('drift')})", bad_from=1),
        stat("Oldest in hand", f"max({metric('oldest_pending_seconds')})", bad_from=120, unit="s"),
        stat("Keepers", f"sum({metric('keeper')})", bad_from=2, about="Always 1."),
    ],
    "Flow": [
        _panel("bargauge", "Funnel over the time shown", {
            "claimed": over_range("signals_claimed_total"),
            "sent to an exchange": over_range("submissions_total"),
            "accepted": over_range("submissions_total", outcome="accepted"),
            "filled": over_range("signals_ended_total", outcome="filled"),
        }, width=8, instant=True, options={"orientation": "horizontal", "displayMode": "gradient"}),
        graph("Signals ended, a second",
              {"{{outcome}}": per_second("signals_ended_total", "outcome")}),
        graph("Refused and failed, a second", {
            "{{stage}} {{code}}": per_second("order_failures_total", "stage, code"),
        }),
        graph("Waiting", {
            "not yet claimed": f"max({metric('stream_lag')})",
            "claimed, not ended": f"max({metric('pending')})",
            "behind their group": f"max({metric('waiting')})",
        }),
        graph("In hand, by worker", {"{{instance}}": f"{metric('in_flight')}"}),
        graph("Fill rate", {
            "filled of accepted":
                per_second("signals_ended_total", outcome="filled") + " / "
                + per_second("submissions_total", outcome="accepted"),
        }, unit="percentunit"),
    ],
    "Latency": [
        graph("Signal created to order accepted", quantiles("signal_to_order_seconds"), unit="s"),
        graph("Claim to committed end", quantiles("signal_to_end_seconds"), unit="s"),
        graph("Steps", quantiles("stage_seconds", "stage"), unit="s"),
    ],
    "Exchange": [
        graph("Orders sent, a second", {
            "{{exchange}} {{outcome}}":
                per_second("submissions_total", "exchange, outcome"),
        }),
        graph("Errors, a second", {
            "{{exchange}} {{kind}} {{outcome}}":
                per_second("exchange_errors_total", "exchange, kind, outcome"),
        }),
        graph("Retries and look-ups, a second", {
            "retry {{exchange}} {{cause}}":
                per_second("retries_total", "exchange, cause"),
            "look-up {{exchange}} {{result}}":
                per_second("lookups_total", "exchange, result"),
        }),
        graph("Slippage, basis points", {
            "average {{exchange}}":
                f"sum by (exchange) (rate(execution_worker_slippage_bps_sum{{{W}}}{RATE}))"
                f" / sum by (exchange) (rate(execution_worker_slippage_bps_count{{{W}}}{RATE}))",
            "p95 {{exchange}}":
                "histogram_quantile(0.95, sum by (exchange, le) "
                f"(rate(execution_worker_slippage_bps_bucket{{{W}}}{RATE})))",
        }),
        graph("Commission, an hour", {
            "{{exchange}} {{currency}}":
                f"sum by (exchange, currency) (increase({metric('commission_total')}[1h]))",
            "rebate {{exchange}} {{currency}}":
                f"sum by (exchange, currency) (increase({metric('rebates_total')}[1h]))",
        }),
        graph("Clock difference", {"{{exchange}} {{instance}}": metric("clock_offset_seconds")},
              unit="s"),
    ],
    "Risk": [
        graph("Open positions", {"open": f"max({metric('open_positions')})"}),
        graph("Exposure", {"{{quote}}": f"max by (quote) ({metric('exposure_quote')})"}),
        graph("Profit realised", {"{{quote}}": f"max by (quote) ({metric('realized_pnl_quote')})"}),
        graph("Refused by a limit, a second", {
            "{{code}}": per_second("order_failures_total", "code", stage="risk"),
        }, width=12),
        graph("Fills, a second", {
            "{{exchange}}": per_second("fills_total", "exchange"),
            "partial {{exchange}}":
                per_second("partial_fills_total", "exchange"),
        }, width=12),
    ],
    "Redis": [
        graph("Memory", {
            "used {{instance}}": redis("memory_used_bytes"),
            "limit {{instance}}": redis("memory_max_bytes"),
        }, unit="bytes"),
        graph("Stream entries and pending", {
            "{{stream}}": redis("stream_length"),
            "pending {{stream}} {{group}}": redis("stream_group_messages_pending"),
        }),
        graph("Commands, a second", {
            "{{instance}}": f"rate({redis('commands_processed_total')}{RATE})",
        }),
        graph("Errors seen by workers, a second", {
            "{{kind}}": per_second("ledger_errors_total", "kind"),
            "connections made anew": per_second("ledger_reconnects_total"),
        }),
        graph("Errors answered, a second", {
            "{{err}}": f"sum by (err) (rate(redis_errors_total{{{A}}}{RATE}))",
        }),
        graph("Written to disk", {
            "append-only file": redis("aof_last_write_status"),
            "snapshot": redis("rdb_last_bgsave_status"),
            "replicas": redis("connected_slaves"),
        }),
    ],
    "Process": [
        graph("Event loop's longest delay", {"{{instance}}": metric("event_loop_lag_seconds")},
              unit="s"),
        graph("CPU", {"{{instance}}": f"rate(process_cpu_seconds_total{{{W}}}{RATE})"},
              unit="percentunit"),
        graph("Memory", {"{{instance}}": f"process_resident_memory_bytes{{{W}}}"}, unit="bytes"),
        graph("Leases", {
            "renewed {{instance}}": metric("leases"),
            "lost, a second": per_second("fenced_total"),
            "taken over, a second": per_second("takeovers_total"),
        }),
        graph("Signals in one round trip", {
            "{{step}}":
                f"sum by (step) (rate(execution_worker_batch_size_sum{{{W}}}{RATE}))"
                f" / sum by (step) (rate(execution_worker_batch_size_count{{{W}}}{RATE}))",
        }),
        graph("Versions", {"{{version}} {{mode}}": f"count by (version, mode) ({metric('info')})"}),
    ],
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole dashboard: rows from top to bottom, panels from left to right."""
    panels: list[Panel] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [],
             "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}
        )  # fmt: skip
        left, top, tallest = 0, top + 1, 0
        for panel in row:
            place = panel["gridPos"]
            if left + place["w"] > WIDTH:
                left, top, tallest = 0, top + tallest, 0
            panels.append({**panel, "gridPos": {**place, "x": left, "y": top}})
            left, tallest = left + place["w"], max(tallest, place["h"])
        top += tallest
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "uid": "execution-worker",
        "title": "execution-worker",
        "tags": ["execution-worker"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 0},
                {
                    "name": "account",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "query": 'label_values(up{job="execution-worker"}, account)',
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Trading state changed",
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "enable": True,
                    "iconColor": "orange",
                    "expr": f"changes({metric('trading_state', state='ACTIVE')}[1m]) > 0",
                    "titleFormat": "trading state",
                }
            ]
        },
        "panels": panels,
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
