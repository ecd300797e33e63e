"""Signed signals: signing stream entries, and checking the signatures of received ones."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import combinations
from typing import Final

import msgspec

from worker.runtime.errors import ConfigError

KEY_ID_PATTERN: Final = r"^[a-z0-9]+([-_][a-z0-9]+)*$"
MAX_KEY_ID_LENGTH: Final = 32
#: A secret of fewer characters could be guessed; ``openssl rand -hex 32`` makes a good one.
MIN_SECRET_LENGTH: Final = 32
#: Patterns of signal ids a key may have.
MAX_SIGNAL_ID_PATTERNS: Final = 64
#: The first line of what is signed: another format will have another name.
VERSION: Final = b"execution-worker.signal.v1"
#: Stream fields, beside ``data``.
KEY_ID_FIELD: Final = "key_id"
SIGNATURE_FIELD: Final = "signature"

_KEY_ID: Final = re.compile(KEY_ID_PATTERN)
#: A signal id, or the beginning of one and ``*``.
_SIGNAL_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}|[A-Za-z0-9._:-]{0,63}\*")
_HEX: Final = re.compile(rb"[0-9a-f]{64}")


class SignatureError(ValueError):
    """An entry's signature is missing or wrong; the message never shows a correct one.

    Nothing in the entry may be trusted, its signal id included.
    """


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """A signing key, the strategies and signal ids it is for and the time it is valid.

    ``strategies`` and ``signal_ids`` are patterns: exact ids, or beginnings that end in ``*``; a
    signal without a strategy counts as the empty id, which only ``*`` covers. The key is valid from
    ``not_before`` until just before ``not_after``; None means no bound.
    """

    key_id: str
    secret: bytes
    strategies: tuple[str, ...]
    signal_ids: tuple[str, ...] = ("*",)
    not_before: datetime | None = None
    not_after: datetime | None = None

    def covers(self, strategy_id: str | None) -> bool:
        """Return whether a signal of this strategy may be signed with the key."""
        return _matches(strategy_id or "", self.strategies)

    def may_use(self, signal_id: str) -> bool:
        """Return whether a signal with this id may be signed with the key."""
        return _matches(signal_id, self.signal_ids)

    def __repr__(self) -> str:
        return f"<SigningKey {self.key_id} for {', '.join(self.strategies)}>"


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns is ``name``, or a beginning of it and ``*``."""
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )


def _overlap(one: str, other: str) -> bool:
    """Return whether a name matches both patterns."""
    if not one.endswith("*"):
        return _matches(one, (other,))
    return _matches(other.removesuffix("*"), (one,)) or (
        other.endswith("*") and _matches(one.removesuffix("*"), (other,))
    )


def is_signal_id_pattern(pattern: str) -> bool:
    """Return whether ``pattern`` is a signal id, or the beginning of one and ``*``."""
    return _SIGNAL_ID_PATTERN.fullmatch(pattern) is not None


def shared_signal_ids(keys: Iterable[SigningKey]) -> Iterator[tuple[str, str, str, str]]:
    """Find keys of different strategies that may sign the same signal ids.

    Whichever uses such an id first takes it from the other. Keys with the same strategies are one
    producer's, one replacing the other.

    Yields:
        Both key ids, and the pattern of each, of the first overlap of each pair.
    """
    for one, other in combinations(keys, 2):
        if set(one.strategies) == set(other.strategies):
            continue
        for pattern in one.signal_ids:
            found = next((p for p in other.signal_ids if _overlap(pattern, p)), None)
            if found is not None:
                yield one.key_id, other.key_id, pattern, found
                break


def is_key_id(name: str) -> bool:
    """Return whether ``name`` is a valid key id."""
    return len(name) <= MAX_KEY_ID_LENGTH and _KEY_ID.fullmatch(name) is not None


def signed_bytes(*, account: str, key_id: str, key: bytes, data: bytes) -> bytes:
    """Build the message a signature covers: all that decides what is traded, where, in which order.

    Five lines (version, account, key id, length of the message group, message group) and then the
    payload, byte for byte. No two different entries give the same bytes: the first lines hold no
    line break, and the group's length says where it ends.

    Args:
        account: the account's id, so that a signal for one account is invalid on another.
        key_id: the signing key's id.
        key: the entry's ``key`` field, empty where there is none.
        data: the entry's ``data`` field.
    """
    lines = (VERSION, account.encode(), key_id.encode(), b"%d" % len(key), key, data)
    return b"\n".join(lines)


def sign(secret: bytes, *, account: str, key_id: str, key: bytes, data: bytes) -> str:
    """Return the ``signature`` field: HMAC-SHA256 (RFC 2104) of :func:`signed_bytes`, in hex."""
    message = signed_bytes(account=account, key_id=key_id, key=key, data=data)
    return hmac.digest(secret, message, hashlib.sha256).hex()


def signed_fields(
    entry: Mapping[str, bytes], *, account: str, key_id: str, secret: bytes
) -> dict[str, bytes]:
    """Return a stream entry's own fields with ``key_id`` and ``signature`` added."""
    signature = sign(
        secret, account=account, key_id=key_id, key=entry.get("key", b""), data=entry["data"]
    )
    return {**entry, KEY_ID_FIELD: key_id.encode(), SIGNATURE_FIELD: signature.encode()}


class Signer:
    """Signs stream entries with one key, or with none.

    Args:
        account: the account the entries are for.
        key_id: the key's id; empty to sign nothing.
        secret: the key's secret.

    Raises:
        ConfigError: names ``key_id`` or ``secret``, whichever is invalid.
    """

    def __init__(self, account: str, key_id: str = "", secret: str = "") -> None:
        if secret and not key_id:
            raise ConfigError("key_id", "is empty: a key's id and its secret come together")
        if key_id and not is_key_id(key_id):
            raise ConfigError("key_id", f"{key_id!r} is not a key id")
        if key_id and not secret:
            raise ConfigError("secret", "is empty: a key's id and its secret come together")
        if key_id and len(secret) < MIN_SECRET_LENGTH:
            raise ConfigError("secret", f"has fewer than {MIN_SECRET_LENGTH} characters")
        self._account = account
        self._key_id = key_id
        self._secret = secret.encode()

    def __bool__(self) -> bool:
        return bool(self._key_id)

    def __repr__(self) -> str:
        return f"<Signer {self._key_id or 'of nothing'}>"

    def sign(self, entry: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the entry with its signature, or unchanged if there is no key."""
        if not self._key_id:
            return entry
        return signed_fields(entry, account=self._account, key_id=self._key_id, secret=self._secret)


class Signatures:
    """Checks the signatures of received entries.

    Args:
        account: the account's id.
        keys: the known keys; several may be valid at a time, so that one can replace another.
        required: whether an entry without a signature is refused; a signature that is given must
            be valid in any case.
        now: the time, aware.
    """

    def __init__(
        self,
        *,
        account: str,
        keys: Iterable[SigningKey],
        required: bool,
        now: Callable[[], datetime],
    ) -> None:
        self._account = account
        self._keys = {key.key_id.encode(): key for key in keys}
        self._required = required
        self._now = now

    def key_of(self, fields: Mapping[bytes, bytes]) -> SigningKey | None:
        """Return the key an entry was signed with; None for an unsigned one that need not be.

        Compares bytes only: an untrusted payload is never parsed. :func:`check_scope` checks that
        the key is for the signal's strategy and id, once the payload has been decoded.

        Raises:
            SignatureError: no signature where one is required, or an invalid one.
        """
        signature, key_id = fields.get(b"signature"), fields.get(b"key_id")
        if signature is None and key_id is None:
            if self._required:
                raise SignatureError("signature: the entry is not signed, and it must be")
            return None
        if signature is None or key_id is None:
            missing = "signature" if signature is None else "key_id"
            raise SignatureError(f"{missing}: signature and key_id come together")
        key = self._keys.get(key_id)
        if key is None:
            shown = key_id[: 2 * MAX_KEY_ID_LENGTH].decode(errors="replace")
            raise SignatureError(f"key_id: no key {shown!r} is configured")
        if not _HEX.fullmatch(signature):
            raise SignatureError("signature: not 64 lower-case hex digits")
        expected = sign(
            key.secret,
            account=self._account,
            key_id=key.key_id,
            key=fields.get(b"key", b""),
            data=fields.get(b"data", b""),
        )
        if not hmac.compare_digest(expected.encode(), signature):
            raise SignatureError(
                f"signature: not made with key {key.key_id!r} for this account, group and data"
            )
        self._check_time(key)
        return key

    def _check_time(self, key: SigningKey) -> None:
        now = self._now()
        if key.not_before is not None and now < key.not_before:
            raise SignatureError(
                f"key_id: key {key.key_id!r} is not good before {key.not_before.isoformat()}"
            )
        if key.not_after is not None and now >= key.not_after:
            raise SignatureError(
                f"key_id: key {key.key_id!r} is not good after {key.not_after.isoformat()}"
            )


def check_scope(key: SigningKey, strategy_id: str | None, signal_id: str) -> None:
    """Refuse a signal of a strategy, or with an id, that its key may not sign.

    Raises:
        SignatureError: names the key, and the strategy or the id.
    """
    if not key.covers(strategy_id):
        whose = f"strategy {strategy_id!r}" if strategy_id else "a signal without a strategy"
        raise SignatureError(f"strategy_id: key {key.key_id!r} may not sign for {whose}")
    if not key.may_use(signal_id):
        raise SignatureError(
            f"signal_id: key {key.key_id!r} may not sign {signal_id!r}; its signal_ids are "
            f"{', '.join(key.signal_ids[:8])}" + (", ..." if len(key.signal_ids) > 8 else "")
        )
