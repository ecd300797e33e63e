"""The keys producers sign signals with."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from worker.config.section import Section, doc
from worker.domain.signature import SigningKey
from worker.runtime.secret import Secret


class SignatureKeyConfig(Section, kw_only=True, frozen=True):
    """One key that producers sign signals with."""

    secret: Annotated[Secret, doc("shared with the producer, at least 32 characters")] = Secret("")
    strategies: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="strategies it may sign for: ids, or beginnings that end in `*`",
        ),
    ] = ("*",)
    signal_ids: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="signal ids it may sign, whole or beginnings that end in `*`, at most 64: "
            "with a beginning of its own no strategy can take another's ids",
        ),
    ] = ("*",)
    not_before: Annotated[
        datetime | None,
        doc("from when it is good, RFC 3339; always if absent"),
    ] = None
    not_after: Annotated[
        datetime | None,
        doc("until when it is good, RFC 3339; for ever if absent"),
    ] = None


class SignaturesConfig(Section, kw_only=True, frozen=True):
    """The keys that may sign signals; several at a time, so that one can replace another."""

    keys: dict[str, SignatureKeyConfig] = field(default_factory=dict)

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """The keys as values of the domain."""
        return tuple(
            SigningKey(
                key_id=key_id,
                secret=key.secret.reveal().encode(),
                strategies=key.strategies,
                signal_ids=key.signal_ids,
                not_before=key.not_before,
                not_after=key.not_after,
            )
            for key_id, key in self.keys.items()
        )
