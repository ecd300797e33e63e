"""The systemd unit: understood, hardened, watched, and given time to drain."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.deploy import worker_config
from tests.deploy.tools import DEPLOY, changed, missing, run, said, tool
from worker.config.keys import Config
from worker.observe.health import MAX_BEAT_AGE_MS
from worker.observe.notify import START_EXTENSION_S, Notifier
from worker.runtime.errors import ConfigError

SYSTEMD: Final = DEPLOY / "systemd"
UNIT: Final = "execution-worker@.service"
#: systemd's own measure from 0 (confined) to 10 (exposed), in tenths.
MAX_EXPOSURE: Final = 15
PR_SET_MDWE: Final = 65


def settings(directory: Path, *, live: bool) -> dict[str, list[str]]:
    """The unit's settings, with the drop-in for live trading or without."""
    files = [directory / UNIT]
    if live:
        files += sorted((directory / f"{UNIT}.d").glob("*.conf"))
    found: dict[str, list[str]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            name, separator, value = line.partition("=")
            if separator and not line.startswith("#"):
                found.setdefault(name, []).append(value)
    return found


def seconds(value: str) -> float:
    """A systemd time span in seconds."""
    number, unit = re.fullmatch(r"(\d+)(s|min|ms)", value).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "min": 60, "ms": 0.001}[unit]


def problems(directory: Path, scratch: Path) -> list[str]:
    """What is wrong with a copy of the unit, a sentence each."""
    found = _analyzed(directory, scratch)
    for live, name in ((False, "paper"), (True, "live")):
        unit = settings(directory, live=live)
        toml = (DEPLOY / "config" / f"{name}.toml").read_text()
        environ = dict(each.split("=", 1) for each in unit["Environment"])
        environ["WORKER_HTTP__PORT"] = environ.get("WORKER_HTTP__PORT", "").replace("%i", "1")
        credentials = {each.split(":")[0] for each in unit.get("LoadCredential", ())}
        wanted = {v.removeprefix("%d/") for k, v in environ.items() if k.endswith("_FILE")}
        if credentials != wanted:
            found.append(f"{name}: credentials {sorted(credentials)}, wanted {sorted(wanted)}")
        try:
            config = worker_config.load(toml, environ, scratch)
        except ConfigError as error:
            found.append(f"{name}: the worker would not start: {error}")
        else:
            found += _times(unit, config)
    return found


def _analyzed(directory: Path, scratch: Path) -> list[str]:
    """What systemd-analyze says; it ends well on unknown keys, so anything it says counts."""
    analyze = tool("systemd-analyze")
    there = scratch / "systemd"
    shutil.copytree(directory, there, dirs_exist_ok=True)
    text = (there / UNIT).read_text()
    (there / UNIT).write_text(
        text.replace("/opt/execution-worker/bin/execution-worker", "/bin/true")
    )
    verdict = run(analyze, "verify", there / UNIT)
    found = [said(verdict)] if said(verdict) or verdict.returncode else []
    exposure = run(
        analyze, "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", there / UNIT
    )
    if exposure.returncode:
        found.append(f"too exposed: {exposure.stdout.strip().splitlines()[-1]}")
    return found


def _times(unit: dict[str, list[str]], config: Config) -> list[str]:
    found = []
    stop = seconds(unit["TimeoutStopSec"][0])
    if stop < config.worker.drain_seconds + 10:
        found.append(f"killed after {stop:g} s, drains for {config.worker.drain_seconds:g} s")
    if unit["Type"] != ["notify"] or unit.get("NotifyAccess") != ["main"]:
        found.append("it is not told when the worker is ready")
    watchdog = seconds(unit.get("WatchdogSec", ["0s"])[0])
    if watchdog < 2 * MAX_BEAT_AGE_MS / 1_000:
        found.append("the watchdog is off, or quicker than the worker's own check")
    if seconds(unit["TimeoutStartSec"][0]) < START_EXTENSION_S:
        found.append("a start that waits would be killed")
    if unit.get("RestartPreventExitStatus") != ["78"] or unit.get("Restart") != ["always"]:
        found.append("restarted when it must not be, or not when it must")
    if unit.get("DynamicUser") != ["yes"]:
        found.append("it has no user of its own")
    if unit.get("LimitCORE") != ["0"]:
        found.append("its memory may be written to a core dump")
    if unit.get("KillSignal") != ["SIGTERM"]:
        found.append("it is not asked to drain")
    return found


def test_the_unit_is_as_it_must_be(tmp_path: Path) -> None:
    """Every line is understood, the unit confined; both configurations start and drain."""
    assert problems(SYSTEMD, tmp_path) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (UNIT, "TimeoutStopSec=75s", "TimeoutStopSec=45s", "killed after 45 s, drains for 45 s"),
        (UNIT, "ProtectHome=", "ProtectHomes=", "ProtectHomes"),
        (UNIT, "Type=notify", "Type=simple", "not told when"),
        (UNIT, "WatchdogSec=30s", "WatchdogSec=5s", "the watchdog"),
        (UNIT, "RestartPreventExitStatus=78", "RestartPreventExitStatus=70", "restarted when"),
        (UNIT, "DynamicUser=yes", "User=root", "no user of its own"),
        (UNIT, "SystemCallFilter=@system-service\n", "", "too exposed"),
        (UNIT, "CapabilityBoundingSet=\n", "", "too exposed"),
        (UNIT, "LoadCredential=redis_password", "LoadCredential=password", "credentials"),
        (UNIT, "WORKER_HTTP__PORT=910%i", "WORKER_HTTP__PORT=9100%i", "would not start"),
        (UNIT, "LimitCORE=0", "LimitCORE=infinity", "a core dump"),
        (UNIT, "KillSignal=SIGTERM", "KillSignal=SIGKILL", "not asked to drain"),
        (f"{UNIT}.d/binance.conf", "BINANCE__SECRET_FILE", "BINANCE__SECRETS_FILE",
         "would not start"),
    ],
)  # fmt: skip
def test_a_broken_unit_is_found(
    tmp_path: Path, file: str, old: str, new: str, sentence: str
) -> None:
    """Break a copy of the unit in any of these ways and the check of it fails."""
    copy = tmp_path / "copy"
    shutil.copytree(SYSTEMD, copy)
    changed(copy / file, copy / file, [(old, new)])
    assert sentence in "\n".join(problems(copy, tmp_path))


def test_the_watchdog_is_fed_often_enough() -> None:
    """The worker's beat comes at least twice within the unit's WatchdogSec."""
    watchdog = seconds(settings(SYSTEMD, live=True)["WatchdogSec"][0])
    notifier = Notifier(
        {"NOTIFY_SOCKET": "/run/nobody", "WATCHDOG_USEC": str(int(watchdog * 1_000_000))}
    )
    assert notifier.interval_s <= watchdog / 2


def test_the_libraries_live_without_writable_code() -> None:
    """What a worker imports and signs with runs under the rule of MemoryDenyWriteExecute."""
    if sys.platform != "linux":
        missing("only Linux can deny memory that is both writable and executable")
    libc = ctypes.CDLL(None, use_errno=True)
    probe = f"import ctypes,sys; sys.exit(ctypes.CDLL(None).prctl({PR_SET_MDWE},1,0,0,0) != 0)"
    if run(sys.executable, "-c", probe).returncode:
        missing("this kernel is too old to deny writable and executable memory (6.3 can)")
    work = (
        "import mmap, uvloop, hiredis, msgspec, ccxt.async_support, coincurve;"
        "from cryptography.hazmat.primitives.asymmetric import ed25519;"
        "coincurve.PrivateKey().sign(b'x'); ed25519.Ed25519PrivateKey.generate().sign(b'x');"
        "uvloop.new_event_loop().close();"
        "every = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC\n"
        "try: mmap.mmap(-1, 4096, prot=every)\n"
        "except OSError: print('denied')"
    )
    result = subprocess.run(
        [sys.executable, "-c", work],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: libc.prctl(PR_SET_MDWE, 1, 0, 0, 0),
    )
    assert result.stdout.strip() == "denied", result.stderr
