"""What the machine is, what a process has used, and how much the machine itself wavers."""

import os
import platform
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
#: Rounds of the calibration loop: some 20 ms of nothing but computing.
_ROUNDS: Final = 300_000
#: More than this makes a machine count as busy: others' share of the processors, the loop's spread.
BUSY_SHARE: Final = 0.05
BUSY_SPREAD: Final = 0.25


def cpu_s(pid: int) -> float:
    """Processor seconds a process has used, user and system, all its present threads."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        # To the nanosecond; the ticks below are 10 ms each.
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (FileNotFoundError, IndexError):
        # The name, in parentheses, may contain blanks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_kb(pid: int) -> int:
    """Resident memory of a process, KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB


def calibrate() -> float:
    """Milliseconds a fixed amount of computing takes now."""
    started, value = time.perf_counter(), 0
    for n in range(_ROUNDS):
        value = (value * 31 + n) & 0xFFFFFF
    return (time.perf_counter() - started) * 1000


class Noise(msgspec.Struct, kw_only=True):
    """How steady the machine was while a benchmark ran.

    ``others`` is the share of all processors that went to programs that are not ours, ``spread``
    the calibration loop's ``(max - min) / median``.
    """

    calibration_ms: list[float]
    median_ms: float
    spread: float
    others: float
    load_before: float
    load_after: float

    @property
    def busy(self) -> bool:
        """Whether the figures have to be taken with caution."""
        return self.others > BUSY_SHARE or self.spread > BUSY_SPREAD

    def sentence(self) -> str:
        """In words, for a person."""
        text = (
            f"calibration loop {self.median_ms:.1f} ms (median of {len(self.calibration_ms)}), "
            f"spread {self.spread:.0%}; other programs took {self.others:.0%} of the machine; "
            f"load average {self.load_before:.1f} before, {self.load_after:.1f} after"
        )
        return f"BUSY MACHINE, take with caution: {text}" if self.busy else text


class NoiseMeter:
    """Calibrates whenever asked, and tells what it saw."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._load = os.getloadavg()[0]
        self._started = time.monotonic()
        self._busy, self._own = _busy_s(), _own_s()

    def sample(self) -> None:
        """Run the calibration loop once."""
        self._times.append(calibrate())

    @contextmanager
    def around(self) -> Iterator[None]:
        """Calibrate before and after one run."""
        self.sample()
        yield
        self.sample()

    def noise(self) -> Noise:
        """What was seen so far; every process of ours has to be waited for by now."""
        times = self._times or [calibrate()]
        median = statistics.median(times)
        available = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        others = (_busy_s() - self._busy) - (_own_s() - self._own)
        return Noise(
            calibration_ms=[round(one, 3) for one in times],
            median_ms=median,
            spread=(max(times) - min(times)) / median,
            others=min(max(others / available, 0.0), 1.0),
            load_before=self._load,
            load_after=os.getloadavg()[0],
        )


def _busy_s() -> float:
    """Processor seconds the whole machine has worked, or was kept from working by its host."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    times = dict(zip(names, map(int, first), strict=False))
    return (sum(times.values()) - times["idle"] - times["iowait"]) / _TICKS


def _own_s() -> float:
    """Processor seconds of this process and of all its children that were waited for."""
    return sum(os.times()[:4])


class Machine(msgspec.Struct, kw_only=True):
    """Where a benchmark ran."""

    processor: str
    processors: int
    memory_gb: float
    system: str
    python: str

    def sentence(self) -> str:
        """In words, for a person."""
        return (
            f"{self.processors} x {self.processor}, {self.memory_gb:.0f} GB, {self.system}, "
            f"Python {self.python}"
        )


def describe() -> Machine:
    """The machine this runs on."""
    cpu = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in cpu.splitlines() if "model name" in line]
    total_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return Machine(
        processor=models[0] if models else platform.machine(),
        processors=os.cpu_count() or 1,
        memory_gb=total_kb / 1024 / 1024,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )
