"""What a refusal of the matching core means, and a refusal in an exchange's own words."""

from tests.exchange_simulator.errors import ApiError

#: What a refusal of the core means: its code, a part of its text, the situation.
SITUATIONS: tuple[tuple[int, str, str], ...] = (
    (-1121, "", "unknown_symbol"),
    (-2010, "insufficient balance", "insufficient"),
    (-2010, "Duplicate", "duplicate"),
    (-2010, "match and take", "post_only"),
    (-2010, "trigger immediately", "triggered"),
    (-2011, "", "cancel_not_found"),
    (-2013, "", "not_found"),
    (-2019, "", "insufficient"),
    (-2021, "", "triggered"),
    (-2022, "", "reduce_only"),
    (-4116, "", "duplicate"),
    (-5022, "", "post_only"),
    (-4164, "", "too_small"),
    (-1013, "NOTIONAL", "too_small"),
    (-1013, "LOT_SIZE", "quantity"),
    (-1013, "", "price"),
    (-1111, "", "price"),
    (-4003, "", "quantity"),
    (-4005, "", "quantity"),
    (-4014, "", "price"),
    (-4016, "", "price"),
    (-4024, "", "price"),
    (-1021, "", "late"),
)


class RefusedError(ApiError):
    """A refusal in an exchange's own words: its code, its text, the HTTP status."""

    def __init__(
        self, code: str, msg: str = "", status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(0, msg, status, headers)
        self.code = code
