"""The keys of the four stages: validation, risk, execution, reconciliation."""

from decimal import Decimal
from typing import Annotated

from worker.config.section import Section, decimal, doc, integer, real


class ValidationConfig(Section, kw_only=True, frozen=True):
    """The least a signal must meet to be considered."""

    min_signal_strength: Annotated[float, real("least `strength` of a signal", ge=0, le=1)] = 0.0
    min_confluence_score: Annotated[
        float, real("least `confluence_score` of a signal", ge=0, le=10)
    ] = 3.0
    valid_exchanges: Annotated[
        tuple[str, ...], doc("exchanges a signal may name; all configured ones if empty")
    ] = ()
    max_signal_age_seconds: Annotated[
        float, real("age at which a signal without `expires_at` expires", gt=0, le=86_400)
    ] = 30.0
    max_signal_lifetime_seconds: Annotated[
        float,
        real(
            "longest time from `created_at` to `expires_at`; a signal with a longer one is refused",
            gt=0,
            le=31_536_000,
        ),
    ] = 86_400.0
    max_clock_ahead_seconds: Annotated[
        float, real("how far ahead of this machine `created_at` may be", ge=0, le=3_600)
    ] = 5.0
    max_price_deviation_pct: Annotated[
        Decimal,
        decimal("how far `entry_price` may be from the market, percent", ge="0", le="100"),
    ] = Decimal("5.0")
    max_price_age_seconds: Annotated[
        float, real("age at which a market price no longer counts, seconds", gt=0, le=3_600)
    ] = 5.0
    require_signature: Annotated[
        bool, doc("only signed signals trade; a signature that is given must be good in any case")
    ] = False


class RiskConfig(Section, kw_only=True, frozen=True):
    """The limits of one account over all its workers."""

    max_concurrent_positions: Annotated[
        int, integer(1, 1_000_000, "positions open or being opened at a time")
    ] = 3
    default_position_size_pct: Annotated[
        Decimal, decimal("size of a signal that states none, % of balance", gt="0", le="10000")
    ] = Decimal("2.0")
    max_position_size_pct: Annotated[
        Decimal, decimal("largest position, percent of the balance", gt="0", le="10000")
    ] = Decimal("5.0")
    min_risk_reward_ratio: Annotated[
        Decimal, decimal("least reward over risk of a signal with both", ge="0", le="1000")
    ] = Decimal("1.5")
    max_stop_loss_pct: Annotated[
        Decimal, decimal("farthest stop-loss, percent of the price", gt="0", le="100")
    ] = Decimal("2.0")
    default_stop_loss_pct: Annotated[
        Decimal, decimal("stop-loss of a signal that states none, percent", gt="0", le="100")
    ] = Decimal("2.0")
    max_total_exposure_pct: Annotated[
        Decimal,
        decimal(
            "largest sum of positions, % of what is left in the wallet that pays for the next one "
            "(spot purchases make it smaller); 0 = off",
            ge="0",
            le="1000000",
        ),
    ] = Decimal(0)
    max_daily_loss_pct: Annotated[
        Decimal,
        decimal(
            "realised loss of a UTC day that stops new positions, % of that wallet; fees that "
            "cannot be converted to the quote currency, and funding, do not count; 0 = off",
            ge="0",
            le="100",
        ),
    ] = Decimal(0)
    max_orders_per_minute: Annotated[
        int,
        integer(
            0,
            1_000_000,
            "entries admitted for the account in any 60 seconds, closes are not held up; 0 = off",
        ),
    ] = 0
    close_only_own: Annotated[
        bool,
        doc(
            "a position is closed only by signals of the strategy that opened it (`strategy_id`); "
            "others are refused with `NOT_THE_OPENER`"
        ),
    ] = False
    max_balance_age_seconds: Annotated[
        float, real("age at which a balance no longer counts, seconds", gt=0, le=3_600)
    ] = 30.0

    @property
    def account_limits(self) -> dict[str, Decimal]:
        """The limits that the account's workers share, by configuration key; 0 for off."""
        names = (
            "max_concurrent_positions",
            "max_total_exposure_pct",
            "max_daily_loss_pct",
            "max_orders_per_minute",
        )
        return {f"risk.{name}": Decimal(getattr(self, name)) for name in names}


class ExecutionConfig(Section, kw_only=True, frozen=True):
    """Retries, deadlines and clocks of sending an order."""

    max_retries: Annotated[
        int, integer(0, 20, "further attempts after one that is known to have left no order")
    ] = 3
    base_delay: Annotated[float, real("wait before the first retry, seconds", gt=0, le=60)] = 1.0
    backoff_factor: Annotated[float, real("factor from one wait to the next", ge=1, le=10)] = 2.0
    max_delay: Annotated[float, real("longest wait, seconds", gt=0, le=600)] = 30.0
    jitter: Annotated[
        float, real("random part of a wait, a fraction: 0.25 is ±25%", ge=0, le=1)
    ] = 0.25
    skew_margin_ms: Annotated[
        int, integer(0, 60_000, "clock error allowed for beside the measured one, milliseconds")
    ] = 1_000
    max_clock_skew_ms: Annotated[
        int, integer(1, 60_000, "clock difference to an exchange that stops sending, milliseconds")
    ] = 1_000
    max_lookup_seconds: Annotated[
        float, real("how long an order in doubt is looked for, seconds", gt=0, le=600)
    ] = 20.0
    max_rest_seconds: Annotated[
        float,
        real(
            "how long a GTC entry may rest at the exchange before it is cancelled, seconds; 0 = no "
            "limit",
            ge=0,
            le=31_622_400,
        ),
    ] = 0.0


class UpdatesConfig(Section, kw_only=True, frozen=True):
    """Learning what happens to resting orders."""

    poll_seconds: Annotated[
        float,
        real(
            "how often a young resting order is asked for, seconds; an older one is asked for as "
            "often as a thirtieth of its age, but once a minute at least",
            ge=0.05,
            le=60,
        ),
    ] = 2.0


class ReconciliationConfig(Section, kw_only=True, frozen=True):
    """Following a sent order to its end."""

    verify_fill: Annotated[
        bool,
        doc(
            "check fills against the exchange's trades before the outcome is written; if off, an "
            "answer without trades counts as one trade, its fee estimated"
        ),
    ] = True
    max_price_slippage_pct: Annotated[
        Decimal, decimal("slippage above which a fill is reported, percent", ge="0", le="100")
    ] = Decimal("1.0")
    max_wait_time: Annotated[float, real("how long to wait for a fill, seconds", gt=0, le=600)] = (
        10.0
    )
    poll_interval: Annotated[
        float, real("how often an order is asked for meanwhile, seconds", ge=0.01, le=60)
    ] = 0.5
    trades_wait_seconds: Annotated[
        float,
        real(
            "how long the trades of an order that is over may be listed late before it is called "
            "unresolved, seconds",
            ge=0,
            le=600,
        ),
    ] = 20.0
