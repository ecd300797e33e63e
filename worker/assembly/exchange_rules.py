"""Configuration rules that depend on what an exchange's adapter can do."""

from worker.config.keys import Config
from worker.exchanges.discovery import exchange_folders
from worker.runtime.errors import ConfigError


def check_exchange_rules(config: Config) -> None:
    """Check every exchange section against the capabilities of its exchange.

    Raises:
        ConfigError: for the first rule broken, naming the key to change.
    """
    for name, section in config.exchanges.items():
        if section.order_transport == "websocket":
            _check_websocket_orders(f"exchanges.{name}.order_transport", section.ccxt_id or name)
        if section.nonce_window:
            _check_nonce_window(f"exchanges.{name}.nonce_window", section.ccxt_id or name)


def _check_websocket_orders(key: str, ccxt_id: str) -> None:
    folders = exchange_folders()
    if ccxt_id in folders and folders[ccxt_id].websocket_orders:
        return
    titles = [declared.title for declared in folders.values() if declared.websocket_orders]
    verb = "has" if len(titles) == 1 else "have"
    raise ConfigError(
        key,
        f'is "websocket", which only {" and ".join(titles)} {verb} here, and this exchange is '
        f'"{ccxt_id}" (its ccxt_id, or else its name): leave the key out, or set it to "rest"',
    )


def _check_nonce_window(key: str, ccxt_id: str) -> None:
    folders = exchange_folders()
    if ccxt_id in folders and folders[ccxt_id].nonce_windows:
        return
    titles = [declared.title for declared in folders.values() if declared.nonce_windows]
    raise ConfigError(
        key,
        f"is set, but only API keys of {' and '.join(titles)} have a nonce window, and this "
        f'exchange is "{ccxt_id}" (its ccxt_id, or else its name): leave the key out',
    )
