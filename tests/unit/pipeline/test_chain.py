"""Signals in hand together go through each stage together; a lone one goes straight on."""

import asyncio

from worker.pipeline.chain import Chain


def chain_of(seen: list[str], crowd: int) -> "Chain[str, str]":
    async def first(name: str) -> str:
        seen.append(f"{name} first")
        return name

    async def second(name: str) -> str:
        seen.append(f"{name} second")
        return name

    return Chain.of(lambda _name: lambda _seconds: None, range(crowd), "first", first).then(
        "second", second
    )


async def test_a_crowd_takes_every_stage_in_step() -> None:
    """Nobody enters the second stage before everybody has left the first."""
    seen: list[str] = []
    chain = chain_of(seen, crowd=3)
    await asyncio.gather(*(chain.run(name) for name in "abc"))
    assert [one.split()[1] for one in seen] == ["first"] * 3 + ["second"] * 3


async def test_a_lone_signal_waits_for_nobody() -> None:
    """It does not give the event loop a turn between its stages."""
    seen: list[str] = []
    other = asyncio.get_running_loop().call_soon(seen.append, "a turn of the loop")
    assert await chain_of(seen, crowd=1).run("a") == "a"
    assert seen == ["a first", "a second"]
    other.cancel()
