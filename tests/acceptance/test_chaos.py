"""A small run of the chaos, on every change; ``make chaos`` is the large one."""

import pytest

from tests.acceptance import chaos


@pytest.mark.alone
def test_whatever_breaks_no_order_is_doubled_and_none_lost() -> None:
    """Workers killed and frozen, the server crashed, replies lost, every exchange fault on.

    Afterwards: one terminal event a signal, at most one order a signal leg, every outcome true, the
    book the exchange's, nothing pending. The seed is fixed; the operating system's timing is not.
    """
    report, breaches = chaos.run(seed=5, count=90, disturbances=6, every_s=1.0)
    assert breaches == [], report
