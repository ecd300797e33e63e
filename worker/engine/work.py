"""One delivery in hand."""

import msgspec

from worker.ledger.replies import Delivery
from worker.observe.tracing import Trace
from worker.pipeline.custody import Custody


class Work(msgspec.Struct, frozen=True, gc=False):
    """A delivery, the grant under which this worker has it, and its trace where there is one."""

    delivery: Delivery
    custody: Custody
    trace: Trace | None
