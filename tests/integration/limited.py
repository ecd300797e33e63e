"""Stand-ins of exchanges that keep their documented limits and punish who goes on asking."""

import time
from decimal import Decimal
from typing import Any

from tests.integration.canned import Asked, Canned, CannedServer
from worker.runtime.clock import SystemClock

#: Kraken's tiers: the call counter's maximum and what it sinks by a second
#: (https://docs.kraken.com/exchange/guides/rest/ratelimits).
TIERS = {"starter": (15, 0.33), "intermediate": (20, 0.5), "pro": (20, 1.0)}
#: Calls that the trading counter counts, and those that count twice.
TRADING, HISTORY = {"AddOrder", "CancelOrder"}, {"TradesHistory", "QueryTrades"}


class FastClock(SystemClock):
    """Time that runs ``speed`` times as fast, so that minutes of it take seconds."""

    def __init__(self, speed: float = 20.0) -> None:
        self.speed = speed
        self._began_ms = super().monotonic_ms()
        self._unix_ms = time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        return (super().monotonic_ms() - self._began_ms) * self.speed

    def now_ms(self) -> int:
        return int(self._unix_ms + self.monotonic_ms())

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self.speed)


class KrakenAccount:
    """Kraken's private endpoints: market orders fill at once, limit orders after a while.

    Args:
        server: where they are put.
        clock: time, shared with the adapter.
        tier: the key's.
        fills_after_s: how long a limit order rests.
    """

    def __init__(
        self, server: CannedServer, clock: FastClock, tier: str, fills_after_s: float = 7.0
    ) -> None:
        self._clock = clock
        self._most, self._sinks = TIERS[tier]
        self._fills_after_ms = fills_after_s * 1000
        self._level, self._at_ms = 0.0, clock.monotonic_ms()
        self.orders: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.refused = 0
        for name in ("AddOrder", "CancelOrder", "QueryOrders", "QueryTrades", "OpenOrders",
                     "ClosedOrders", "BalanceEx"):  # fmt: skip
            server.replies[f"POST /0/private/{name}"] = self._limited(name)
        server.replies["GET /0/public/Time"] = lambda _: {
            "error": [],
            "result": {"unixtime": clock.now_ms() // 1000, "rfc1123": ""},
        }

    def _limited(self, name: str) -> Any:
        def answer(asked: Asked) -> dict[str, Any]:
            self.calls.append(name)
            now_ms = self._clock.monotonic_ms()
            if name not in TRADING:
                # It sinks in steps of three seconds, and a refused call counts, too.
                steps = int(now_ms // 3_000) - int(self._at_ms // 3_000)
                self._level = max(0.0, self._level - steps * 3 * self._sinks)
                self._at_ms = now_ms
                self._level += 2 if name in HISTORY else 1
                if self._level > self._most:
                    self.refused += 1
                    return {"error": ["EAPI:Rate limit exceeded"]}
            result: dict[str, Any] = getattr(self, f"_{name.lower()}")(asked)
            return {"error": [], "result": result}

        return answer

    def _addorder(self, asked: Asked) -> dict[str, Any]:
        txid = f"O{len(self.orders):05d}-AAAAA-BBBBBB"
        self.orders[txid] = dict(asked.fields) | {"at": self._clock.monotonic_ms()}
        return {"txid": [txid], "descr": {"order": "buy 0.01 XBTUSDT @ market"}}

    def _row(self, txid: str) -> dict[str, Any]:
        order = self.orders[txid]
        age_ms = self._clock.monotonic_ms() - order["at"]
        is_over = order["ordertype"] == "market" or age_ms >= self._fills_after_ms
        volume = order["volume"]
        return {
            "cl_ord_id": order["cl_ord_id"],
            "status": "closed" if is_over else "open",
            "opentm": 1_700_000_000.0,
            "descr": {
                "pair": "XBTUSDT",
                "type": order["type"],
                "ordertype": order["ordertype"],
                "price": order.get("price", "0"),
            },
            "vol": volume,
            "vol_exec": volume if is_over else "0",
            "cost": str(Decimal(volume) * 100) if is_over else "0",
            "price": "100" if is_over else "0",
            "fee": "0.1",
            "trades": [f"T{txid[1:]}"] if is_over else [],
        }

    def _queryorders(self, asked: Asked) -> dict[str, Any]:
        return {txid: self._row(txid) for txid in asked.fields["txid"].split(",")}

    def _querytrades(self, asked: Asked) -> dict[str, Any]:
        return {
            trade: {
                "ordertxid": f"O{trade[1:]}",
                "pair": "XBTUSDT",
                "time": 1_700_000_000.0,
                "type": self.orders[f"O{trade[1:]}"]["type"],
                "ordertype": "market",
                "price": "100",
                "cost": "1",
                "fee": "0.1",
                "vol": self.orders[f"O{trade[1:]}"]["volume"],
            }
            for trade in asked.fields["txid"].split(",")
        }

    def _openorders(self, asked: Asked) -> dict[str, Any]:
        del asked
        rows = {txid: self._row(txid) for txid in self.orders}
        return {"open": {txid: row for txid, row in rows.items() if row["status"] == "open"}}

    def _closedorders(self, asked: Asked) -> dict[str, Any]:
        del asked
        rows = {txid: self._row(txid) for txid in self.orders}
        return {"closed": {txid: row for txid, row in rows.items() if row["status"] != "open"}}

    def _cancelorder(self, asked: Asked) -> dict[str, Any]:
        del asked
        return {"count": 1}

    def _balanceex(self, asked: Asked) -> dict[str, Any]:
        del asked
        return {"USDT": {"balance": "1000", "hold_trade": "10"}}


class BinanceBan:
    """Binance under a ban: every request of any kind is refused and counted until it is over.

    Args:
        server: a stocked stand-in; all its routes are banned together.
        clock: time, shared with the adapter.
    """

    def __init__(self, server: CannedServer, clock: FastClock) -> None:
        self._clock = clock
        self._until_ms = float("-inf")
        self._headers: dict[str, str] = {}
        self._reply: dict[str, Any] = {}
        self._status = 418
        self.refused = 0
        #: Times of requests that came after the ban's end, milliseconds after it.
        self.after_ms: list[float] = []
        for route, reply in list(server.replies.items()):
            server.replies[route] = self._banned(reply)

    def ban(self, seconds: float, status: int, *, in_header: bool) -> None:
        """Refuse everything for so long, and say until when."""
        self._until_ms = self._clock.monotonic_ms() + seconds * 1000
        self._status = status
        until = self._clock.now_ms() + int(seconds * 1000)
        self._headers = {"Retry-After": str(int(seconds))} if in_header else {}
        text = "Too many requests." if in_header else f"IP banned until {until}. Please use WS."
        self._reply = {"code": -1003, "msg": f"Way too much request weight used; {text}"}

    def _banned(self, reply: Any) -> Any:
        def answer(asked: Asked) -> Any:
            left_ms = self._until_ms - self._clock.monotonic_ms()
            if left_ms > 0:
                self.refused += 1
                return Canned(self._reply, self._status, self._headers)
            self.after_ms.append(-left_ms)
            return reply(asked) if callable(reply) else reply

        return answer
