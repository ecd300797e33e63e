"""Writes the PrometheusRule from the rule files: python -m tests.deploy.prometheus_rule."""

from typing import Final

from tests.deploy.tools import DEPLOY

TARGET: Final = DEPLOY / "kubernetes" / "components" / "pod-monitor" / "prometheus-rule.yaml"
_HEAD: Final = """\
# Written from deploy/prometheus/rules by tests/deploy/prometheus_rule.py: change those.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: execution-worker
spec:
  groups:
"""


def text() -> str:
    """The object, its groups being those of the rule files."""
    lines = []
    for name in ("recording", "alerts"):
        content = (DEPLOY / "prometheus" / "rules" / f"{name}.yaml").read_text()
        lines += content.partition("groups:\n")[2].splitlines()
    return _HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    TARGET.write_text(text())
