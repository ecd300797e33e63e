"""``check``: try everything a worker needs before one is started."""

import asyncio
import os
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from worker.assembly.api_keys import key_digest, sentence
from worker.assembly.factory import ExchangeFactory, is_simulated
from worker.cli import output, session
from worker.cli.environment import configuration
from worker.cli.exit_codes import BAD_CONFIG
from worker.cli.lines import fitted, line_width
from worker.cli.python_build import slowness
from worker.config.keys import Config
from worker.config.secret_files import exposures, secret_files
from worker.domain.signature import shared_signal_ids
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.errors import LedgerError
from worker.ledger.limits import AHEAD_MS
from worker.operator.attention import stream_ahead
from worker.operator.reader import AccountReader
from worker.runtime.clock import Clock, SystemClock
from worker.runtime.counted import count_of
from worker.runtime.errors import ConfigError, WorkerError

#: An exchange that has not loaded its markets in this time counts as unreachable.
EXCHANGE_TIMEOUT_S: Final = 30.0


#: How long level and subject are, where a line goes on that is too long for the screen.
_HEAD: Final = 5 + 1 + 20 + 1


class Finding(NamedTuple):
    """One line of the result: level (``ok``, ``warn`` or ``FAIL``), subject and detail."""

    level: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.level:<5} {self.subject:<20} {self.detail}"


def configure(parser: ArgumentParser) -> None:
    """Describe the command, which has no arguments of its own."""
    parser.description = (
        "Try the configuration, Redis, and each exchange's markets, credentials and clock: one "
        "line each, one for each setting of an account that its orders depend on, for what a thief "
        "of the API key could do, for files that show secrets, and one if Python is a slow build. "
        "Exit 1 if any fails, 78 if it is the configuration."
    )


def run(options: Namespace) -> int:
    """Run the checks and print a line for each as it ends."""
    try:
        config = configuration(options)
    except ConfigError as error:
        _say(Finding("FAIL", "configuration", str(error)))
        return BAD_CONFIG
    for finding in _secret_files(secret_files(options.config, os.environ)):
        _say(finding)
    return session.run(_check(config))


def _say(finding: Finding) -> None:
    output.say(*fitted(str(finding), line_width(), _HEAD, _HEAD), flush=True)


def _secret_files(files: tuple[Path, ...]) -> Iterator[Finding]:
    """Yield a finding for each file that shows secrets to other users, or one that none does."""
    exposed = exposures(files, os.environ)
    for file, reason in exposed.items():
        yield Finding("warn", "secret files", f"{file} {reason}")
    if files and not exposed:
        yield Finding("ok", "secret files", f"{len(files)}, none of them open to other users")


async def _check(config: Config) -> int:
    has_failed = False
    async for finding in findings(config, SystemClock()):
        _say(finding)
        has_failed |= finding.level == "FAIL"
    return 1 if has_failed else 0


async def findings(config: Config, clock: Clock) -> AsyncIterator[Finding]:
    """Yield findings on the configuration, on Redis, and on each exchange and its account."""
    yield _configuration(config)
    for finding in _signatures(config):
        yield finding
    yield await _redis(config)
    factory = ExchangeFactory(config, clock)
    try:
        names = list(config.exchanges)
        checks = [asyncio.ensure_future(_exchange(factory, name, config)) for name in names]
        for check in checks:
            for finding in await check:
                yield finding
    finally:
        await factory.close()
    reason = slowness()
    if reason:
        yield Finding("warn", "python", reason)


def _configuration(config: Config) -> Finding:
    names = ", ".join(f"{name} ({_kind(config, name)})" for name in config.exchanges)
    detail = f"mode {config.mode}, account {config.account}, exchanges: {names or 'none'}"
    return Finding("ok" if config.exchanges else "warn", "configuration", detail)


def _signatures(config: Config) -> Iterator[Finding]:
    """Yield what lets one strategy act for another although signals are signed."""
    shared = tuple(shared_signal_ids(config.signatures.signing_keys))
    if shared:
        one, other, first, second = shared[0]
        more = f"; so may {len(shared) - 1} more pairs of keys" if len(shared) > 1 else ""
        yield Finding(
            "warn",
            "signatures",
            f'keys {one} ("{first}") and {other} ("{second}") are of different strategies and may '
            f"sign the same signal ids: one can take the other's{more}; give each signal_ids of "
            "its own",
        )
    if config.risk.close_only_own and not config.validation.require_signature:
        yield Finding(
            "warn",
            "signatures",
            "risk.close_only_own goes by strategy_id, and without validation.require_signature "
            "any producer may claim any",
        )


def _kind(config: Config, name: str) -> str:
    section = config.exchanges[name]
    if is_simulated(config, name):
        return "simulated"
    return "sandbox" if section.sandbox else "LIVE"


async def _redis(config: Config) -> Finding:
    if config.redis.url.reveal() == "embedded":
        return Finding("ok", "redis", "a private server, started and stopped with the worker")
    try:
        async with AccountReader(config, name="check") as reader:
            facts = await reader.server()
            state = (await reader.trading.read()).control.trading_state
            ahead = await reader.streams_ahead()
            problem = await reader.format_problem()
    except (LedgerError, ConfigError) as error:
        return Finding("FAIL", "redis", str(error))
    detail = [f"{facts.address}, {facts.product}, {facts.role}, trading {state}"]
    level = "ok"
    if facts.eviction not in {"", "noeviction"}:
        level = "warn"
        detail.append(
            f"maxmemory-policy is {facts.eviction}: it may drop the ledger, set noeviction"
        )
    if config.mode == "live" and not facts.append_only:
        level = "warn"
        detail.append("appendonly is off: a restart forgets what was sent")
    if facts.role not in {"master", ""}:
        level = "FAIL"
        detail.append(f"this server is a {facts.role}, the ledger needs the primary")
    if problem:
        level = "FAIL"
        detail.append(problem)
    for stream, ahead_ms in ahead.items():
        if ahead_ms > AHEAD_MS:
            level = "FAIL"
            detail.append(stream_ahead(stream, ahead_ms))
    return Finding(level, "redis", "; ".join(detail))


async def _exchange(factory: ExchangeFactory, name: str, config: Config) -> list[Finding]:
    """Return a finding on the exchange, on each setting of the account, on each piece of advice."""
    try:
        adapter = factory.get(name)
    except WorkerError as error:
        return [Finding("FAIL", f"exchange {name}", str(error) or type(error).__name__)]
    started = await _started(adapter, name, config)
    subject = f"account {name}"
    settings = [Finding(one.level.value, subject, str(one)) for one in adapter.findings]
    advice = [Finding("warn", f"exchange {name}", text) for text in adapter.advice]
    return [started, *settings, *advice]


async def _started(adapter: ExchangeAdapter, name: str, config: Config) -> Finding:
    subject = f"exchange {name}"
    try:
        if in_use := await _key_in_use(adapter, name, config):
            return Finding("warn", subject, f"not tried: {in_use}")
        async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
            await adapter.start()
    except TimeoutError:
        return Finding("FAIL", subject, f"no answer within {EXCHANGE_TIMEOUT_S:g} s")
    except WorkerError as error:
        return Finding("FAIL", subject, str(error) or type(error).__name__)
    if adapter.obstacle:
        return Finding("FAIL", subject, f"no order can be sent: {adapter.obstacle}")
    if is_simulated(config, name):
        return Finding("ok", subject, "simulated: no credentials, no clock of its own")
    return _clock(adapter, subject, config)


async def _key_in_use(adapter: ExchangeAdapter, name: str, config: Config) -> str:
    """Return why this exchange's API key must not be used beside a worker; empty if it may be.

    Requests of two processes with one key may arrive in the wrong order, which the exchange
    refuses; a running worker's orders must not suffer from a check.
    """
    section = config.exchanges[name]
    if adapter.workers_per_key != 1 or not section.api_key:
        return ""
    if config.redis.url.reveal() == "embedded":
        return ""
    try:
        async with AccountReader(config, name="check") as reader:
            digest = key_digest(config.account, section)
            holder = await reader.key_holder(digest)
    except (LedgerError, ConfigError):
        return ""  # the finding on Redis says it
    return sentence(name, holder, adapter.workers_per_key) if holder else ""


def _clock(adapter: ExchangeAdapter, subject: str, config: Config) -> Finding:
    clock, allowed_ms = adapter.clock_offset, config.execution.max_clock_skew_ms
    markets = sum(1 for _ in adapter.symbols())
    measured = f"clock {clock.offset_ms:+.0f} ms (± {clock.uncertainty_ms:.0f})"
    if abs(clock.offset_ms) > allowed_ms:
        limit = f"more than execution.max_clock_skew_ms, {allowed_ms}"
        return Finding("FAIL", subject, f"{measured}: {limit}")
    return Finding(
        "ok", subject, f"{count_of(markets, 'market')}, credentials accepted, {measured}"
    )
