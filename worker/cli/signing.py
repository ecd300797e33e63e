"""The options that name a signing key, the signer they give, and whether workers accept it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

from worker.config.keys import Config
from worker.config.loading import read_secret
from worker.domain.signal import Signal
from worker.domain.signature import (
    KEY_ID_FIELD,
    SignatureError,
    Signatures,
    Signer,
    check_scope,
    is_key_id,
)
from worker.runtime.clock import SystemClock, utc
from worker.runtime.errors import ConfigError, WorkerError


class SigningError(WorkerError):
    """The signals cannot be signed as asked; the message says why."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments that name a key."""
    parser.add_argument("--key-id", metavar="ID", default="", help="sign with this key")
    parser.add_argument(
        "--secret-file",
        metavar="F",
        type=Path,
        help="the key's secret; by default the one in the configuration (signatures.keys.ID)",
    )


def signer(options: Namespace, config: Config) -> Signer:
    """Build the signer of the key that was asked for, or one that signs nothing.

    Raises:
        SigningError: the key's id or its secret is missing or invalid.
    """
    if options.secret_file is not None and not options.key_id:
        raise SigningError("--secret-file needs --key-id: a worker looks the key up by its id")
    try:
        return Signer(config.account, options.key_id, _secret(options, config))
    except ConfigError as error:  # the mistake is in the command, not in the configuration
        raise SigningError(str(error)) from None


def why_refused(entry: Mapping[str, bytes], config: Config, signal: Signal | None) -> str | None:
    """Return why a worker of this configuration would not accept an entry's signature.

    Args:
        entry: as it would be submitted.
        config: its keys, and whether signatures are required.
        signal: what the key must be for; None to look at the signature alone.

    Returns:
        A sentence; None if the entry is accepted, or if its key is not configured here.
    """
    key_id = entry.get(KEY_ID_FIELD)
    if key_id is not None and key_id.decode() not in config.signatures.keys:
        return None
    signatures = Signatures(
        account=config.account,
        keys=config.signatures.signing_keys,
        required=config.validation.require_signature,
        now=lambda: utc(SystemClock().now_ms()),
    )
    try:
        key = signatures.key_of({name.encode(): value for name, value in entry.items()})
        if key is not None and signal is not None:
            check_scope(key, signal.strategy_id, signal.signal_id)
    except SignatureError as error:
        return str(error)
    return None


def _secret(options: Namespace, config: Config) -> str:
    if options.secret_file is not None:
        return read_secret("--secret-file", options.secret_file)
    if options.key_id in config.signatures.keys:
        return config.signatures.keys[options.key_id].secret.reveal()
    if is_key_id(options.key_id):
        raise SigningError(
            f"--key-id: signatures.keys.{options.key_id} is not configured here; --secret-file "
            "names a file that holds its secret"
        )
    return ""
