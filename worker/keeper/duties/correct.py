"""Carries out what operators ask for: corrections of the book."""

from typing import ClassVar, Final

import msgspec

from worker.domain.verdict import CorrectionAnswer, CorrectionRequest
from worker.keeper.duty import Duty
from worker.ledger.ports import CorrectionCalls
from worker.operator.audit import DecisionError
from worker.operator.corrections import carry_out
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()
_decode: Final = msgspec.json.Decoder(CorrectionRequest).decode
#: What a request may raise that nobody but its author is to blame for.
_UNFIT: Final = (DecisionError, msgspec.MsgspecError, ArithmeticError, ValueError, RecursionError)
_encode: Final = msgspec.json.Encoder().encode


class CarryOutCorrections(Duty):
    """Correct the book as operators ask, and answer each.

    Args:
        calls: read the requests, change the book.
        account: the account's id.
        clock: the events' time.
    """

    name: ClassVar[str] = "correct"
    interval_ms: ClassVar[int] = 0

    def __init__(self, calls: CorrectionCalls, *, account: str, clock: Clock) -> None:
        self._calls = calls
        self._account = account
        self._clock = clock

    async def run(self) -> None:
        """Carry out or refuse some of the requests there are.

        Raises:
            LedgerError: Redis failed; what was not answered is taken up again.
        """
        for request, raw in (await self._calls.requested_corrections()).items():
            try:
                await carry_out(
                    self._calls,
                    request,
                    _decode(raw),
                    account=self._account,
                    now_ms=self._clock.now_ms(),
                )
            except _UNFIT as error:  # none may stop the keeper, and the next one after it
                log.warning("correction_refused", request=request, error=str(error))
                answer = CorrectionAnswer(refusal=str(error))
                await self._calls.refuse_correction(request, _encode(answer))
