"""The options that name a signing key, and the signer they give."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from worker.config.keys import Config
from worker.config.loading import read_secret
from worker.domain.signature import Signer, is_key_id
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
