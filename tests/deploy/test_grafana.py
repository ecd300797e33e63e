"""The dashboard: every expression can be read, and everything it names is exported."""

import json
import runpy
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy import promql
from tests.deploy.tools import DEPLOY, changed, document

GRAFANA: Final = DEPLOY / "grafana"
DASHBOARD: Final = GRAFANA / "dashboards" / "execution-worker.json"
SECTIONS: Final = ["Needs attention", "Flow", "Latency", "Exchange", "Risk", "Redis", "Process"]
#: What Grafana puts in place of its variables.
VARIABLES: Final = {"$__rate_interval": "1m", "$__range": "1h", "$account": ".*"}


def load(file: Path) -> dict[str, Any]:
    """A dashboard's content."""
    content = json.loads(file.read_text())
    assert isinstance(content, dict)
    return content


def expressions(content: dict[str, Any]) -> dict[str, str]:
    """Every expression by where it stands, with Grafana's variables filled in."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in content["panels"]
        for target in panel.get("targets", ())
    }
    found |= {each["name"]: each["expr"] for each in content["annotations"]["list"]}
    for variable, value in VARIABLES.items():
        found = {place: expr.replace(variable, value) for place, expr in found.items()}
    return found


def problems(file: Path) -> list[str]:
    """What is wrong with a dashboard, a sentence each."""
    content = load(file)
    found = []
    every = expressions(content)
    for place, expression in every.items():
        found += [f"{place}: {each}" for each in promql.problems(expression)]
        if "$" in expression:
            found.append(f"{place}: an unknown variable")
        if "account=~" not in expression:
            found.append(f"{place}: shows every account, whichever was chosen")
    unreadable = promql.parse_problems(list(every.values()))
    if unreadable:
        found.append(unreadable)
    rows = [panel["title"] for panel in content["panels"] if panel["type"] == "row"]
    if rows != SECTIONS:
        found.append(f"the sections are {rows}")
    ids = [panel["id"] for panel in content["panels"]]
    if len(set(ids)) != len(ids):
        found.append("two panels have the same id")
    found += _overlaps(content["panels"])
    return found


def _overlaps(panels: list[dict[str, Any]]) -> list[str]:
    taken: dict[tuple[int, int], str] = {}
    found = []
    for panel in panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if x >= 24 or other != panel["title"]:
                    found.append(f"{panel['title']} overlaps {other}")
    return sorted(set(found))


def test_every_expression_is_read_and_exported() -> None:
    """Promtool reads every expression; every metric, label and value in them is exported."""
    assert len(expressions(load(DASHBOARD))) > 50
    assert problems(DASHBOARD) == []


def test_the_file_is_what_the_builder_writes() -> None:
    """The committed dashboard is build_dashboard.py's output, unedited."""
    built = runpy.run_path(str(GRAFANA / "build_dashboard.py"))["text"]()
    assert DASHBOARD.read_text() == built


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("execution_worker_unresolved", "execution_worker_unresolved_orders", "nobody exports"),
        ("sum by (code) (", "sum by (reason) (", "nothing has the label reason"),
        ('outcome=\\"filled\\"', 'outcome=\\"done\\"', "never has outcome=done"),
        ("histogram_quantile(0.5, ", "histogram_quantile(0.5 ", "parse error"),
        ("redis_stream_length", "redis_streams_length", "nobody exports redis_streams_length"),
        ("$__rate_interval", "$__rate", "unknown variable"),
        ('"title": "Risk"', '"title": "Limits"', "the sections are"),
        ('max(execution_worker_unresolved{job=\\"execution-worker\\",account=~\\"$account\\"})',
         "max(execution_worker_unresolved)", "shows every account"),
    ],
)  # fmt: skip
def test_a_broken_dashboard_is_found(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    """Break a copy of the dashboard in any of these ways and the check of it fails."""
    broken = changed(DASHBOARD, tmp_path / "dashboard.json", [(old, new)])
    assert sentence in "\n".join(problems(broken))


def test_the_provisioning_leads_to_the_dashboard() -> None:
    """The data source and the folder named are the ones compose.yaml mounts."""
    source = document(GRAFANA / "provisioning" / "datasources" / "prometheus.yaml")
    (datasource,) = source["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    (provider,) = document(GRAFANA / "provisioning" / "dashboards" / "execution-worker.yaml")[
        "providers"
    ]
    grafana = document(DEPLOY / "compose.yaml")["services"]["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]
               if volume.startswith("./")}  # fmt: skip
    assert mounted[provider["options"]["path"]] == "./grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./grafana/provisioning"
