"""A real Prometheus with the project's rules scrapes a real worker and a real redis_exporter."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from tests.deploy import promql
from tests.deploy.processes import Load, WorkerProcess, settled, until
from tests.deploy.redis_servers import binary, make_users
from tests.deploy.tools import DEPLOY, changed, run, said, tool
from worker.observe.metric_table import METRICS, PREFIX
from worker.runtime.embedded_server import EmbeddedServer, free_port

PROMETHEUS: Final = DEPLOY / "prometheus"
STREAMS: Final = ",".join(f"{{main}}:{name}" for name in ("signals", "orders", "positions"))


class Stack:
    """Redis with its users, a worker, redis_exporter and Prometheus, all running."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        acl = make_users(directory / "secrets")
        arguments = ("--aclfile", str(acl), "--appendonly", "yes")
        self.server = stack.enter_context(
            EmbeddedServer(binary=binary("redis"), arguments=arguments)
        )
        self.secrets = acl.parent
        self.worker = WorkerProcess(
            self.server.url,
            directory / "worker.log",
            {"REDIS__USERNAME": "worker", "REDIS__PASSWORD": self.password("worker")},
        )
        stack.callback(self.worker.kill)
        until(self.worker.ready, "the worker is ready")
        self.exporter_port = free_port()
        self._start(
            stack,
            directory / "exporter.log",
            tool("prometheus-redis-exporter", "redis_exporter"),
            "-redis.addr", f"redis://127.0.0.1:{self.server.port}",
            "-redis.user", "metrics", "-redis.password", self.password("metrics"),
            "-config-command", "-", "-check-single-streams", STREAMS,
            "-web.listen-address", f"127.0.0.1:{self.exporter_port}",
        )  # fmt: skip
        self.port = free_port()
        home = directory / "prometheus"
        (home / "rules").mkdir(parents=True)
        for rules in (PROMETHEUS / "rules").glob("*.yaml"):
            changed(rules, home / "rules" / rules.name, [])
        changed(PROMETHEUS / "prometheus.yml", home / "prometheus.yml", [
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("scrape_timeout: 5s", "scrape_timeout: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
            ("    dns_sd_configs:\n      - names: [worker]\n        type: A\n        port: 9108\n"
             "        refresh_interval: 10s\n",
             f"    static_configs:\n      - targets: [127.0.0.1:{self.worker.port}]\n"),
            ("redis-exporter:9121", f"127.0.0.1:{self.exporter_port}"),
            ("localhost:9090", f"127.0.0.1:{self.port}"),
        ])  # fmt: skip
        self._start(
            stack,
            directory / "prometheus.log",
            tool("prometheus"),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
        until(self._is_up, "Prometheus is ready")

    @staticmethod
    def _start(stack: ExitStack, log: Path, *command: str) -> None:
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        stack.callback(process.wait)
        stack.callback(process.kill)

    def _is_up(self) -> bool:
        try:
            return bool(self.ask("targets")["activeTargets"])
        except OSError:
            return False

    def password(self, user: str) -> str:
        return (self.secrets / f"redis_{user}").read_text()

    def client(self, user: str) -> redis.Redis:
        return redis.Redis(
            port=self.server.port, username=user, password=self.password(user), protocol=2
        )

    def ask(self, path: str, **query: str) -> Any:
        """Prometheus' API."""
        encoded = urllib.parse.urlencode(query)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{encoded}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found = self.ask("query", query=expression)["result"]
        assert isinstance(found, list)
        return found

    def exporter(self) -> str:
        """What redis_exporter exports."""
        url = f"http://127.0.0.1:{self.exporter_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything running, with a few hundred signals executed."""
    with ExitStack() as closing:
        running = Stack(tmp_path_factory.mktemp("scraping"), closing)
        with Load(running.client("producer"), per_second=100) as load:
            until(lambda: len(load.sent) > 300, "load")
        reader = running.client("reader")
        until(lambda: settled(reader), "every signal has ended")
        yield running


def test_every_target_is_scraped(stack: Stack) -> None:
    """Worker, redis_exporter and Prometheus itself are up, each under the name the rules select."""
    until(lambda: len(stack.query("up == 1")) == 3, "three targets up", seconds=20)
    jobs = {(s["metric"]["job"], s["metric"].get("account")) for s in stack.query("up")}
    assert jobs == {("execution-worker", "main"), ("redis", "main"), ("prometheus", None)}


def test_what_the_table_lists_is_exported(stack: Stack) -> None:
    """The worker exports every metric of its table under load, in a form promtool accepts."""
    _, text = stack.worker.get("/metrics")
    missing = [
        m.name for m in METRICS if f"# TYPE {PREFIX}{m.name.removesuffix('_total')}" not in text
    ]
    assert not missing
    for name in promql.PROCESS:
        assert f"\n{name} " in text
    result = run(tool("promtool"), "check", "metrics", stdin=text)
    assert not [line for line in said(result).splitlines() if PREFIX in line], said(result)


def test_what_the_exporter_is_said_to_export_is_there(stack: Stack) -> None:
    """Every redis_ metric that a rule or the dashboard names is in redis_exporter's answer."""
    text = stack.exporter()
    assert [name for name in promql.EXPORTER if f"\n{name}" not in text] == []
    assert 'redis_exporter_last_scrape_error{err=""} 0' in text, "the user metrics lacks a right"


def test_every_rule_is_evaluated(stack: Stack) -> None:
    """Prometheus evaluates every rule without an error, and what they record has values."""

    def evaluated() -> bool:
        groups = stack.ask("rules")["groups"]
        return all(r["health"] != "unknown" for g in groups for r in g["rules"])

    until(evaluated, "every rule was evaluated", seconds=40)
    rules = [rule for group in stack.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert [(r["name"], r.get("lastError")) for r in rules if r["health"] != "ok"] == []
    for name in ("account:execution_worker_stream_lag:max",
                 "account:execution_worker_signals_claimed:rate5m",
                 "account_stage:execution_worker_stage_seconds:p99_5m"):  # fmt: skip
        until(lambda name=name: stack.query(f"{name} >= 0"), name, seconds=20)  # type: ignore[misc]
    claimed = "sum(execution_worker_signals_claimed_total) > 300"
    until(lambda: stack.query(claimed), "every claim was scraped", seconds=20)


def test_a_healthy_worker_raises_no_alert(stack: Stack) -> None:
    """With Redis durable, its users in place and load, no alert fires or is about to."""
    until(lambda: len(stack.query("up == 1")) == 3, "three targets up", seconds=20)
    alerts = [a["labels"]["alertname"] for a in stack.ask("alerts")["alerts"]]
    assert alerts == []


def test_a_killed_worker_is_noticed(stack: Stack) -> None:
    """Killed, a worker raises its alerts at the next evaluation, all they say filled in."""
    stack.worker.kill()

    def pending() -> set[str]:
        return {a["labels"]["alertname"] for a in stack.ask("alerts")["alerts"]}

    wanted = {"ExecutionWorkerDown", "ExecutionNoWorkers"}
    until(lambda: wanted <= pending(), "the alerts are pending", seconds=20)
    for alert in stack.ask("alerts")["alerts"]:
        for text in alert["annotations"].values():
            assert "error" not in text
            assert "<no value>" not in text
