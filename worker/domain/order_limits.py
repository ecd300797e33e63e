"""Risk rules as values: each has a limit and a sentence for its breach."""

from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.fees import sellable_after_fee
from worker.domain.market import SPOT, SymbolInfo, largest_order
from worker.domain.money import (
    HUNDRED,
    MAX_MILLIONTHS,
    PERCENT,
    ZERO,
    ceil_to,
    floor_to,
    ratio,
    rounded_text,
    text,
    tidy,
)
from worker.domain.refusal import Code, Refusal, refuse
from worker.domain.signal import LONG, Direction

#: An order of this many times the market's minimum stays above it after any fee (half at most).
SAFE_MULTIPLE: Final = Decimal(3)
#: ``MAX_MILLIONTHS`` in quote units.
MAX_NOTIONAL: Final = MAX_MILLIONTHS / Decimal(1_000_000)


class SizeRule(msgspec.Struct, frozen=True, kw_only=True):
    """The default and the largest size of a position, percent of the free balance."""

    default_pct: Decimal
    max_pct: Decimal

    def quantity(
        self,
        *,
        asked: Decimal | None,
        size_pct: Decimal | None,
        free: Decimal,
        price: Decimal,
        cap_price: Decimal,
        info: SymbolInfo,
        at_market: bool = True,
    ) -> Decimal | Refusal:
        """Return the order's quantity in base units, on the market's grid and under the cap.

        Args:
            asked: the signal's own quantity, if any; it is rounded down to the grid only.
            size_pct: the signal's own size in percent of ``free``, if any.
            free: free balance in quote units.
            price: the price to size with, quote units.
            cap_price: the highest price it may trade at, which the cap counts with.
            info: the market's rules.
            at_market: the order trades at the market's price, for which some markets have a
                maximum of its own.

        Returns:
            The quantity, or the refusal of an order that is too large or too small.
        """
        cap = free * self.max_pct * PERCENT
        if asked is None:
            budget = free * (self.default_pct if size_pct is None else size_pct) * PERCENT
            if cap_price is price:
                room = (budget if budget < cap else cap) / price
            else:
                room = min(budget / price, cap / cap_price)
            quantity = floor_to(room, info.quantity_step)
            if largest := largest_order(info, cap_price, at_market=at_market):
                quantity = min(quantity, largest)
        else:
            quantity = floor_to(asked, info.quantity_step)
        most = quantity * cap_price
        if most > cap:
            return refuse(
                Code.POSITION_TOO_LARGE,
                f"quantity {text(quantity)} is worth {rounded_text(most)} {info.quote}, over "
                f"risk.max_position_size_pct ({self.max_pct}%) of the free {rounded_text(free)}",
            )
        if most >= MAX_NOTIONAL:
            return refuse(
                Code.POSITION_TOO_LARGE,
                f"quantity {text(quantity)} is worth {rounded_text(most)} {info.quote}, more than "
                "the account's limits can count",
            )
        if quantity <= ZERO or quantity < info.min_quantity:
            return refuse(
                Code.BELOW_MINIMUM,
                f"quantity {text(quantity)} is under the market's minimum of "
                f"{text(max(info.min_quantity, info.quantity_step))} {info.base}",
            )
        return _check_minimum(quantity, price, info) or quantity


def _check_minimum(quantity: Decimal, price: Decimal, info: SymbolInfo) -> Refusal | None:
    """Refuse an order below the market's minimum, or one whose proceeds could not be sold again."""
    notional = quantity * price
    if notional < info.min_notional:
        return refuse(
            Code.BELOW_MINIMUM,
            f"the order is worth {rounded_text(notional)} {info.quote}, under the market's "
            f"minimum of {text(info.min_notional)}",
        )
    if info.kind is not SPOT or not info.taker_fee:
        return None  # fees are paid on top, and what only reduces has no minimum
    least = max(info.quantity_step, info.min_quantity)
    if notional > SAFE_MULTIPLE * info.min_notional and quantity > SAFE_MULTIPLE * least:
        return None
    received = sellable_after_fee(quantity, info)
    if not received or received < info.min_quantity or received * price < info.min_notional:
        return refuse(
            Code.BELOW_MINIMUM,
            f"of quantity {text(quantity)} the fee leaves {rounded_text(received)} {info.base}, "
            "which the market would not take back",
        )
    return None


class StopRule(msgspec.Struct, frozen=True, kw_only=True):
    """The largest distance of a stop, and the distance of a default one, percent of the price."""

    default_pct: Decimal
    max_pct: Decimal

    def default_stop(
        self, direction: Direction, price: Decimal, info: SymbolInfo
    ) -> Decimal | None:
        """Return the stop price of a signal that states none, on the market's price grid.

        It is rounded towards the price, so that it is never farther than asked for. Where the
        grid is so coarse that this would be the price itself, or 0, it is the nearest price of
        the grid on the stop's own side.

        Returns:
            The stop, quote units: more than 0, below the price of a long position and above that
            of a short one. None where the grid has no such price within ``max_pct``.
        """
        stop = self.nearest_stop(direction, price, info)
        return None if stop is None or self.check(price, stop) is not None else stop

    def nearest_stop(
        self, direction: Direction, price: Decimal, info: SymbolInfo
    ) -> Decimal | None:
        """Return the default stop, farther than ``max_pct`` where the grid has none within it.

        For a position that is there already: a stop that is too far is better than none.
        """
        tick = info.price_tick
        distance = price * min(self.default_pct, self.max_pct) / HUNDRED
        if direction is LONG:
            stop = ceil_to(price - distance, tick)
            if stop >= price:
                stop = ceil_to(price, tick) - tick
            stop = stop or tick
            return tidy(stop) if ZERO < stop < price else None
        stop = floor_to(price + distance, tick)
        if stop <= price:
            stop = floor_to(price, tick) + tick
        return tidy(stop) if stop > price else None

    def refuse_default(self, price: Decimal, info: SymbolInfo) -> Refusal:
        """Build the refusal of an entry for which there is no default stop."""
        return refuse(
            Code.STOP_LOSS_TOO_FAR,
            f"stop_loss: none is given, and no price on {info.symbol}'s grid of "
            f"{text(info.price_tick)} is within risk.max_stop_loss_pct ({self.max_pct}%) of "
            f"{text(price)}; give a stop_loss, or allow a wider one",
        )

    def check(self, price: Decimal, stop: Decimal) -> Refusal | None:
        """Refuse a stop that is too far from the price."""
        distance = abs(price - stop) * HUNDRED
        if distance <= self.max_pct * price:
            return None
        return refuse(
            Code.STOP_LOSS_TOO_FAR,
            f"stop_loss {text(stop)} is {rounded_text(ratio(distance, price))}% from "
            f"{text(price)}; risk.max_stop_loss_pct is {self.max_pct}%",
        )


class RewardRule(msgspec.Struct, frozen=True, kw_only=True):
    """The least ratio of a position's reward to its risk."""

    min_ratio: Decimal

    def check(self, price: Decimal, stop: Decimal, target: Decimal) -> Refusal | None:
        """Refuse a target that is too near for the distance of the stop."""
        risk = abs(price - stop)
        reward = target - price if stop < price else price - target
        if reward >= self.min_ratio * risk:
            return None
        promised = ratio(reward, risk) if risk else ZERO
        return refuse(
            Code.RISK_REWARD_TOO_LOW,
            f"take_profit {text(target)} over stop_loss {text(stop)} at {text(price)} is "
            f"{rounded_text(promised)}:1; risk.min_risk_reward_ratio is {self.min_ratio}:1",
        )
