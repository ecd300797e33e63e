"""The manifests: valid, hardened, drained before they end, and configured as the worker wants."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.deploy import prometheus_rule, worker_config
from tests.deploy.tools import DEPLOY, changed, document, documents, run, said, tool
from worker.config.keys import Config
from worker.runtime.errors import ConfigError

KUBERNETES: Final = DEPLOY / "kubernetes"
OVERLAYS: Final = ("paper", "live")
#: The oldest and the newest Kubernetes the manifests are checked against.
VERSIONS: Final = ("1.29", "1.33")
APP: Final = {"app.kubernetes.io/name": "execution-worker"}
Object = dict[str, Any]

_AUTOSCALER: Final = {
    "redis-streams": {"address"},
    "redis-sentinel-streams": {"addresses", "sentinelMaster"},
    "redis-cluster-streams": {"addresses"},
}
_FIELDS: Final = {
    "ScaledObject": {
        "scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount",
        "maxReplicaCount", "fallback", "advanced", "triggers",
    },
    "TriggerAuthentication": {"secretTargetRef"},
    "PodMonitor": {"selector", "podTargetLabels", "podMetricsEndpoints"},
    "PrometheusRule": {"groups"},
}  # fmt: skip


class Rendered:
    """What kubectl would apply, by kind."""

    def __init__(self, directory: Path) -> None:
        result = run(tool("kubectl"), "kustomize", directory)
        if result.returncode or result.stderr.strip():
            raise ValueError(said(result))
        self.text = result.stdout
        self.objects: list[Object] = documents(self.text)

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def only(self, kind: str) -> Object:
        (one,) = self.of(kind)
        return one


def problems(directory: Path, scratch: Path) -> list[str]:
    """What is wrong with a rendered copy, a sentence each."""
    try:
        rendered = Rendered(directory)
    except ValueError as error:
        return [str(error)]
    found = _schema(rendered, scratch)
    if found:
        return found
    deployment = rendered.only("Deployment")
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    found += _hardening(pod, container)
    found += _probes(container)
    found += _selectors(rendered)
    found += _network(rendered.only("NetworkPolicy")["spec"])
    found += _rollout(rendered, spec, pod)
    config, trouble = _config(rendered, container, scratch)
    found += trouble
    if config is not None:
        grace = pod.get("terminationGracePeriodSeconds", 30)
        if grace < config.worker.drain_seconds + 10:
            found.append(f"killed after {grace} s, drains for {config.worker.drain_seconds:g} s")
        if container["ports"][0]["containerPort"] != config.http.port:
            found.append("the port is not the one the worker listens on")
        found += _agreement(rendered, spec, config)
    return found


def _schema(rendered: Rendered, scratch: Path) -> list[str]:
    """What the API servers would refuse; objects of operators are looked at by hand."""
    found = []
    core = [o for o in rendered.objects if o["kind"] not in _FIELDS]
    for each in rendered.objects:
        allowed = _FIELDS.get(each["kind"])
        if allowed is not None and set(each["spec"]) - allowed:
            found.append(f"{each['kind']} has no {sorted(set(each['spec']) - allowed)}")
    file = scratch / "core.yaml"
    file.write_text("\n---\n".join(msgspec.json.encode(o).decode() for o in core))
    for version in VERSIONS:
        result = run(tool("kubernetes-validate"), "--strict", "-k", version, file)
        if result.returncode or said(result).count("passed") != len(core):
            found.append(said(result))
    if rendered.of("Secret"):
        found.append("a secret stands in the manifests")
    return found


def _hardening(pod: Object, container: Object) -> list[str]:
    security, inner = pod.get("securityContext", {}), container.get("securityContext", {})
    wanted = {
        "it may run as root": security.get("runAsNonRoot") is True and security["runAsUser"] > 0,
        "any system call is allowed": security.get("seccompProfile") == {"type": "RuntimeDefault"},
        "its root file system can be written to": inner.get("readOnlyRootFilesystem") is True,
        "it may gain privileges": inner.get("allowPrivilegeEscalation") is False,
        "it keeps capabilities": inner.get("capabilities") == {"drop": ["ALL"]},
        "it gets a token of the cluster": pod.get("automountServiceAccountToken") is False,
        "its memory is unlimited": "memory" in container.get("resources", {}).get("limits", {}),
    }
    found = [problem for problem, ok in wanted.items() if not ok]
    found += [
        f"{variable['name']} is a secret in the environment"
        for variable in container["env"]
        if re.search(r"(PASSWORD|SECRET|KEY)$", variable["name"])
    ]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"] if mount.get("readOnly")}
    for variable in container["env"]:
        path = variable.get("value", "")
        if path.startswith("/") and str(Path(path).parent) not in mounts:
            found.append(f"nothing is mounted where {variable['name']} points")
    volumes = {volume["name"] for volume in pod["volumes"]}
    used = {mount["name"] for mount in container["volumeMounts"]}
    if volumes != used:
        found.append(f"volumes and mounts differ: {sorted(volumes ^ used)}")
    return found


def _probes(container: Object) -> list[str]:
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    return [
        f"{probe} must ask {path}"
        for probe, path in paths.items()
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "metrics"}
    ]


def _selectors(rendered: Rendered) -> list[str]:
    labels = rendered.only("Deployment")["spec"]["template"]["metadata"]["labels"]
    spec = rendered.only("Deployment")["spec"]
    chosen = {
        "Deployment": spec["selector"]["matchLabels"],
        "Service": rendered.only("Service")["spec"]["selector"],
        "PodDisruptionBudget": rendered.only("PodDisruptionBudget")["spec"]["selector"][
            "matchLabels"
        ],
        "NetworkPolicy": rendered.only("NetworkPolicy")["spec"]["podSelector"].get("matchLabels"),
    }
    for each in spec["template"]["spec"]["topologySpreadConstraints"]:
        chosen[f"spread over {each['topologyKey']}"] = each["labelSelector"]["matchLabels"]
    for each in rendered.of("PodMonitor"):
        chosen["PodMonitor"] = each["spec"]["selector"]["matchLabels"]
    return [
        f"{what} selects {selector}, not the workers alone"
        for what, selector in chosen.items()
        if selector != APP or not APP.items() <= labels.items()
    ]


def _network(policy: Object) -> list[str]:
    found = []
    if policy["policyTypes"] != ["Ingress", "Egress"]:
        found.append("one direction is open")
    found += [
        "more than Prometheus can come in"
        for rule in policy["ingress"]
        if not rule.get("from") or rule.get("ports") != [{"protocol": "TCP", "port": 9108}]
    ]
    for rule in policy["egress"]:
        ports = {port["port"] for port in rule.get("ports", ())}
        for peer in rule.get("to", [{}]):
            anywhere = not peer or "ipBlock" in peer
            if anywhere and ports != {443}:
                found.append("more than HTTPS goes out anywhere")
            if "ipBlock" in peer and "169.254.0.0/16" not in peer["ipBlock"].get("except", ()):
                found.append("the machine's metadata service can be reached")
            selector = peer.get("podSelector", {}).get("matchLabels", {})
            if ports == {53} and selector != {"k8s-app": "kube-dns"}:
                found.append("names cannot be looked up")
    if {53} not in [{p["port"] for p in rule["ports"]} for rule in policy["egress"]]:
        found.append("names cannot be looked up")
    return found


def _rollout(rendered: Rendered, spec: Object, pod: Object) -> list[str]:
    found = []
    if spec["strategy"].get("rollingUpdate") != {"maxUnavailable": 0, "maxSurge": 1}:
        found.append("a rollout stops workers before their successors work")
    if rendered.only("PodDisruptionBudget")["spec"].get("maxUnavailable") != 1:
        found.append("several workers may be evicted at a time")
    keys = {each["topologyKey"] for each in pod["topologySpreadConstraints"]}
    if "topology.kubernetes.io/zone" not in keys:
        found.append("all workers may stand in one zone")
    scaled = rendered.of("ScaledObject")
    if bool(scaled) == ("replicas" in spec):
        found.append("the number of replicas has two owners, or none")
    if not scaled and spec.get("replicas", 0) < 2:
        found.append("a single worker cannot be replaced while it works")
    for each in scaled:
        found += _autoscaling(each["spec"], rendered.only("TriggerAuthentication"))
    return found


def _autoscaling(spec: Object, authentication: Object) -> list[str]:
    found = []
    if not 2 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= 64:
        found.append("the bounds of the autoscaler are not from 2 to something bounded")
    if spec["fallback"]["replicas"] < 2:
        found.append("an autoscaler that cannot ask leaves too few workers")
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    if behavior["stabilizationWindowSeconds"] < 120 or behavior["policies"][0]["value"] != 1:
        found.append("scaling down is too quick to drain")
    kinds = set()
    for trigger in spec["triggers"]:
        metadata = trigger["metadata"]
        address = _AUTOSCALER.get(trigger["type"])
        if address is None:
            found.append(f"KEDA has no trigger {trigger['type']}")
            continue
        counted = {"lagCount", "activationLagCount"} & set(metadata) or {"pendingEntriesCount"}
        known = address | counted | {"stream", "consumerGroup"}
        if set(metadata) - {"databaseIndex"} != known:
            found.append(f"trigger {trigger['name']} has {sorted(set(metadata) ^ known)}")
        if any(not isinstance(value, str) for value in metadata.values()):
            found.append("KEDA takes text only")
        if "lagCount" in counted and int(metadata.get("activationLagCount", "0")) < 1:
            found.append("activationLagCount must be 1 or more")
        if "databaseIndex" in metadata and trigger["type"] == "redis-cluster-streams":
            found.append("a cluster has one database")
        if trigger["authenticationRef"]["name"] != authentication["metadata"]["name"]:
            found.append("a trigger signs in as nobody")
        kinds |= counted & {"lagCount", "pendingEntriesCount"}
    if kinds != {"lagCount", "pendingEntriesCount"}:
        found.append("lag and pending entries must both be looked at")
    return found


def _config(
    rendered: Rendered, container: Object, scratch: Path
) -> tuple[Config | None, list[str]]:
    data = rendered.only("ConfigMap")["data"]
    environ = {}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("configMapKeyRef")
        value = data.get(reference["key"], "") if reference else variable["value"]
        environ[variable["name"]] = value
    try:
        return worker_config.load(data["worker.toml"], environ, scratch), []
    except ConfigError as error:
        return None, [f"the worker would not start: {error}"]


def _agreement(rendered: Rendered, spec: Object, config: Config) -> list[str]:
    """Account, stream and addresses are the same wherever they are named."""
    found = []
    labels = spec["template"]["metadata"]["labels"]
    if labels.get("account") != config.account:
        found.append("the metrics are labelled with another account")
    if config.redis.username != "worker":
        found.append("it does not sign in as the user made for it")
    url = config.redis.url.reveal()
    for each in rendered.of("ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            metadata = trigger["metadata"]
            if metadata["stream"] != f"{{{config.account}}}:signals":
                found.append("KEDA looks at another stream")
            if metadata["consumerGroup"] != "execution":
                found.append("KEDA looks at another group")
            if metadata.get("addresses", metadata.get("address")) not in url:
                found.append("KEDA asks another Redis")
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_as_it_must_be(tmp_path: Path, overlay: str) -> None:
    """Each overlay renders, is valid for old and new clusters, hardened, drained and configured."""
    assert problems(KUBERNETES / "overlays" / overlay, tmp_path) == []


def test_live_is_live_and_paper_is_not(tmp_path: Path) -> None:
    """Only the live overlay sends real orders, and only it reaches the internet."""
    found = {}
    for overlay in OVERLAYS:
        rendered = Rendered(KUBERNETES / "overlays" / overlay)
        deployment = rendered.only("Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        config, _ = _config(rendered, container, tmp_path)
        assert config is not None
        internet = "0.0.0.0/0" in rendered.text
        found[overlay] = (config.mode, internet, deployment["metadata"]["namespace"])
    assert found == {
        "paper": ("paper", False, "execution-paper"),
        "live": ("live", True, "execution-live"),
    }


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    """A copy of the manifests."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    return (yield tmp_path / "kubernetes")


@pytest.mark.parametrize(
    ("topology", "url"),
    [
        ("standalone", "redis://redis.redis.svc:6379/0"),
        ("cluster", "redis+cluster://redis-0.redis.redis.svc:6379,redis-1.redis.redis.svc:6379,"
                    "redis-2.redis.redis.svc:6379"),
    ],
)  # fmt: skip
def test_every_topology_can_be_scaled(copy: Path, tmp_path: Path, topology: str, url: str) -> None:
    """The autoscaler of each Redis topology fits into the live overlay in place of Sentinel's."""
    file = copy / "overlays" / "live" / "kustomization.yaml"
    (old,) = re.findall(r"redis_url=(\S+)", file.read_text())
    changed(file, file, [("keda-sentinel", f"keda-{topology}"), (old, url)])
    assert problems(file.parent, tmp_path) == []


def test_the_operator_gets_the_same_rules() -> None:
    """The PrometheusRule holds exactly the groups of deploy/prometheus/rules."""
    assert prometheus_rule.TARGET.read_text() == prometheus_rule.text()
    groups = document(prometheus_rule.TARGET)["spec"]["groups"]
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"), reverse=True)
    assert groups == [group for file in files for group in document(file)["groups"]]


BASE: Final = "base/deployment.yaml"
KEDA: Final = "components/keda-sentinel/scaled-object.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (BASE, "terminationGracePeriodSeconds: 75", "terminationGracePeriodSeconds: 45",
         "killed after 45 s, drains for 45 s"),
        ("overlays/live/worker.toml", "drain_seconds = 45.0", "drain_seconds = 120.0",
         "drains for 120 s"),
        ("overlays/live/worker.toml", "max_daily_loss_pct", "max_daily_los_pct",
         "there is no such key"),
        ("overlays/live/exchange-secrets.yaml", "BINANCE__SECRET_FILE", "BINANCE__SECRETS_FILE",
         "would not start"),
        (BASE, "      terminationGracePeriodSeconds: 75\n", "", "killed after 30"),
        (BASE, "terminationGracePeriodSeconds", "terminationGrace", "terminationGrace"),
        (BASE, "runAsNonRoot: true", "runAsNonRoot: false", "it may run as root"),
        (BASE, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "written to"),
        (BASE, "drop: [ALL]", "drop: [NET_RAW]", "keeps capabilities"),
        (BASE, "      automountServiceAccountToken: false", "", "a token of the cluster"),
        (BASE, "type: RuntimeDefault", "type: Unconfined", "any system call"),
        (BASE, "httpGet: {path: /livez", "httpGet: {path: /readyz", "livenessProbe must ask"),
        (BASE, "startupProbe:", "startProbe:", "startProbe"),
        (BASE, "maxUnavailable: 0", "maxUnavailable: 1", "before their successors"),
        (BASE, "mountPath: /run/secrets/redis", "mountPath: /run/secrets/rediss",
         "nothing is mounted where"),
        (BASE, "account: main", "account: desk", "labelled with another account"),
        (BASE, "containerPort: 9108", "containerPort: 9109", "the port is not"),
        ("base/disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailable: 2", "evicted"),
        ("base/network-policy.yaml", "k8s-app: kube-dns", "app: dns", "names cannot be looked up"),
        ("base/network-policy.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]",
         "one direction is open"),
        ("base/kustomization.yaml", "part-of: execution-worker\n",
         "part-of: execution-worker\n    includeSelectors: true\n", "names cannot be looked up"),
        ("base/service.yaml", "selector:\n    app.kubernetes.io/name: execution-worker",
         "selector:\n    app: worker", "Service selects"),
        ("overlays/live/exchange-egress.yaml", "port: 443", "port: 80", "more than HTTPS"),
        ("overlays/live/exchange-egress.yaml", ", 169.254.0.0/16", "", "metadata service"),
        (KEDA, "minReplicaCount: 2", "minReplicaCount: 0", "bounds of the autoscaler"),
        (KEDA, 'activationLagCount: "1"', 'activationLagCount: "0"', "must be 1 or more"),
        (KEDA, 'lagCount: "50"', "lagCount: 50", "KEDA takes text only"),
        (KEDA, "pendingEntriesCount", "pendingCount", "pendingCount"),
        (KEDA, '"{main}:signals"', '"{other}:signals"', "another stream"),
        (KEDA, "consumerGroup: execution", "consumerGroup: workers", "another group"),
        (KEDA, "value: 1, periodSeconds: 120", "value: 8, periodSeconds: 15", "too quick"),
        (KEDA, "redis-sentinel-streams", "redis-sentinels", "KEDA has no trigger"),
        (KEDA, "pollingInterval", "pollInterval", "ScaledObject has no"),
        ("components/keda-sentinel/kustomization.yaml", "path: /spec/replicas",
         "path: /spec/minReadySeconds", "two owners"),
        ("components/pod-monitor/pod-monitor.yaml", "podTargetLabels", "targetLabels",
         "PodMonitor has no"),
    ],
)  # fmt: skip
def test_a_broken_manifest_is_found(
    copy: Path, tmp_path: Path, file: str, old: str, new: str, sentence: str
) -> None:
    """Break a copy of the manifests in any of these ways and the check of it fails."""
    changed(copy / file, copy / file, [(old, new)])
    assert sentence in "\n".join(problems(copy / "overlays" / "live", tmp_path))
