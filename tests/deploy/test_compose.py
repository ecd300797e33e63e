"""compose.yaml: two workers, everything hardened, secrets as files, time enough to drain."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy import worker_config
from tests.deploy.tools import DEPLOY, changed, missing, run, said, tool
from worker.runtime.errors import ConfigError

COMPOSE: Final = DEPLOY / "compose.yaml"
SERVICES: Final = {
    "redis", "worker", "redis-exporter", "prometheus", "alertmanager", "grafana",
}  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of deploy/ with its secrets made."""
    target = tmp_path / "deploy"
    shutil.copytree(DEPLOY, target, ignore=shutil.ignore_patterns("secrets"))
    result = run("sh", target / "prepare.sh")
    assert result.returncode == 0, said(result)
    return target


def resolved(directory: Path) -> dict[str, Any]:
    """The file as compose understands it.

    Raises:
        ValueError: compose refuses it.
    """
    program = tool("docker-compose")
    result = run(program, "--file", directory / "compose.yaml", "config", "--format", "json")
    if result.returncode:
        raise ValueError(said(result))
    if result.stderr.strip():
        raise ValueError(result.stderr)
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def seconds(duration: str) -> float:
    """A compose duration (``1m0s``) in seconds."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+)(ms|h|m|s)", duration))


def problems(directory: Path) -> list[str]:
    """What is wrong with a copy of deploy/, a sentence each."""
    try:
        content = resolved(directory)
    except ValueError as error:
        return [str(error)]
    services = content["services"]
    found = [] if set(services) == SERVICES else [f"the services are {sorted(services)}"]
    for name, service in services.items():
        found += [f"{name}: {each}" for each in _hardening(name, service)]
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind" and not Path(volume["source"]).exists():
                found.append(f"{name} mounts {volume['source']}, which is not there")
            if volume["type"] == "bind" and not volume.get("read_only"):
                found.append(f"{name} may write to {volume['target']}")
    for name, secret in content["secrets"].items():
        if not Path(secret["file"]).exists():
            found.append(f"prepare.sh makes no {name}")
    if "worker" in services:
        found += _worker(services["worker"], directory)
    if "prometheus" in services:
        found += _runbook(services["prometheus"])
    if "redis" in services and "aclfile" not in (directory / "redis" / "redis.conf").read_text():
        found.append("Redis has no users")
    return found


def _hardening(name: str, service: dict[str, Any]) -> list[str]:
    found = []
    if not service.get("read_only"):
        found.append("its root file system can be written to")
    if service.get("cap_drop") != ["ALL"]:
        found.append("it keeps capabilities")
    if "no-new-privileges:true" not in service.get("security_opt", ()):
        found.append("it may gain privileges")
    core = service.get("ulimits", {}).get("core")  # compose leaves zeros out of what it prints
    if core not in (0, {}, {"soft": 0, "hard": 0}):
        found.append("its memory may be written to a core dump")
    user = service.get("user")
    if name != "worker" and (not user or user.startswith("0")):
        found.append(f"it runs as {user or 'whoever the image says'}")
    if not service.get("healthcheck", {}).get("test"):
        found.append("it has no health check")
    found += [
        f"port {port['published']} is open to other machines"
        for port in service.get("ports", ())
        if port.get("host_ip") != "127.0.0.1"
    ]
    for variable, value in (service.get("environment") or {}).items():
        if re.search(r"PASSWORD|SECRET|KEY", variable) and not str(value).startswith("/run/"):
            found.append(f"{variable} is a secret that is no file")
    image = service.get("image", "")
    if name != "worker" and not re.search(r":v?\d+\.\d+", image):
        found.append(f"the image {image} is not pinned")
    return found


def _runbook(service: dict[str, Any]) -> list[str]:
    url = (service.get("environment") or {}).get("RUNBOOK_URL", "")
    found = []
    if not re.fullmatch(r"(https?|file)://\S+/runbook\.md", url) or "example.com" in url:
        found.append(f"alerts lead to {url or 'nowhere'}, which is no runbook")
    if "--enable-feature=expand-external-labels" not in service["command"]:
        found.append("Prometheus does not read where the runbook is")
    return found


def _worker(service: dict[str, Any], directory: Path) -> list[str]:
    found = []
    if service.get("deploy", {}).get("replicas", 1) < 2:
        found.append("a single worker cannot be replaced while it works")
    (mounted,) = [v["source"] for v in service["volumes"] if v["target"].endswith("worker.toml")]
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    try:
        config = worker_config.load(Path(mounted).read_text(), service["environment"], scratch)
    except ConfigError as error:
        return [*found, f"the worker would not start: {error}"]
    grace = seconds(service.get("stop_grace_period", "10s"))
    if grace < config.worker.drain_seconds + 10:
        found.append(f"killed after {grace:g} s, but it drains for {config.worker.drain_seconds:g}")
    if config.redis.username != "worker":
        found.append("it does not sign in as the user made for it")
    if str(config.http.port) not in json.dumps(service["healthcheck"]["test"]):
        found.append("the health check asks another port")
    return found


def test_everything_is_as_it_must_be(copy: Path) -> None:
    """Compose accepts the file, and every service is hardened, healthy and given time to end."""
    assert problems(copy) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("compose.yaml", "(45): a worker finishes what it has in hand.\n    stop_grace_period: 60s",
         "\n    stop_grace_period: 30s", "killed after 30 s, but it drains for 45"),
        ("config/paper.toml", "drain_seconds = 45.0", "drain_seconds = 90.0", "drains for 90"),
        ("config/paper.toml", "drain_seconds", "drain_second", "would not start"),
        ("compose.yaml", "read_only: true", "read_only: false", "can be written to"),
        ("compose.yaml", "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "keeps capabilities"),
        ("compose.yaml", "replicas: 2", "replicas: 1", "a single worker"),
        ("compose.yaml", "127.0.0.1:6379:6379", "6379:6379", "open to other machines"),
        ("compose.yaml", "WORKER_REDIS__PASSWORD_FILE: /run/secrets/redis_worker",
         "WORKER_REDIS__PASSWORD: hunter2", "a secret that is no file"),
        ("compose.yaml", 'user: "472:472"', 'user: "0:0"', "it runs as 0"),
        (".env", "redis:7.4-bookworm", "redis", "is not pinned"),
        ("compose.yaml", "ulimits: { core: 0 }", "ulimits: { core: -1 }", "a core dump"),
        ("compose.yaml", "./prometheus:", "./prometeus:", "not there"),
        ("compose.yaml", "secrets/slack_url", "secrets/slack", "prepare.sh makes no"),
        ("compose.yaml", "9108/readyz", "9109/readyz", "asks another port"),
        ("compose.yaml", "condition: service_healthy", "condition: healthy", "healthy"),
        ("compose.yaml", "  grafana:\n    <<", "  graphs:\n    <<", "the services are"),
        ("redis/redis.conf", "aclfile", "#acl", "Redis has no users"),
        (".env", "RUNBOOK_URL", "RUNBOOK", "say where docs/runbook.md is to be read"),
        (".env", "=file://", "=https://example.com/", "which is no runbook"),
        ("compose.yaml", "--enable-feature=expand-external-labels", "--web.enable-lifecycle",
         "does not read where the runbook is"),
    ],
)  # fmt: skip
def test_a_broken_file_is_found(copy: Path, file: str, old: str, new: str, sentence: str) -> None:
    """Break a copy in any of these ways and the check of it fails."""
    changed(copy / file, copy / file, [(old, new)])
    assert sentence in "\n".join(problems(copy))


def test_secrets_are_made_once(copy: Path) -> None:
    """Running prepare.sh again changes no secret; none is readable by others on the machine."""
    secrets = copy / "secrets"
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    result = run("sh", copy / "prepare.sh")
    assert result.returncode == 0, said(result)
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o077 == 0
    ignored = run("git", "check-ignore", "deploy/secrets/redis_worker", cwd=DEPLOY.parent)
    if ignored.returncode == 128:
        missing("not a git checkout, so whether secrets are ignored cannot be asked")
    assert ignored.returncode == 0, "secrets could be committed"
