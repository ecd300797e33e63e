"""What holds for all unit tests."""

import gc


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection: it is there to stay."""
    gc.collect()
    gc.freeze()
