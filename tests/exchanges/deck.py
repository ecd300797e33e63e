"""All cards in order, with what an exchange cannot do about them."""

from decimal import Decimal
from typing import Final

from tests.exchanges.card import Card
from tests.exchanges.cards import faults, money, orders
from tests.exchanges.quotes import (
    BYBIT_FEES,
    COINBASE_FEES,
    COINBASE_IDEMPOTENT,
    COINBASE_JWT,
    COINBASE_MAXIMUM,
    COINBASE_ORDERS,
    COINBASE_THROTTLE,
    KRAKEN_FEES,
    KRAKEN_MAXIMUM,
    KRAKEN_STATES,
    OKX_MINIMUM,
    OKX_STATES,
    OKX_THROTTLE,
    ONLY_KRAKEN,
    SPOT_DIGITS,
)
from tests.exchanges.venues import LINEAR, SPOT

_SPOT, _LINEAR = (SPOT,), (LINEAR,)

CARDS: Final[tuple[Card, ...]] = (
    Card(
        id="E01",
        sentence="A market buy is in base units, sent once under our client id, and told whole.",
        play=orders.market_buy,
    ),
    Card(
        id="E02",
        sentence="A close sells what is held, at the market, and empties the book.",
        play=orders.market_sell,
    ),
    Card(
        id="E03",
        sentence="A limit order rests at its price and is told as filled once it is.",
        play=orders.limit_rests_then_fills,
    ),
    Card(
        id="E04",
        sentence="A limit order that does not fill in time is cancelled.",
        play=orders.limit_not_filled_in_time,
    ),
    Card(
        id="E05",
        sentence="Immediate-or-cancel takes what there is; the rest is over without a cancel.",
        play=orders.immediate_or_cancel,
    ),
    Card(
        id="E06",
        sentence="Fill-or-kill trades nothing where it cannot trade all.",
        play=orders.fill_or_kill_killed,
    ),
    Card(
        id="E07",
        sentence="Fill-or-kill trades all where it can.",
        play=orders.fill_or_kill_filled,
    ),
    Card(
        id="E08",
        sentence="A market that takes makers only ends an order without a position.",
        play=orders.makers_only,
    ),
    Card(
        id="E09",
        sentence="A stop order waits for its trigger, then trades at the market.",
        play=orders.stop_triggers,
        cannot={"coinbase": COINBASE_ORDERS},
    ),
    Card(
        id="E10",
        sentence="A stop-limit order waits for its trigger, then trades within its limit.",
        play=orders.stop_limit_triggers,
    ),
    Card(
        id="E11",
        sentence="A stop-limit order that is not triggered in time is cancelled.",
        play=orders.stop_not_triggered,
    ),
    Card(
        id="E12",
        sentence="An order that fills in parts is one order with all its trades.",
        play=orders.partial_fills,
    ),
    Card(
        id="E13",
        sentence="What had traded when an order was cancelled is a position.",
        play=orders.partial_then_cancelled,
    ),
    Card(
        id="E14",
        sentence="What had traded when the exchange itself ended the order is a position.",
        play=orders.partial_then_ended,
    ),
    Card(
        id="E15",
        sentence="An order that was acknowledged and then refused by the engine has failed.",
        play=orders.rejected_after_acknowledgement,
        cannot={"okx": OKX_STATES, "kraken": KRAKEN_STATES},
    ),
    Card(
        id="E16",
        sentence="A fee in the quote currency is told to the last digit.",
        play=money.fee_in_quote,
    ),
    Card(
        id="E17",
        sentence="A purchase's fee in the base currency makes the position smaller by it.",
        play=money.fee_in_base,
        kinds=_SPOT,
        cannot={"kraken": KRAKEN_FEES, "coinbase": COINBASE_FEES},
    ),
    Card(
        id="E18",
        sentence="A fee in a third coin changes no quantity and is told in that coin.",
        play=money.fee_in_third_coin,
        rules={"fee_in": "BNB", "fee_price": Decimal(600)},
        cannot={
            "kraken": KRAKEN_FEES,
            "coinbase": COINBASE_FEES,
            "bybit-linear": BYBIT_FEES,
        },
    ),
    Card(
        id="E19",
        sentence="Quantities are base units on our side, whatever a contract is.",
        play=money.contracts,
        kinds=_LINEAR,
        rules={"contract": Decimal("0.1"), "step": Decimal("0.1")},
    ),
    Card(
        id="E20",
        sentence="The close of a derivative is reduce-only.",
        play=money.close_reduces_only,
        kinds=_LINEAR,
    ),
    Card(
        id="E21",
        sentence="A short is sold first, then bought back.",
        play=money.short_and_back,
        kinds=_LINEAR,
    ),
    Card(
        id="E22",
        sentence="Funds that do not suffice are told as that, and the order is sent once.",
        play=money.insufficient_balance,
        rules={"price": "100000000"},
    ),
    Card(
        id="E23",
        sentence="An order under the market's least quantity is not sent.",
        play=money.below_least_quantity,
        rules={"min_quantity": Decimal("0.5")},
    ),
    Card(
        id="E24",
        sentence="A purchase's limit and any quantity are rounded down to the market's grid.",
        play=money.off_grid,
    ),
    Card(
        id="E25",
        sentence="A sale's limit is rounded up to the market's grid.",
        play=money.off_grid_sale,
        kinds=_LINEAR,
    ),
    Card(
        id="E26",
        sentence="Every digit of a fine grid goes out and comes back.",
        play=money.fine_prices,
        rules={
            "price": "0.000000000125",
            "tick": Decimal("0.00000000000001"),
            "step": Decimal(1),
            "max_quantity": Decimal(10) ** 13,
        },
        cannot={"binance": SPOT_DIGITS},
    ),
    Card(
        id="E27",
        sentence="A market that the exchange does not list is refused by name, unsent.",
        play=money.unknown_symbol,
    ),
    Card(
        id="E28",
        sentence="A market that does not trade now is refused, unsent.",
        play=money.market_closed,
        rules={"halted": True},
    ),
    Card(
        id="E29",
        sentence="What is left of a close because it is less than a step is no position.",
        play=money.dust,
        kinds=_SPOT,
        rules={"step": Decimal("0.01")},
        cannot={"kraken": KRAKEN_FEES, "coinbase": COINBASE_FEES},
        dust=Decimal("0.01"),
    ),
    Card(
        id="E30",
        sentence="An entry that traded less than can ever be sold is no position.",
        play=money.worthless_entry,
        kinds=_SPOT,
        dust=Decimal("0.001"),
    ),
    Card(
        id="E31",
        sentence="A reply lost before the exchange took the order: it is sent again, once.",
        play=faults.spoilt(action="drop_before"),
    ),
    Card(
        id="E32",
        sentence="A reply lost after the exchange took the order: it is found, not doubled.",
        play=faults.spoilt(action="drop_after"),
    ),
    Card(
        id="E33",
        sentence="A reply cut in the middle: the order is found, not doubled.",
        play=faults.spoilt(action="cut_response"),
    ),
    Card(
        id="E34",
        sentence="An empty reply with status 200: the order is found, not doubled.",
        play=faults.spoilt(action="empty_200"),
    ),
    Card(
        id="E35",
        sentence="A gateway's error after the exchange took the order: found, not doubled.",
        play=faults.spoilt(action="http_status", status=502, body="<html></html>", when="after"),
    ),
    Card(
        id="E36",
        sentence="A gateway's error before the exchange took the order: it is sent again, once.",
        play=faults.spoilt(action="http_status", status=504, body="<html></html>"),
    ),
    Card(
        id="E37",
        sentence="A request that arrives after its deadline is refused by the exchange.",
        play=faults.late_request,
        cannot={"coinbase": COINBASE_JWT},
    ),
    Card(
        id="E38",
        sentence='The exchange\'s own "too late" is no order: it is sent again.',
        play=faults.late_and_told_so,
        cannot={"coinbase": COINBASE_JWT},
    ),
    Card(
        id="E39",
        sentence='The exchange\'s own "duplicate" means that the first order is there.',
        play=faults.duplicate_client_id,
        cannot={"coinbase": COINBASE_IDEMPOTENT},
    ),
    Card(
        id="E40",
        sentence="An order that look-ups show late is looked for until they do, never doubled.",
        play=faults.late_visible,
    ),
    Card(
        id="E41",
        sentence="Look-ups that fail prove nothing and are repeated.",
        play=faults.lookups_fail,
    ),
    Card(
        id="E42",
        sentence="A resting order whose polls fail for a while is told when it has filled.",
        play=faults.polls_fail,
    ),
    Card(
        id="E43",
        sentence="A throttle without a time: the order waits and gets its event.",
        play=faults.throttled_without_time,
        alone=True,
    ),
    Card(
        id="E44",
        sentence="A throttle with a time: nothing is sent before it is over.",
        play=faults.throttled_with_time,
        alone=True,
        cannot={"okx": OKX_THROTTLE, "coinbase": COINBASE_THROTTLE},
    ),
    Card(
        id="E45",
        sentence="Trades that are listed late are waited for.",
        play=faults.trades_listed_late,
    ),
    Card(
        id="E46",
        sentence="An order with more trades than a page holds is told with all of them.",
        play=faults.many_trades,
        rules={"fills": 120},
    ),
    Card(
        id="E47",
        sentence="An order that fills while the request to cancel travels is told as filled.",
        play=orders.cancel_race,
    ),
    Card(
        id="E48",
        sentence="A request to cancel whose reply is lost has cancelled all the same.",
        play=orders.cancel_reply_lost,
    ),
    Card(
        id="E49",
        sentence="An order under the market's least value is not sent.",
        play=money.below_least_value,
        cannot={"okx": OKX_MINIMUM},
    ),
    Card(
        id="E50",
        sentence="Requests arrive in the order of their nonces.",
        play=faults.nonces_rise,
        more=24,
        cannot=dict.fromkeys(("binance", "bybit", "okx", "coinbase"), ONLY_KRAKEN),
    ),
    Card(
        id="E51",
        sentence="A worker on an account in hedge mode is not ready and names the position mode.",
        play=orders.position_mode,
        kinds=_LINEAR,
    ),
    Card(
        id="E52",
        sentence="A reduce-only close that is cut short is told as that; the book is empty.",
        play=orders.close_cut_short,
        kinds=_LINEAR,
    ),
    Card(
        id="E53",
        sentence="A wallet slightly below the book is closed all the same.",
        play=money.wallet_slightly_short,
        kinds=_SPOT,
        dust=Decimal("0.01"),
    ),
    Card(
        id="E54",
        sentence="A close under the market's least value is not sent; what follows it is.",
        play=money.close_below_minimum,
        kinds=_SPOT,
        cannot={"okx": OKX_MINIMUM},
    ),
    Card(
        id="E55",
        sentence="A position larger than one market order may be is closed in pieces.",
        play=money.close_in_pieces,
        rules={"max_market_quantity": Decimal(1)},
        cannot={"kraken": KRAKEN_MAXIMUM, "coinbase": COINBASE_MAXIMUM},
    ),
    Card(
        id="E56",
        sentence="Readings that cannot be true are not booked; the order is asked for again.",
        play=faults.garbage_asked_again,
        alone=True,
    ),
    Card(
        id="E57",
        sentence="A post-only order never takes: it ends without a trade, or rests as a maker.",
        play=orders.post_only,
    ),
    Card(
        id="E60",
        sentence="A key that may withdraw or works from anywhere is named, and trades.",
        play=orders.key_rights,
    ),
)
