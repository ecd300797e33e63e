"""Every image of others stands in one place, and its digest is looked up, never made up."""

import re
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.tools import DEPLOY, run, said

PLACE: Final = DEPLOY / ".env"
DIGEST: Final = "sha256:" + "ab" * 32
#: A registry's client that knows one digest.
CLIENTS: Final = {
    "docker": '#!/bin/sh\n[ "$1 $2 $3" = "buildx imagetools inspect" ] && echo "{answer}"\n',
    "skopeo": '#!/bin/sh\n[ "$1" = inspect ] && echo "{answer}"\n',
}


def images(file: Path) -> dict[str, str]:
    """The images by their variable."""
    return dict(re.findall(r"^(\w+_IMAGE)=(\S+)$", file.read_text(), re.MULTILINE))


def test_every_image_stands_in_one_place() -> None:
    """Compose has variables only; the Dockerfile's default is that of the one place."""
    compose = (DEPLOY / "compose.yaml").read_text()
    named = re.findall(r"^ +image: (\S+)$", compose, re.MULTILINE)
    known = images(PLACE)
    assert {f"${{{name}:?}}" for name in known if name != "PYTHON_IMAGE"} == {
        *named,
    } - {"execution-worker"}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"\nARG PYTHON_IMAGE={known['PYTHON_IMAGE']}\n" in dockerfile
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert set(bases) == {"${PYTHON_IMAGE}"}
    kubernetes = "\n".join(file.read_text() for file in (DEPLOY / "kubernetes").rglob("*.yaml"))
    assert set(re.findall(r"\bimage: (\S+)", kubernetes)) == {"execution-worker"}


def test_every_image_has_a_version_and_a_digest() -> None:
    """A whole one; the documents name two repositories for each that record it."""
    documents = (DEPLOY.parent / "docs" / "deployment.md").read_text()
    for image in images(PLACE).values():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d[\w.-]*@sha256:[0-9a-f]{64}", image), image
        (row,) = re.findall(
            rf"^\| `{re.escape(image.partition('@')[0])}` \| (.*)$", documents, re.M
        )
        assert len(set(re.findall(r"`([\w.-]+/[\w.-]+)` \(", row))) >= 2, image


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what is pinned, beside the script."""
    for name in (".env", "Dockerfile", "pin_images.sh"):
        shutil.copy(DEPLOY / name, tmp_path / name)
    return tmp_path


def pin(copy: Path, client: str, answer: str) -> tuple[int, str]:
    """Run the script where only that client is, which gives that answer."""
    programs = copy / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("sh", "sed", "grep", "mv", "rm", "dirname"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(str(shutil.which(name)))
    if client:
        file = programs / client
        file.write_text(CLIENTS[client].format(answer=answer))
        file.chmod(0o755)
    done = run("env", "-i", f"PATH={programs}", str(programs / "sh"), str(copy / "pin_images.sh"))
    return done.returncode, said(done)


@pytest.mark.parametrize("client", CLIENTS)
def test_digests_are_written_where_the_images_stand(copy: Path, client: str) -> None:
    """Behind each tag, in the Dockerfile too; again, they are replaced."""
    before = images(PLACE)
    for digest in (DIGEST, DIGEST.replace("ab", "cd")):
        assert pin(copy, client, digest) == (0, "")
        tags = {name: image.partition("@")[0] for name, image in before.items()}
        assert images(copy / ".env") == {name: f"{tag}@{digest}" for name, tag in tags.items()}
        assert (
            f"ARG PYTHON_IMAGE={tags['PYTHON_IMAGE']}@{digest}\n"
            in (copy / "Dockerfile").read_text()
        )
    assert not (copy / ".env.new").exists()


@pytest.mark.parametrize(
    ("client", "answer"), [("docker", ""), ("skopeo", "sha256:12"), ("docker", "denied"), ("", "")]
)
def test_without_an_answer_nothing_is_written(copy: Path, client: str, answer: str) -> None:
    """A digest is one or the script fails."""
    before = (copy / ".env").read_text()
    code, words = pin(copy, client, answer)
    assert code == 1
    assert "pin_images.sh: " in words
    assert (copy / ".env").read_text() == before
