"""What can only be seen in a process of its own: what is imported, and how one dies."""

import json
import subprocess
import sys

from worker.runtime.secret import HIDDEN


def test_one_exchange_is_imported_alone_with_the_classes_of_the_whole_library() -> None:
    """In a fresh process: few modules, and a later plain import finds the very same classes."""
    program = """
import sys
from worker.exchanges.ccxt.loading import exchange_class
alone = exchange_class("binance")
assert "ccxt.async_support.bybit" not in sys.modules
assert "ccxt" not in sys.modules
few = len(sys.modules)
import ccxt.async_support as whole
assert whole.binance is alone, "another class"
assert issubclass(whole.bybit, whole.Exchange)
assert issubclass(alone, whole.Exchange)
import ccxt
assert ccxt.InvalidOrder is whole.InvalidOrder is sys.modules["ccxt.base.errors"].InvalidOrder
assert ccxt.__version__ == alone.__base__.__init__.__globals__["__version__"]
assert exchange_class("okx") is whole.okx
print(len(sys.modules) - few)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_only_a_worker_with_sockets_loads_ccxt_pro_and_only_one_exchange_of_it() -> None:
    """In a fresh process; and a later plain import finds the very same classes."""
    program = """
import sys
import worker.exchanges.binance.adapter
from worker.exchanges.ccxt.loading import exchange_class
rest = exchange_class("binance")
assert not any(name.startswith("ccxt.pro") for name in sys.modules)
alone = exchange_class("binance", pro=True)
assert issubclass(alone, rest)
assert "ccxt.pro.bybit" not in sys.modules
assert "ccxt" not in sys.modules
for name in ("nowhere", "base", "../binance"):
    try:
        exchange_class(name, pro=True)
    except KeyError:
        continue
    raise AssertionError(name)
import ccxt.pro as whole
import ccxt.async_support
assert whole.binance is alone, "another class"
assert ccxt.async_support.binance is rest
assert issubclass(whole.bybit, whole.Exchange)
assert exchange_class("okx", pro=True) is whole.okx
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_dying_process_leaves_one_json_line() -> None:
    """The whole command, seen from outside: no plain traceback, no secret, no rich."""
    program = (
        "import sys\n"
        "from worker.config.keys import LogConfig\n"
        "from worker.observe.logs import configure_logging\n"
        "configure_logging(LogConfig(), sys.stderr, ['hunter2'])\n"
        "assert not {'rich', 'ccxt', 'aiohttp'} & set(sys.modules)\n"
        "import rich.console\n"
        "raise ValueError('hunter2')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["exception"].endswith(f"ValueError: {HIDDEN}")
