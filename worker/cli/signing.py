"""Signing what a command puts on the signals stream: which key, where its secret is."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.config import Config
from worker.domain.signature import MIN_SECRET_LENGTH, is_key_id, signed_fields
from worker.errors import WorkerError

MAX_SECRET_BYTES: Final = 65_536


class SigningError(WorkerError):
    """It cannot be signed as asked; the message says why."""


class Signer:
    """Signs stream entries with one key, or with none.

    Args:
        account: the account they are for.
        key_id: the key's id; empty to sign nothing.
        secret: the key's secret.
    """

    def __init__(self, account: str, key_id: str = "", secret: bytes = b"") -> None:
        self._account = account
        self._key_id = key_id
        self._secret = secret

    def __bool__(self) -> bool:
        return bool(self._key_id)

    def __repr__(self) -> str:
        return f"<Signer {self._key_id or 'of nothing'}>"

    def sign(self, entry: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """The entry with its signature; as it is where there is no key."""
        if not self._key_id:
            return entry
        return signed_fields(entry, account=self._account, key_id=self._key_id, secret=self._secret)


def configure(parser: ArgumentParser) -> None:
    """The arguments that name a key."""
    parser.add_argument("--key-id", metavar="ID", default="", help="sign with this key")
    parser.add_argument(
        "--secret-file",
        metavar="F",
        type=Path,
        help="the key's secret; by default the one in the configuration (signatures.keys.ID)",
    )


def signer(options: Namespace, config: Config) -> Signer:
    """The key that was asked for.

    Raises:
        SigningError: half of what is needed is missing, or the secret cannot be read.
    """
    if not options.key_id:
        if options.secret_file is not None:
            raise SigningError("--secret-file needs --key-id: a worker looks the key up by its id")
        return Signer(config.account)
    if not is_key_id(options.key_id):
        raise SigningError(f"--key-id: {options.key_id!r} is not a key id")
    if options.secret_file is not None:
        secret = _read(options.secret_file)
    elif options.key_id in config.signatures.keys:
        secret = config.signatures.keys[options.key_id].secret.reveal()
    else:
        raise SigningError(
            f"--key-id: signatures.keys.{options.key_id} is not configured here; --secret-file "
            "names a file that holds its secret"
        )
    if len(secret) < MIN_SECRET_LENGTH:
        raise SigningError(f"the secret has fewer than {MIN_SECRET_LENGTH} characters")
    return Signer(config.account, options.key_id, secret.encode())


def _read(path: Path) -> str:
    """A secret from a file, without the line break at its end, as ``_FILE`` variables are read."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SECRET_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SigningError(f"cannot read the secret file {path}: {reason}") from None
    return text.removesuffix("\n").removesuffix("\r")
