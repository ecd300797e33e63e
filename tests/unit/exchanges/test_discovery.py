"""An exchange is one folder: it is found by its ccxt id, and nothing outside names it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import worker
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.discovery import adapter_class, exchange_folders

PACKAGE = Path(worker.__file__).parent
#: The exchanges a worker has when nothing is configured, and an example in the schema.
MAY_NAME_EXCHANGES = {"config/exchange_keys.py", "cli/schema.py"}


def test_every_folder_has_an_adapter_of_its_own() -> None:
    """A folder that declares capabilities brings the adapter they are about."""
    folders = exchange_folders()
    assert folders
    for ccxt_id, capabilities in folders.items():
        adapter = adapter_class(ccxt_id)
        assert isinstance(adapter, type)
        assert issubclass(adapter, CCXTAdapter)
        assert adapter is not CCXTAdapter
        assert capabilities.title.lower() == ccxt_id


@pytest.mark.parametrize("ccxt_id", ["bitget", "ccxt", "ports", "errors", "../binance", ""])
def test_what_has_no_folder_gets_the_generic_adapter(ccxt_id: str) -> None:
    """The package's own modules are no exchanges, whatever a configuration says."""
    assert adapter_class(ccxt_id) is CCXTAdapter


def test_only_the_listed_modules_outside_a_folder_name_its_exchange() -> None:
    """A new exchange is a new folder and no change elsewhere."""
    names = exchange_folders().keys()
    naming = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and node.value in names
        and path.parent != PACKAGE / "exchanges" / node.value
    }
    assert naming == MAY_NAME_EXCHANGES


def test_capabilities_are_known_without_importing_ccxt() -> None:
    """Commands that only read the configuration stay quick."""
    program = (
        "import sys\n"
        "from worker.exchanges.discovery import exchange_folders\n"
        "assert exchange_folders()\n"
        "assert not {'ccxt', 'aiohttp'} & {name.partition('.')[0] for name in sys.modules}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
