"""What a real process says and does about places where its secrets could be read."""

import tempfile
from pathlib import Path

from tests.acceptance.fleet import DEFAULTS, Fleet, WorkerProcess, command, toml

_SECRETS = {"exchanges.binance": {"base_url": "http://127.0.0.1:9"}}


def test_a_live_worker_leaves_no_core_dump(fleet: Fleet) -> None:
    """Its limit is 0, for good; its files are its own, so nothing is said."""
    worker = fleet.start_ready(1)[0]
    limits = Path(f"/proc/{worker.pid}/limits").read_text()
    assert [line.split()[-3:-1] for line in limits.splitlines() if "core file" in line] == [
        ["0", "0"]
    ]
    assert "process_open_fds" in worker.get("/metrics")[1]
    assert not worker.logged("core_dumps_possible")
    assert not worker.logged("secret_file_exposed")


def test_a_readable_secret_file_is_said(tmp_path: Path) -> None:
    """By the worker at its start and by ``check``; and that it is not, once it is not."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        config = directory / "worker.toml"
        config.write_text(toml(DEFAULTS, _SECRETS, {"redis": {"url": "redis://127.0.0.1:1/0"}}))
        config.chmod(0o644)
        worker = WorkerProcess(config, tmp_path / "worker.log")
        try:
            event = worker.until_logged("secret_file_exposed")
        finally:
            worker.close()
        assert event["file"] == str(config)
        assert event["reason"].startswith("can be read by every user")
        said = command("check", "--config", str(config)).stdout
        assert f"warn  secret files         {config} can be read by every user" in said
        config.chmod(0o600)
        said = command("check", "--config", str(config)).stdout
        assert "ok    secret files         1, none of them open to other users" in said
