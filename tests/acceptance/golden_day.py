"""The recorded day: fixed signals and commands on three accounts.

``python -m tests.acceptance.golden_day --write`` plays the day and writes the files anew.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.acceptance.golden_accounts import DOUBT, MAIN, TIGHT
from tests.acceptance.golden_desk import Desk
from tests.acceptance.golden_process import now, valkey_server, wait_until
from tests.acceptance.golden_record import record
from tests.exchange_simulator.client import ControlClient, simulator_process

DIRECTORY: Final = Path(__file__).parent / "golden"


def play(directory: Path) -> dict[str, Any]:
    """Play the whole day.

    Args:
        directory: for servers, configurations and logs.

    Returns:
        The content of every golden file, by its name without ``.json``.
    """
    # What the account lost today, and its orders of this minute, must not be forgotten half-way.
    _leave_behind(period_s=86_400, margin_s=60)
    with (
        valkey_server(directory) as port,
        simulator_process("--symbols", "4", "--quote-balance", "100000") as exchange,
    ):
        doubt = DOUBT.format(url=exchange.url, ws_url=exchange.url.replace("http:", "ws:"))
        with (
            Desk("main", MAIN, directory=directory, port=port) as main,
            Desk("tight", TIGHT, directory=directory, port=port) as tight,
            Desk("doubt", doubt, directory=directory, port=port) as unsure,
            ThreadPoolExecutor() as pool,
        ):
            played = [
                pool.submit(_play_main, main),
                pool.submit(_play_tight, tight),
                pool.submit(_play_doubt, unsure, exchange),
            ]
            for one in played:
                one.result()
            files: dict[str, Any] = {}
            for desk in (main, tight, unsure):
                files |= {f"{desk.account}-{name}": one for name, one in record(desk).items()}
            return files


def _leave_behind(*, period_s: int, margin_s: int) -> None:
    """Wait for the next period of UTC time if the present one is about to end."""
    left_s = period_s - time.time() % period_s
    if left_s < margin_s:
        time.sleep(left_s + 0.1)


# ---- account `main`: everything paper can do ----------------------------------------------------


def _play_main(desk: Desk) -> None:
    desk.worker.until_ready()
    desk.ask("command-config", "config", "config")
    desk.ask("command-schema", "schema", "schema")
    desk.ask("command-check", "check", "check")
    desk.ask_status("before the first signal")
    _trade(desk)
    _rest(desk)
    _break_validation(desk)
    _break_risk(desk)
    _send_what_is_no_signal(desk)
    _change_trading_state(desk)
    _decide(desk)
    _look(desk)
    _handle_dead_letters(desk)
    _flatten(desk)
    desk.worker.stop()
    desk.ask("command-status", "after the worker's end", "status", "--json")


def _trade(desk: Desk) -> None:
    """Long and short, whole and in part, sized by quantity, by percent and by default."""
    desk.open(
        "long-open", "BTC/USDT", "65000", quantity="0.03", stop_loss="64000", take_profit="68000",
        strategy_id="trend", metadata={"run": 7, "note": "gr\u00fcn"},
    )  # fmt: skip
    desk.open("long-again", "BTC/USDT", "65000", quantity="0.03")
    desk.close("long-part", "BTC/USDT", "65500.5", quantity="0.01", metadata={"why": "half"})
    desk.close("long-close", "BTC/USDT", "66000", strategy_id="trend")
    desk.open("short-open", "ETH/USDT:USDT", "3500", direction="short", quantity="0.5")
    desk.close("short-wrong", "ETH/USDT:USDT", "3500", direction="long")
    desk.close("short-close", "ETH/USDT:USDT", "3450", direction="short")
    desk.open("limit-filled", "SOL/USDT", "150", order_type="limit", quantity="2")
    desk.open("sized-by-default", "BTC/EUR", "60000")
    desk.open("sized-by-percent", "ETH/USDC", "3400", size_pct="1.5", direction="short")
    desk.open("stop-passed", "LTC/USDT", "72", order_type="stop", stop_price="71", quantity="3")
    desk.open("fifth", "XRP/USDT", "0.52", quantity="100")
    desk.close("stop-passed-close", "LTC/USDT", None)
    desk.close("default-close", "BTC/EUR", "60300", order_type="limit")


def _rest(desk: Desk) -> None:
    """Orders that wait: filled by a later price, in part, or cancelled when time is up."""
    desk.post(desk.opening(
        "stop-triggered", "ADA/USDT", "0.45", order_type="stop", stop_price="0.46", quantity="100",
    ))  # fmt: skip
    wait_until(
        lambda: desk.redis.hexists(desk.key("book"), "paper:ADA/USDT"), "the stop does not rest"
    )
    desk.note_keys()
    # Another message group: it is refused, but its price is the market's.
    desk.post(desk.opening("mover", "ADA/USDT", "0.47", quantity="100"), key="elsewhere")
    desk.until_ended("stop-triggered", "mover")
    desk.close("triggered-close", "ADA/USDT", "0.465")
    desk.open(
        "part-at-once", "DOGE/USDT", "0.125", exchange="patchy", quantity="1000",
        order_type="limit", time_in_force="IOC",
    )  # fmt: skip
    desk.close(
        "part-of-close", "DOGE/USDT", "0.13", exchange="patchy", order_type="limit",
        time_in_force="IOC",
    )  # fmt: skip
    desk.open(
        "all-or-none", "DOT/USDT", "6.1", exchange="patchy", quantity="50",
        order_type="limit", time_in_force="FOK",
    )  # fmt: skip
    desk.act("correct", "patchy", "DOGE/USDT", "--quantity", "0", "--price", "0.12",
             "--reason", "sold by hand")  # fmt: skip
    desk.post(desk.opening("part-in-time", "UNI/USDT", "7.4", exchange="patchy", quantity="50"))
    desk.post(desk.opening(
        "not-in-time", "LINK/USDT", "14.6", order_type="stop_limit", stop_price="14.9",
        quantity="20",
    ))  # fmt: skip
    desk.until_ended("part-in-time", "not-in-time")
    desk.post(desk.opening(
        "rests", "ETC/USDT", "20", order_type="stop", stop_price="24", quantity="5"
    ))  # fmt: skip
    desk.close("ends-what-rests", "ETC/USDT", "20")
    desk.until_ended("rests")
    desk.act("correct", "patchy", "UNI/USDT", "--quantity", "0", "--price", "7.5",
             "--reason", "sold by hand")  # fmt: skip
    desk.open("turned-down", "AVAX/USDT", "28", exchange="fussy", quantity="10")


def _break_validation(desk: Desk) -> None:
    coin, price = "ATOM/USDT", "8.3"
    desk.open("expired", coin, price, created_at=now(-3_600))
    desk.open("expired-by-itself", coin, price, expires_at=now(-1))
    desk.open("from-the-future", coin, price, created_at=now(3_600))
    desk.open("no-direction", coin, price, direction=None)
    desk.open("no-strength", coin, price, strength=None)
    desk.open("no-price", coin, None, order_type="limit")
    desk.open("no-trigger", coin, price, order_type="stop")
    desk.open("trigger-at-market", coin, price, stop_price="8.4")
    desk.open("both-sizes", coin, price, quantity="1", size_pct="1")
    desk.open("stop-at-once", coin, price, order_type="stop_limit", stop_price="8.4",
              time_in_force="IOC")  # fmt: skip
    desk.close("percent-of-close", coin, price, size_pct="1")
    desk.open("too-weak", coin, price, strength=0.1)
    desk.open("too-little-confluence", coin, price, confluence_score=2.5)
    desk.open("size-out-of-range", coin, price, size_pct="90")
    desk.open("unknown-exchange", coin, price, exchange="mtgox")
    desk.open("unknown-symbol", "NOSUCHCOIN/USDT", price)
    desk.open("quantity-too-small", coin, price, quantity="0.0000001")
    desk.open("no-market-price", "FIL/USDT", None)
    desk.open("stop-wrong-side", coin, price, stop_loss="8.4")
    desk.open("target-wrong-side", coin, price, take_profit="8.2")


def _break_risk(desk: Desk) -> None:
    # Nothing else is quoted in USD, so the free balance in the sentences is the one of the start.
    coin, price = "BTC/USD", "65000"
    desk.open("stop-too-far", coin, price, stop_loss="60000")
    desk.open("too-little-reward", coin, price, stop_loss="64000", take_profit="65500")
    desk.open("too-large", coin, price, quantity="1")
    desk.open("below-minimum", coin, price, quantity="0.00001")
    desk.close("nothing-to-close", coin, price)


def _send_what_is_no_signal(desk: Desk) -> None:
    good = dict(desk.opening("misspelt", "TRX/USDT", "0.25", quantity="100"))
    desk.post_dead(data="buy!")
    desk.post_dead(data="[1, 2]")
    desk.post_dead(data=json.dumps(good | {"stop_los": "0.2"}), traceparent="00-1-2-3")
    desk.post_dead(data=json.dumps(good | {"quantity": "NaN"}))
    desk.post_dead(data=json.dumps(good | {"created_at": "2026-03-01T12:00:00"}))
    desk.post_dead(data=json.dumps(good | {"direction": "up"}))
    desk.post_dead(data='{"signal_id": "twice", "signal_id": "twice"}')
    desk.post_dead(hello="world")
    desk.post_dead(type="OrderFilled", data="{}")
    # The same signal again is dropped; its id with other content is a dead letter.
    first = dict(desk.opening("sent-twice", "TRX/USDT", "0.25", quantity="100"))
    desk.post(first, type="TradingSignalGenerated")
    desk.until_ended("sent-twice")
    desk.post(first)
    desk.until_quiet()
    desk.post_dead(data=json.dumps(first | {"strategy_id": "another"}))


def _change_trading_state(desk: Desk) -> None:
    waiting = {"order_type": "stop", "stop_price": "30", "quantity": "5"}
    desk.post(desk.opening("halted-while-resting", "AVAX/USDT", "28", **waiting))
    place = "paper:AVAX/USDT"
    wait_until(lambda: desk.redis.hexists(desk.key("book"), place), "the stop does not rest")
    desk.act("halt", "--reason", "storm")
    desk.until_ended("halted-while-resting")
    desk.ask_status("halted")
    desk.open("halted-open", "NEAR/USDT", "5", quantity="10")
    desk.close("halted-close", "TRX/USDT", "0.25")
    desk.act("halt", "--reason", "still a storm")
    desk.act("reduce", "--reason", "calmer")
    desk.open("reducing-open", "NEAR/USDT", "5", quantity="10")
    desk.close("reducing-close", "TRX/USDT", "0.24")
    desk.act("resume", "--reason", "over")
    desk.act("resume")
    fields = dict(desk.opening("resumed-open", "NEAR/USDT", "5", quantity="10"))
    desk.sent.append("resumed-open")
    desk.act("submit", "-", stdin=f"{json.dumps(fields)}\nnot a signal\n")
    desk.act("submit", "--force", "-", stdin=f"{json.dumps(fields)}\nnot a signal\n")
    desk.until_ended("resumed-open")
    desk.until_dead(len(desk.dead_ids) + 1)
    desk.act("submit", "--strict", "-", stdin=json.dumps(fields | {"strength": 7}))


def _decide(desk: Desk) -> None:
    desk.act("correct", "paper", "SOL/USDT", "--quantity", "1.25", "--price", "151",
             "--reason", "sold by hand")  # fmt: skip
    desk.act("correct", "paper", "SOL/USDT", "--quantity", "1.25", "--price", "151",
             "--reason", "again")  # fmt: skip
    desk.act("correct", "paper", "XLM/USDT", "--quantity", "1", "--price", "1",
             "--reason", "none")  # fmt: skip
    desk.act("resolve", "long-open", "--absent", "--reason", "no doubt at all")
    desk.act("resolve", "nobody", "--absent", "--reason", "nobody knows it")


def _look(desk: Desk) -> None:
    """Every command that reads, while positions are open and dead letters are there."""
    desk.until_quiet()
    desk.note_keys()
    desk.ask_status("positions open")
    desk.ask("command-positions", "positions open", "positions", "--json")
    for signal_id in (
        "long-open", "long-close", "part-at-once", "not-in-time", "turned-down", "expired",
        "sent-twice", "misspelt", "nobody",
    ):  # fmt: skip
        desk.ask("command-order", signal_id, "order", signal_id, "--json")
    desk.ask("command-dead", "list", "dead", "list", "--json")
    desk.ask("command-dead", "list --limit 2", "dead", "list", "--limit", "2", "--json")
    for number in (3, 10):
        letter = desk.dead_ids[number - 1]
        desk.ask("command-dead", f"show {number}", "dead", "show", letter, "--json")


def _handle_dead_letters(desk: Desk) -> None:
    desk.act("dead", "replay", desk.dead_ids[0])
    desk.until_dead(len(desk.dead_ids) + 1)
    desk.act("dead", "replay", desk.dead_ids[9])
    desk.act("dead", "discard", desk.dead_ids[1])
    desk.act("dead", "discard", desk.dead_ids[1])


def _flatten(desk: Desk) -> None:
    desk.act("flatten", "--reason", "end of the day")
    desk.until_quiet()
    desk.ask("command-positions", "flat", "positions", "--json")
    desk.ask_status("flat")
    desk.tail("command-tail", "orders", "positions", "system", "dead", "signals")
    desk.note_keys()
    desk.note_http()


# ---- account `tight`: limits that a few signals reach -------------------------------------------


def _play_tight(desk: Desk) -> None:
    desk.worker.until_ready()
    _leave_behind(period_s=60, margin_s=5)
    desk.open("within", "BTC/USDT", "65000", quantity="0.03")
    desk.open("too-much-exposure", "ETH/USDT", "3500", quantity="0.6")
    desk.open("too-many-a-minute", "SOL/USDT", "150", quantity="1")
    desk.close("with-a-loss", "BTC/USDT", "60000")
    desk.open("after-the-loss", "BTC/USDT", "60000", quantity="0.01")
    # Only here, for `tail --json` cannot show a payload that is not UTF-8.
    desk.post_dead(data=b'{"signal_id": "\xff"}', other=b"\xfe")
    desk.until_quiet()
    desk.note_keys()
    desk.ask_status("after a loss")
    desk.ask("command-positions", "none", "positions", "--json")
    desk.ask("command-dead", "list", "dead", "list", "--json")
    desk.ask("command-dead", "show 1", "dead", "show", desk.dead_ids[0], "--json")
    desk.worker.stop()


# ---- account `doubt`: orders of which the exchange tells nothing --------------------------------


def _play_doubt(desk: Desk, exchange: ControlClient) -> None:
    desk.worker.until_ready()
    exchange.add_fault(method="POST", path="/order$", action="drop_before")
    exchange.add_fault(method="GET", path="/order$", action="drop_before")
    with desk.heartbeats() as until_heartbeat:
        _leave_in_doubt(desk, "absent", "C000/USDT:USDT")
        until_heartbeat()
        desk.worker.pause()  # else the keeper may have the order in hand a few seconds later
    desk.note_keys()
    desk.ask("command-status", "unresolved", "status", "--json")
    desk.ask("command-order", "unresolved", "order", "absent", "--json")
    desk.ask("command-positions", "unresolved", "positions", "--json")
    desk.worker.resume()
    said = ("--reason", "their support")
    fee = ("--fee", "0.1", "--fee-currency", "USDT")
    with ThreadPoolExecutor() as pool:  # each waits until the keeper asks the exchange again
        absent = pool.submit(desk.run, "resolve", "absent", "--absent", *said)
        _leave_in_doubt(desk, "part-filled", "C001/USDT:USDT")
        part = ("--filled", "0.5", "--price", "101")
        partly = pool.submit(desk.run, "resolve", "part-filled", *part, *fee, *said)
        _leave_in_doubt(desk, "filled", "C002/USDT:USDT")
        desk.act("resolve", "filled", "--filled", "2", "--price", "99.5", *fee, *said)
        desk.actions[:0] = [absent.result(), partly.result()]
    desk.ask("command-order", "absent", "order", "absent", "--json")
    desk.ask("command-order", "part-filled", "order", "part-filled", "--json")
    desk.ask("command-order", "filled", "order", "filled", "--json")
    desk.ask("command-positions", "resolved", "positions", "--json")
    for symbol in ("C001/USDT:USDT", "C002/USDT:USDT"):
        desk.act("correct", "binance", symbol, "--quantity", "0", "--price", "100",
                 "--reason", "not there")  # fmt: skip
    desk.until_quiet()
    desk.note_keys()
    desk.worker.stop()


def _leave_in_doubt(desk: Desk, signal_id: str, symbol: str) -> None:
    desk.post(desk.opening(signal_id, symbol, None, exchange="binance", quantity="2"))
    desk.until_system_error("ORDER_UNRESOLVED", signal_id)


def written(content: Any) -> str:
    """Return a golden file's text."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _write() -> None:
    with tempfile.TemporaryDirectory(prefix="golden-") as directory:
        files = play(Path(directory))
    DIRECTORY.mkdir(exist_ok=True)
    for old in DIRECTORY.glob("*.json"):
        old.unlink()
    for name, content in files.items():
        (DIRECTORY / f"{name}.json").write_text(written(content), encoding="utf-8")
    sys.stdout.write(f"{len(files)} files in {DIRECTORY}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True, help="write the files anew")
    parser.parse_args()
    _write()
