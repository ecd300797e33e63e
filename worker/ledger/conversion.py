"""Brings what an account stores up to this version's format, or says why that cannot be."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from worker.domain.position_json import encode_position, read_position
from worker.ledger.access import Access
from worker.ledger.layouts import read_row
from worker.ledger.published import read_heartbeats
from worker.ledger.scripts import Scripts
from worker.ledger.stored import read_book_row
from worker.ledger.stored_format import FIRST_FORMAT, FORMAT, Conversion, StoredFormatReply
from worker.ledger.words import Converting
from worker.runtime.errors import ConfigError, WorkerError

#: For how long at least a heartbeat tells of a worker that may be alive.
LIFETIME_MS: Final = 60_000
#: ... and for how many leases: one that Redis could not be reached from may come back.
LIFETIME_LEASES: Final = 4
#: Rows converted in one step.
PORTION: Final = 100


class OlderWorkersError(WorkerError):
    """Workers may be alive that know only an older format: nothing was converted."""


def lifetime_ms(lease_ms: int) -> int:
    """Return for how long a heartbeat tells of a worker that may be alive."""
    return max(LIFETIME_MS, LIFETIME_LEASES * lease_ms)


def newer_format(version: int) -> str:
    """Return a sentence on a stored format that this version does not know; empty if it does."""
    if version <= FORMAT:
        return ""
    return (
        f"the account is stored in format {version} and this version knows {FORMAT}: start a "
        "version at least as new as the one that has written it (docs/upgrade.md)"
    )


def older_workers(silent_ms: Mapping[str, int], lifetime: int) -> str:
    """Return a sentence on workers of an older version, by name; empty if there are none.

    Args:
        silent_ms: for how long each has not been heard of.
        lifetime: for how many milliseconds a heartbeat counts.
    """
    if not silent_ms:
        return ""
    names = ", ".join(
        f"{name} (heard of {ms / 1000:.0f} s ago)" for name, ms in sorted(silent_ms.items())
    )
    return (
        f"workers of an older version may be alive: {names}. Stop them all, then start this one; "
        f"one that was killed counts until it has been silent for {lifetime / 1000:.0f} s "
        "(docs/upgrade.md)"
    )


async def format_problem(access: Access, lease_ms: int) -> str:
    """Return why a worker of this version could not start on the account; empty if it could.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    stored = await access.ask_one("HGET", access.key("format"), "version")
    version = int(stored or FIRST_FORMAT)
    if version >= FORMAT:
        return newer_format(version)
    lifetime = lifetime_ms(lease_ms)
    now_ms, heartbeats = await read_heartbeats(access)
    silent_ms = {
        name: max(now_ms - beat.at_ms, 0)
        for name, beat in heartbeats.items()
        if int(beat.status.get("format", FIRST_FORMAT)) < FORMAT
    }
    alive = {name: ms for name, ms in silent_ms.items() if ms <= lifetime}
    return older_workers(alive, lifetime)


async def bring_up_to_date(scripts: Scripts, *, worker: str, lease_ms: int) -> int:
    """Convert what is stored in an older format; an account that has nothing stored is marked.

    Each position is converted in a step of its own, at once and wholly, as long as no older worker
    may be alive; whoever is broken off is gone on with. The format is written down last.

    Args:
        scripts: run on the account.
        worker: consumer name, written down beside the format.
        lease_ms: of this worker's leases.

    Returns:
        How many positions were converted.

    Raises:
        ConfigError: a newer version has converted the account.
        OlderWorkersError: an older worker may be alive.
        LedgerError: Redis cannot be asked.
    """
    lifetime = lifetime_ms(lease_ms)

    async def step(what: Converting, rows: Sequence[Conversion] = ()) -> int:
        flat = [part for row in rows for part in row]
        reply = read_row(
            StoredFormatReply,
            await scripts.run("convert", FORMAT, worker, lifetime, what.value, *flat),
        )
        if problem := newer_format(int(reply.version)):
            raise ConfigError("", problem)
        if problem := older_workers(_silent_ms(reply.older), lifetime):
            raise OlderWorkersError(problem)
        return int(reply.version)

    if await step(Converting.LOOK) == FORMAT:
        return 0
    converted = 0
    while rows := list(_old_rows(await scripts.run("read_book")))[:PORTION]:
        await step(Converting.ROWS, rows)
        converted += len(rows)
    await step(Converting.DONE)
    return converted


def _silent_ms(flat: Sequence[bytes | int]) -> dict[str, int]:
    return {
        name.decode(errors="replace"): int(ms)
        for name, ms in zip(flat[::2], flat[1::2], strict=True)
        if isinstance(name, bytes)
    }


def _old_rows(flat: Sequence[bytes]) -> Iterator[Conversion]:
    """Yield the rows of the book whose position is not as this version writes it."""
    for key, raw in zip(flat[::2], flat[1::2], strict=True):
        stored = read_book_row(raw).position
        if not stored:
            continue
        try:
            position = encode_position(read_position(stored))
        except msgspec.MsgspecError:
            continue  # in no form that there is: whoever reads the book says so
        if position != stored:
            yield Conversion(key, raw, raw.removesuffix(stored) + position)
