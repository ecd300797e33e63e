"""The options that describe one signal, and the signal they give."""

import secrets
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from worker.cli import arguments
from worker.config.keys import Config
from worker.domain.signal import Action, Direction, OrderType, TimeInForce
from worker.runtime.clock import Clock, rfc3339

#: Options that give a field of the signal as they were written: option, field, help.
_AMOUNTS: Final = (
    ("price", "entry_price", "the limit of a limit order, else the price to judge and size by"),
    ("stop-price", "stop_price", "the trigger of a stop order"),
    ("stop-loss", "stop_loss", "where the loss is cut"),
    ("take-profit", "take_profit", "where the profit is taken"),
    ("quantity", "quantity", "base units; else sized by risk"),
    ("size-pct", "size_pct", "percent of the balance"),
)
#: What a person's signal has where nothing is said: as sure as a signal can be.
STRENGTH, SCORE = 1.0, 10.0


def configure(parser: ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("one signal, instead of FILE")
    group.add_argument(
        "--exchange", metavar="NAME", type=arguments.name, help="by default the only one configured"
    )
    group.add_argument("--symbol", metavar="S", type=arguments.name, help="BTC/USDT, ...")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--long", action="store_true", help="open a long position")
    what.add_argument("--short", action="store_true", help="open a short position")
    what.add_argument("--close", action="store_true", help="close the position")
    group.add_argument(
        "--type", choices=[kind.value for kind in OrderType], help="kind of order (market)"
    )
    group.add_argument("--tif", choices=[tif.value for tif in TimeInForce], help="time in force")
    group.add_argument("--good-till", metavar="TIME", help="when a GTD order ends, RFC 3339")
    group.add_argument("--post-only", action="store_true", help="never trade at once (limit)")
    for option, field, text in _AMOUNTS:
        group.add_argument(f"--{option}", dest=field, metavar="N", type=_written_amount, help=text)
    group.add_argument("--strength", type=_up_to(1), metavar="N", help=f"0 to 1 ({STRENGTH:g})")
    group.add_argument("--score", type=_up_to(10), metavar="N", help=f"0 to 10 ({SCORE:g})")
    group.add_argument("--expires-in", type=arguments.seconds, metavar="S", help="seconds")
    group.add_argument("--id", type=arguments.name, metavar="ID", help="signal id (made up)")
    group.add_argument("--strategy", type=arguments.name, metavar="ID", help="strategy id")
    group.add_argument(
        "--metadata", metavar="JSON", type=_object, help="an object carried into the events"
    )


def _written_amount(text: str) -> str:
    arguments.positive_amount(text)
    return text


def _object(text: str) -> msgspec.Raw:
    try:
        msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ArgumentTypeError(f"{text!r} is not a JSON object") from None
    return msgspec.Raw(text.strip().encode())


def _up_to(most: int) -> Any:
    def number(text: str) -> float:
        value = float(arguments.amount(text))
        if value > most:
            raise ArgumentTypeError(f"{text} is more than {most}")
        return value

    return number


def given(options: Namespace) -> list[str]:
    """Return the options given of those that describe a signal, as they are typed."""
    names = {
        "exchange": "exchange", "symbol": "symbol", "long": "long", "short": "short",
        "close": "close", "type": "type", "tif": "tif",
        "good_till": "good-till", "post_only": "post-only", "strength": "strength",
        "score": "score",
        "expires_in": "expires-in", "id": "id", "strategy": "strategy", "metadata": "metadata",
        **{field: option for option, field, _ in _AMOUNTS},
    }  # fmt: skip
    return [
        f"--{option}"
        for name, option in names.items()
        if getattr(options, name) not in (None, False)
    ]


def missing(options: Namespace, config: Config) -> str:
    """Return what else must be said for a signal, in words; empty where nothing."""
    if not (options.long or options.short or options.close):
        return "one of --long, --short and --close"
    if options.symbol is None:
        return "--symbol"
    if options.exchange is None and len(config.exchanges) != 1:
        return f"--exchange, one of {', '.join(config.exchanges)}"
    return ""


def fields(options: Namespace, config: Config, clock: Clock) -> dict[str, Any]:
    """Return the fields of the signal, those that were not given left out."""
    now_ms = clock.now_ms()
    exchange: Sequence[str] = [options.exchange] if options.exchange else list(config.exchanges)
    signal: dict[str, Any] = {
        "signal_id": options.id or made_up_id(now_ms),
        "created_at": rfc3339(now_ms),
        "exchange": exchange[0],
        "symbol": options.symbol,
    }
    if options.close:
        signal["action"] = Action.CLOSE.value
    else:
        signal["direction"] = (Direction.LONG if options.long else Direction.SHORT).value
        signal["strength"] = STRENGTH if options.strength is None else options.strength
        signal["confluence_score"] = SCORE if options.score is None else options.score
    if options.expires_in is not None:
        signal["expires_at"] = rfc3339(now_ms + options.expires_in * 1_000)
    others: dict[str, Any] = {"order_type": options.type, "time_in_force": options.tif}
    others |= {"good_till": options.good_till, "post_only": options.post_only or None}
    others |= {field: getattr(options, field) for _, field, _ in _AMOUNTS}
    others |= {"strategy_id": options.strategy, "metadata": options.metadata}
    return signal | {name: value for name, value in others.items() if value is not None}


def made_up_id(now_ms: int) -> str:
    """Make up a signal id that nobody else has."""
    return f"cli-{now_ms}-{secrets.token_hex(3)}"
