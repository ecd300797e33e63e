"""Paper trading in memory, as a user's test would use it."""

import doctest
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import worker.testing
from worker.client import MalformedSignalError, Signal, new_signal
from worker.config.keys import Config, RiskConfig
from worker.domain.signal import Action
from worker.runtime.errors import ConfigError
from worker.testing import PaperTrading, paper_trading


def entry(signal_id: str, symbol: str = "BTC/USDT", price: str = "100") -> Signal:
    """A signal to open a long position."""
    return new_signal(
        signal_id,
        "binance",
        symbol,
        direction="long",
        strength=0.8,
        confluence_score=7,
        entry_price=price,
        quantity="2",
    )


def close(signal_id: str, symbol: str = "BTC/USDT", price: str = "110") -> Signal:
    """A signal to close what is open."""
    return new_signal(signal_id, "binance", symbol, action=Action.CLOSE, entry_price=price)


async def filled(trading: PaperTrading, signal: Signal) -> None:
    """Send a signal that must be filled."""
    await trading.send(signal)
    event = await trading.ended(signal.signal_id)
    assert event.type == "OrderFilled", event


async def test_a_position_is_opened_and_closed() -> None:
    """The book has it in between; every event of its life can be read."""
    async with paper_trading() as trading:
        await filled(trading, entry("in"))
        (position,) = (await trading.book()).positions.values()
        assert (position.symbol, position.quantity) == ("BTC/USDT", Decimal(2))
        await filled(trading, close("out"))
        assert (await trading.book()).positions == {}
    assert [one.type for one in trading.events(signal_id="in")] == [
        "OrderPlaced",
        "OrderFilled",
        "PositionOpened",
    ]
    assert [one.type for one in trading.events("positions")] == ["PositionOpened", "PositionClosed"]
    assert Decimal(trading.events("positions")[-1].data["realized_pnl"]) > 0


async def test_workers_share_the_account_and_its_limits() -> None:
    """Three workers, ten signals, two places: two positions, each line in its order."""
    config = Config(risk=RiskConfig(max_concurrent_positions=2))
    async with paper_trading(config, workers=3) as trading:
        for number in range(10):
            await trading.send(entry(f"s-{number}", f"AA{number}/USDT"))
        ends = [await trading.ended(f"s-{number}") for number in range(10)]
        assert len((await trading.book()).positions) == 2
    codes = [one.data["code"] for one in ends if one.type == "OrderFailed"]
    assert codes == ["MAX_POSITIONS"] * 8


async def test_a_signal_is_traded_once_however_often_it_is_sent() -> None:
    """A repetition is a duplicate without an event."""
    async with paper_trading() as trading:
        await filled(trading, entry("s-1"))
        again = trading.events(signal_id="s-1")[0].data["occurred_at"]
        await trading.send({"signal_id": "s-1", "created_at": again, "exchange": "binance",
                            "symbol": "ETH/USDT", "direction": "long", "strength": 0.8,
                            "confluence_score": 7, "entry_price": "5"})  # fmt: skip
        await filled(trading, entry("s-2", "ETH/USDT"))
        assert len(trading.events("orders", signal_id="s-1")) == 2
    (letter,) = trading.dead_letters()
    assert letter.text("reason") == "conflict"


async def test_what_is_no_signal_is_refused_before_it_is_sent() -> None:
    """As the client library does."""
    async with paper_trading() as trading:
        with pytest.raises(MalformedSignalError):
            await trading.send({"signal_id": "s-1"})
        with pytest.raises(MalformedSignalError):
            await trading.send(entry("s-1"), key="k" * 100_000)


async def test_waiting_for_what_never_comes_says_so() -> None:
    """With what was told of the signal."""
    async with paper_trading() as trading:
        with pytest.raises(TimeoutError, match=r"s-1 has not ended in 0.05 s; its events: \[\]"):
            await trading.ended("s-1", timeout_s=0.05)


async def test_live_mode_is_refused() -> None:
    """No test can reach an exchange by mistake."""
    with pytest.raises(ConfigError, match="mode"):
        async with paper_trading(Config(mode="live")):
            pass


def test_the_example_of_the_document_runs() -> None:
    """As it stands in docs/testing.md."""
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/testing.md", "exec"), names)  # noqa: S102 (our own document)
    names["test_a_dip_is_bought"]()


def test_the_example_of_the_module_runs() -> None:
    """Line by line, as it stands there."""
    with capture_logs():
        assert doctest.testmod(worker.testing) == (0, 5)
