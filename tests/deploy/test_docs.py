"""The operators' documents: every link leads somewhere, every command and key they name exists."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.test_prometheus import alerts
from tests.deploy.tools import DEPLOY, ROOT
from worker.cli.main import COMMANDS
from worker.config.fields import walk

DOCS: Final = ("runbook.md", "deployment.md", "security.md")


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", DOCS)
def test_every_link_leads_somewhere(name: str) -> None:
    """Files and headings that a document links to are there."""
    text = (ROOT / "docs" / name).read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = ROOT / "docs" / (file or name)
        assert target.exists(), f"{name} links to {file}"
        assert not anchor or anchor in anchors(target.read_text()), f"{name} links to #{anchor}"


@pytest.mark.parametrize("name", DOCS)
def test_every_command_and_key_exists(name: str) -> None:
    """Commands, make targets, files and configuration keys in the text are real ones."""
    text = (ROOT / "docs" / name).read_text()
    for command in re.findall(r"`execution-worker ([a-z]+(?:-[a-z]+)*)", text):
        assert command in COMMANDS, f"{name}: execution-worker {command}"
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert f"\n{target}:" in targets, f"{name}: make {target}"
    for path in re.findall(r"`((?:deploy|tests)/[\w./@-]+)`", text):
        assert (ROOT / path).exists(), f"{name}: {path}"
    keys = {".".join(path) for path, _ in walk()}
    tables = {".".join(key.split(".")[:depth]) for key in keys for depth in (1, 2)}
    sections = {key.partition(".")[0] for key in keys if "." in key}
    found = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_.<>]+)(?: = [^`]+)?`", text)
    assert found, f"{name} names no key"
    for key in found:
        file = (DEPLOY / "redis" / key).exists() or (ROOT / "docs" / key).exists()
        assert key in keys | tables or file, f"{name}: {key}"


def test_each_alert_says_whether_it_wakes_somebody() -> None:
    """A section of the runbook begins with the severity that the alert really has."""
    text = (ROOT / "docs" / "runbook.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n\n(\*\*\w+\.\*\*)", text, re.MULTILINE))
    wanted = {"page": "**Page.**", "ticket": "**Ticket.**"}
    assert sections == {
        name: wanted[alert["labels"]["severity"]] for name, alert in alerts().items()
    }


def test_the_documents_are_checked_where_they_stand(tmp_path: Path) -> None:
    """A heading that is renamed takes its anchor with it, so a stale link is found."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    assert "changing-a-key" in anchors(text)
    assert "changing-a-key" not in anchors(text.replace("## Changing a key", "## Keys"))
