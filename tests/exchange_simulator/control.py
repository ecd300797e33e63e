"""The control API under ``/_sim/``: what a test in another process may do to the exchange."""

from collections.abc import Callable
from decimal import InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tests.exchange_simulator.errors import Reply
from tests.exchange_simulator.faults import Rule
from tests.exchange_simulator.orders import Order, plain
from tests.exchange_simulator.simulator import Simulator

Arguments = dict[str, Any]


def _orders(sim: Simulator, arguments: Arguments) -> Any:
    """List accepted orders; narrow with symbol, market, client_id, status, kind, since."""
    since = int(arguments.get("since", 0))
    rows = [order.truth() for order in sim.orders()[since:]]
    for name, key in (
        ("symbol", "symbol"),
        ("market", "market"),
        ("client_id", "client_order_id"),
        ("status", "status"),
        ("kind", "kind"),
    ):
        if name in arguments:
            rows = [row for row in rows if row[key] == arguments[name]]
    return {"orders": rows, "count": len(rows), "total": len(sim.orders())}


def _duplicates(sim: Simulator, _: Arguments) -> Any:
    found = sim.duplicates()
    return {
        "count": len(found),
        "duplicates": {key: [o.truth() for o in orders] for key, orders in found.items()},
    }


def _requests(sim: Simulator, arguments: Arguments) -> Any:
    """Count requests by method, path and outcome; ``recent=N`` adds the last N one by one."""
    counts: dict[str, dict[str, int]] = {}
    for (endpoint, outcome), number in sorted(sim.counts.items()):
        counts.setdefault(endpoint, {})[outcome] = number
    last = int(arguments.get("recent", 0))
    return {
        "total": sum(sim.counts.values()),
        "counts": counts,
        "recent": list(sim.recent)[-last:] if last else [],
    }


def _add_faults(sim: Simulator, arguments: Arguments) -> Any:
    given = arguments.get("rules", [arguments])
    rules = [msgspec.convert(rule, Rule) for rule in given]
    return {"ids": [sim.faults.add(rule) for rule in rules]}


def _list_faults(sim: Simulator, _: Arguments) -> Any:
    return {"rules": [armed.view() for armed in sim.faults.armed.values()]}


def _clear_faults(sim: Simulator, arguments: Arguments) -> Any:
    if "id" in arguments:
        return {"removed": int(sim.faults.remove(int(arguments["id"])))}
    removed = len(sim.faults.armed)
    sim.faults.clear()
    return {"removed": removed}


def _price(sim: Simulator, arguments: Arguments) -> Any:
    for change in arguments.get("prices", [arguments]):
        sim.set_price(**change)
    return {"ok": True}


def _prices(sim: Simulator, _: Arguments) -> Any:
    return {
        venue: {
            market.symbol: {
                "bid": plain(market.bid),
                "ask": plain(market.ask),
                "last": plain(market.last),
            }
            for market in markets.values()
        }
        for venue, markets in sim.engine.markets.items()
    }


def _set_balances(sim: Simulator, arguments: Arguments) -> Any:
    sim.set_balances(arguments.get("spot", {}), arguments.get("futures_wallet"))
    return _balances(sim, {})


def _balances(sim: Simulator, _: Arguments) -> Any:
    sim.engine.advance(sim.now_ms())
    futures = sim.engine.futures
    return {
        "spot": {
            asset: {"free": plain(held.free), "locked": plain(held.locked)}
            for asset, held in sim.engine.spot.balances.items()
        },
        "futures": {"wallet": plain(futures.wallet), "available": plain(futures.available)},
        "positions": {
            symbol: {"amount": plain(held.amount), "entry_price": plain(held.entry_price)}
            for symbol, held in futures.positions.items()
            if held.amount
        },
    }


def _clock(sim: Simulator, arguments: Arguments) -> Any:
    if "offset_ms" in arguments:
        sim.clock_offset_ms = int(arguments["offset_ms"])
    return {"now": sim.now_ms(), "offset_ms": sim.clock_offset_ms}


def _limits(sim: Simulator, arguments: Arguments) -> Any:
    if "weight_limit" in arguments:
        sim.meter.weight_limit = arguments["weight_limit"]
    if "order_limit" in arguments:
        sim.meter.order_limit = arguments["order_limit"]
    return {"weight_limit": sim.meter.weight_limit, "order_limit": sim.meter.order_limit}


def _fill(sim: Simulator, arguments: Arguments) -> Any:
    order: Order = sim.fill(arguments["client_id"], arguments.get("quantity"))
    return order.truth()


def _reset(sim: Simulator, _: Arguments) -> Any:
    sim.reset()
    return {"ok": True}


def _health(sim: Simulator, _: Arguments) -> Any:
    return {"ok": True, "now": sim.now_ms(), "accepted": len(sim.engine.accepted)}


_ENDPOINTS: dict[tuple[str, str], Callable[[Simulator, Arguments], Any]] = {
    ("GET", "health"): _health,
    ("GET", "orders"): _orders,
    ("GET", "duplicates"): _duplicates,
    ("GET", "requests"): _requests,
    ("POST", "faults"): _add_faults,
    ("GET", "faults"): _list_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "price"): _price,
    ("GET", "prices"): _prices,
    ("POST", "balances"): _set_balances,
    ("GET", "balances"): _balances,
    ("POST", "clock"): _clock,
    ("GET", "clock"): _clock,
    ("POST", "limits"): _limits,
    ("POST", "fill"): _fill,
    ("POST", "reset"): _reset,
}


def answer(sim: Simulator, method: str, path: str, query: str, body: str) -> Reply:
    """Serve one control request; a wrong one is answered 400 or 404 with its reason."""
    endpoint = _ENDPOINTS.get((method, path.removeprefix("/_sim/")))
    if endpoint is None:
        known = sorted(f"{verb} /_sim/{name}" for verb, name in _ENDPOINTS)
        return _json(404, {"error": f"no {method} {path}", "endpoints": known})
    try:
        arguments: Arguments = dict(parse_qsl(query))
        if body:
            arguments |= msgspec.json.decode(body, type=dict[str, Any])
        return _json(200, endpoint(sim, arguments))
    except (ValueError, TypeError, KeyError, InvalidOperation, msgspec.MsgspecError) as wrong:
        return _json(400, {"error": f"{type(wrong).__name__}: {wrong}"})


def _json(status: int, value: Any) -> Reply:
    return Reply(status, msgspec.json.encode(value))
