"""Carries one call from a process to a server and back, with its fault on the way."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, TypeVar

from tests.simulation.faults import Call, Fault, Faults, Strike
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.trace import Trace

T = TypeVar("T")

#: Faults that answer for the network; the caller makes its own error of them.
ANSWERED: Final = frozenset({Fault.NOT_SENT, Fault.THROTTLED, Fault.BUSY, Fault.REFUSED})


class Broken(Exception):  # noqa: N818
    """The call failed on its way."""

    def __init__(self, strike: Strike) -> None:
        super().__init__(f"{strike.fault} after {strike.seconds:.3f} s")
        self.strike = strike


class Network:
    """Delays, loses, repeats nothing: a request arrives once or not at all.

    Args:
        loop: time.
        random: for the ordinary delays.
        faults: decides what goes wrong.
        trace: told of every fault.
    """

    def __init__(self, loop: VirtualLoop, random: Random, faults: Faults, trace: Trace) -> None:
        self._loop = loop
        self._random = random
        self.faults = faults
        self._trace = trace
        #: Requests that have left and not arrived.
        self.under_way = 0
        self.killed: Callable[[Process], None] = lambda _process: None

    async def call(
        self, process: Process, call: Call, execute: Callable[[], T], *, typical_s: float
    ) -> T:
        """Run ``execute`` on the far side and bring its result or exception back.

        Raises:
            Broken: the network failed the call.
        """
        strike = self.faults.strike(call, self._loop.time())
        fault = strike.fault
        if fault is not Fault.NONE:
            self._trace.note(
                call.worker, "fault", call.place, call.name, fault, round(strike.seconds, 3)
            )
            await self._before(process, strike)
        travel = self._random.uniform(0.2, 1.0) * typical_s
        answer: asyncio.Future[T] = self._loop.create_future()
        if fault in ANSWERED or fault is Fault.LOST_REQUEST:
            self._loop.outside(travel + strike.seconds, _fail, answer, strike)
            return await answer
        if fault is Fault.LATE:
            self._loop.outside(travel, _fail, answer, strike)
            self._send(travel + strike.seconds, execute, None, 0.0)
            return await answer
        if fault is Fault.LOST_REPLY:
            self._send(travel, execute, None, 0.0)
            self._loop.outside(2 * travel + strike.seconds, _fail, answer, strike)
            return await answer
        out = travel + (strike.seconds if fault is Fault.SLOW else 0.0)
        back = travel + (strike.seconds if fault is Fault.SLOW_REPLY else 0.0)
        self._send(out, execute, answer, back)
        if fault is Fault.CRASH_AFTER:
            self._die(process)
        elif fault is Fault.PAUSE_AFTER:
            self._loop.pause(process, strike.seconds)
        return await answer

    async def _before(self, process: Process, strike: Strike) -> None:
        if strike.fault is Fault.CRASH_BEFORE:
            self._die(process)
        elif strike.fault is Fault.PAUSE_BEFORE:
            self._loop.pause(process, strike.seconds)
        else:
            return
        # Nothing more is executed of a process that does not run, so this is where it stands.
        still: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon(_answer, still, None, None)
        await still

    def _die(self, process: Process) -> None:
        self._loop.kill(process)
        self.killed(process)

    def _send(
        self,
        delay: float,
        execute: Callable[[], T],
        answer: "asyncio.Future[T] | None",
        back: float,
    ) -> None:
        self.under_way += 1
        self._loop.outside(delay, self._arrive, execute, answer, back)

    def _arrive(
        self, execute: Callable[[], T], answer: "asyncio.Future[T] | None", back: float
    ) -> None:
        self.under_way -= 1
        result: T | None = None
        error: Exception | None = None
        try:
            result = execute()
        except Exception as raised:
            error = raised
        if answer is None:
            return
        self._loop.outside(back, _answer, answer, result, error)


def _fail(answer: "asyncio.Future[T]", strike: Strike) -> None:
    if not answer.done():
        answer.set_exception(Broken(strike))


def _answer(answer: "asyncio.Future[T]", result: T, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
