"""Rules and alerts: each fires when it must and is silent when it must, and leads to a runbook."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.deploy import promql
from tests.deploy.tools import DEPLOY, ROOT, changed, document, run, said, tool

PROMETHEUS: Final = DEPLOY / "prometheus"
ALERTMANAGER: Final = DEPLOY / "alertmanager" / "alertmanager.yml"
CASES: Final = PROMETHEUS / "tests" / "alerts.test.yaml"
RUNBOOK: Final = ROOT / "docs" / "runbook.md"
#: Where alerts lead to: the one setting, and a section of the runbook.
RUNBOOK_URL: Final = "{{ $externalLabels.runbook }}#"
#: What the issue asks to be paged for, by the alert that does it.
ASKED: Final = (
    "ExecutionWorkerDown", "ExecutionSignalsStuck", "ExecutionBacklogGrowing",
    "ExecutionOrdersUnresolved", "ExecutionDeadLetters", "ExecutionExchangeErrors",
    "ExecutionSubmitSlow", "ExecutionHalted", "ExecutionClockSkew", "ExecutionEventLoopBlocked",
    "ExecutionReplicasDisagree",
)  # fmt: skip


def rules(directory: Path = PROMETHEUS) -> list[dict[str, Any]]:
    """Every rule of every file."""
    files = sorted((directory / "rules").glob("*.yaml"))
    return [r for file in files for group in document(file)["groups"] for r in group["rules"]]


def alerts(directory: Path = PROMETHEUS) -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    return {rule["alert"]: rule for rule in rules(directory) if "alert" in rule}


def cases() -> dict[str, set[bool]]:
    """For each alert whether a case fires it, and whether one leaves it silent."""
    found: dict[str, set[bool]] = {}
    for test in document(CASES)["tests"]:
        for check in test["promql_expr_test"]:
            (name,) = re.findall(r'alertname="(\w+)"', check["expr"])
            assert test["name"].startswith(name), test["name"]
            found.setdefault(name, set()).add(bool(check["exp_samples"]))
    return found


def rule_problems(directory: Path) -> list[str]:
    """What is wrong with a copy of deploy/prometheus, without asking promtool."""
    found = []
    recorded = frozenset(rule["record"] for rule in rules(directory) if "record" in rule)
    for rule in rules(directory):
        name = rule.get("alert") or rule["record"]
        found += [f"{name}: {each}" for each in promql.problems(rule["expr"], recorded)]
        found += [
            f"{name}: nothing records {one.name}"
            for one in promql.selected(rule["expr"])
            if ":" in one.name and one.name not in recorded
        ]
    configuration = document(directory / "prometheus.yml")
    if configuration["global"].get("external_labels", {}).get("runbook") != "${RUNBOOK_URL}":
        found.append("nothing says where the runbook is to be read")
    if {"action": "labeldrop", "regex": "runbook"} not in configuration["alerting"].get(
        "alert_relabel_configs", ()
    ):
        found.append("alerts are told apart by where the runbook is")
    headings = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    for name, alert in alerts(directory).items():
        notes = alert.get("annotations", {})
        if alert.get("labels", {}).get("severity") not in {"page", "ticket"}:
            found.append(f"{name} has no severity that is routed")
        if notes.get("runbook_url") != RUNBOOK_URL + name.lower():
            found.append(f"{name} leads to no section of the runbook")
        if name not in headings:
            found.append(f"{name} has no section in the runbook")
        if not notes.get("summary") or not notes.get("description"):
            found.append(f"{name} does not say what is wrong")
    return found


def test_prometheus_accepts_configuration_and_rules() -> None:
    """Promtool finds nothing to say about the scrape configuration or any rule."""
    result = run(tool("promtool"), "check", "config", "prometheus.yml", cwd=PROMETHEUS)
    assert result.returncode == 0, said(result)
    assert "FAILED" not in said(result)


def test_everything_asked_for_is_watched() -> None:
    """Every condition that the operators named has its alert."""
    assert set(ASKED) <= set(alerts())


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    """No alert is without one case of each kind, and no case is of an alert that is gone."""
    assert cases() == {name: {True, False} for name in alerts()}


def test_every_alert_fires_and_is_silent_as_its_cases_say() -> None:
    """Promtool runs every case against the rules as they stand."""
    result = run(tool("promtool"), "test", "rules", CASES.name, cwd=CASES.parent, timeout=180)
    assert result.returncode == 0, said(result)
    assert "SUCCESS" in result.stdout


@pytest.mark.parametrize("expression", ["vector(0) == 1", "vector(1)"])
def test_a_deaf_or_a_crying_alert_fails_its_case(tmp_path: Path, expression: str) -> None:
    """Every alert of a copy made deaf, or always crying, fails the case that is there for it."""
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    content = document(tmp_path / "rules" / "alerts.yaml")
    for group in content["groups"]:
        for rule in group["rules"]:
            rule["expr"] = expression
            for part in ("for", "annotations"):
                rule.pop(part, None)
    (tmp_path / "rules" / "alerts.yaml").write_bytes(msgspec.json.encode(content))
    (tmp_path / "rules" / "recording.yaml").write_text("groups: []\n")
    result = run(tool("promtool"), "test", "rules", CASES.name, cwd=tmp_path / "tests", timeout=180)
    assert result.returncode != 0
    failed = set(re.findall(r'alertname=\\"(\w+)\\"', said(result)))
    assert failed == set(alerts()), said(result)[:500]


def test_rules_name_only_what_is_exported() -> None:
    """Every metric, label and label value in a rule is one the worker or redis_exporter exports."""
    assert rule_problems(PROMETHEUS) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("alerts.yaml", "execution_worker_drift)", "execution_worker_drifts)", "nobody exports"),
        ("alerts.yaml", 'state="HALTED"', 'state="STOPPED"', "never has state=STOPPED"),
        ("alerts.yaml", 'kind="replicas"', 'cause="replicas"', "has no label cause"),
        ("alerts.yaml", "(account, exchange) (abs", "(account, venue) (abs", "the label venue"),
        ("alerts.yaml", "account:execution_worker_unresolved:max", "account:unresolved:max",
         "nothing records|nobody exports"),
        ("alerts.yaml", "}}#executionhalted", "}}#halted", "leads to no section"),
        ("../prometheus.yml", "runbook: ${RUNBOOK_URL}", "place: x", "runbook is to be read"),
        ("../prometheus.yml", "regex: runbook", "regex: x", "told apart by where the runbook is"),
        ("alerts.yaml", "alert: ExecutionHalted", "alert: ExecutionStopped", "has no section in"),
        ("alerts.yaml", "severity: page", "severity: critical", "no severity that is routed"),
        ("recording.yaml", 'outcome="unknown"', 'outcome="unsure"', "never has outcome=unsure"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_found(
    tmp_path: Path, file: str, old: str, new: str, sentence: str
) -> None:
    """Break a copy of a rule in any of these ways and the check of it fails."""
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    changed(PROMETHEUS / "rules" / file, tmp_path / "rules" / file, [(old, new)])
    assert re.search(sentence, "\n".join(rule_problems(tmp_path)))


def test_a_rule_that_is_no_promql_is_found(tmp_path: Path) -> None:
    """Promtool refuses a copy whose expression cannot be parsed."""
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    target = tmp_path / "rules" / "alerts.yaml"
    changed(target, target, [("max by (account) (execution_worker_drift)", "max by (account")])
    result = run(tool("promtool"), "check", "config", "prometheus.yml", cwd=tmp_path)
    assert result.returncode != 0


# --- Alertmanager ---


def alertmanager_problems(file: Path) -> list[str]:
    """What is wrong with an Alertmanager configuration."""
    amtool = tool("amtool")
    found = []
    result = run(amtool, "check-config", file)
    if result.returncode:
        return [said(result)]
    known = alerts()
    for name, alert in known.items():
        severity = alert["labels"]["severity"]
        wanted = {"page": "pager", "ticket": "tickets"}[severity]
        if name in ASKED:
            result = run(
                amtool, "config", "routes", "test", f"--config.file={file}",
                f"--verify.receivers={wanted}", f"severity={severity}", f"alertname={name}",
                "account=main",
            )  # fmt: skip
            if result.returncode:
                found.append(f"{name} does not reach {wanted}")
    content = document(file)
    for rule in content["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            pattern = matcher.partition("=")[2].strip('~" ')
            if not any(re.fullmatch(pattern, name) for name in known):
                found.append(f"no alert is {pattern}")
        if rule.get("equal") != ["account"]:
            found.append("one account would silence another")
    return found


def test_pages_and_tickets_reach_their_receivers() -> None:
    """Amtool routes each alert by its severity; every inhibition is of an alert there is."""
    assert alertmanager_problems(ALERTMANAGER) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("severity = page", "severity = critical", "does not reach pager"),
        ("receiver: pager", "receiver: nobody", "nobody"),
        ("alertname = ExecutionNoWorkers", "alertname = NoWorkers", "no alert is NoWorkers"),
        ("    equal: [account]\n\nreceivers", "    equal: [job]\n\nreceivers", "another"),
        ("route:", "routes:", "routes"),
    ],
)
def test_a_broken_route_is_found(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    """Break a copy of the routes in any of these ways and the check of it fails."""
    broken = changed(ALERTMANAGER, tmp_path / "alertmanager.yml", [(old, new)])
    assert sentence in "\n".join(alertmanager_problems(broken))


def test_no_secret_stands_in_a_file() -> None:
    """Addresses that are secrets are read from files."""
    receivers: list[Mapping[str, Any]] = document(ALERTMANAGER)["receivers"]
    assert "routing_key_file" in receivers[0]["pagerduty_configs"][0]
    assert "api_url_file" in receivers[1]["slack_configs"][0]
