"""Files that hold secrets, and which of them other users can read or change."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.config.secret_files import exposures, secret_files


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def test_secret_files_are_those_that_keys_are_read_from(tmp_path: Path) -> None:
    """Named by a variable, or the configuration itself if a secret stands in it."""
    plain, secret = tmp_path / "plain.toml", tmp_path / "secret.toml"
    plain.write_text('account = "main"\n[exchanges.binance]\nadapter = "ccxt"\napi_key = ""\n')
    secret.write_text('[exchanges.binance]\nadapter = "ccxt"\napi_key = "k"\n')
    environ = {
        "WORKER_REDIS__PASSWORD_FILE": "/a",
        "WORKER_EXCHANGES__BINANCE__SECRET_FILE": "/b",
        "WORKER_SIGNATURES__KEYS__ONE__SECRET_FILE": "/c",
        "WORKER_ACCOUNT": "main",
        "HOME_FILE": "/d",
        "WORKER_CONFIG": str(secret),
    }
    named = {Path("/a"), Path("/b"), Path("/c")}
    assert set(secret_files(plain, environ)) == named
    assert set(secret_files(None, environ)) == named | {secret}
    assert secret_files(None, {}) == ()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o600, ""),
        (0o400, ""),
        (0o640, ""),  # the group is the administrator's choice
        (0o644, "can be read by every user"),
        (0o604, "can be read by every user"),
        (0o666, "can be changed by every user"),
        (0o620, "can be changed by group"),
    ],
)
def test_a_file_open_to_other_users_is_named(open_directory: Path, mode: int, reason: str) -> None:
    """With what to do; through a link, too."""
    file, link = open_directory / "secret", open_directory / "link"
    file.write_text("s")
    file.chmod(mode)
    link.symlink_to(file)
    for path in (file, link):
        assert exposures((path,), {}).get(path, "").startswith(reason)
        assert bool(exposures((path,), {})) == bool(reason)


def test_a_closed_directory_keeps_others_out(open_directory: Path) -> None:
    """As that of compose's secrets does, which containers read under other user ids."""
    closed = open_directory / "secrets"
    closed.mkdir(mode=0o700)
    file = closed / "secret"
    file.write_text("s")
    file.chmod(0o444)
    assert exposures((file,), {}) == {}
    closed.chmod(0o755)
    assert file in exposures((file,), {})


def test_what_a_service_manager_hands_over_is_its_affair(open_directory: Path) -> None:
    """Mounted for one container, or systemd's credentials: 0444 is how those are read."""
    file = open_directory / "secret"
    file.write_text("s")
    file.chmod(0o444)
    assert exposures((file,), {"CREDENTIALS_DIRECTORY": str(open_directory)}) == {}
    assert exposures((Path("/run/secrets/redis/password"), Path("/no/such/file")), {}) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_owner_is_named(open_directory: Path) -> None:
    """Who owns a file can change it, whatever its mode."""
    file = open_directory / "secret"
    file.write_text("s")
    file.chmod(0o400)
    os.chown(file, 12_345, 12_345)
    assert exposures((file,), {})[file].startswith("belongs to user 12345")
