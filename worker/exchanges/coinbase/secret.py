"""Checks a Coinbase API secret, which is a private key, before anything is signed with it.

Keys of the Coinbase Developer Platform sign with ECDSA (``api_key`` is ``organizations/…``, the
secret a PEM block) or with Ed25519 (the secret is 64 bytes in base64), see
https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication.
Older keys, whose secret was a plain text, were switched off for Advanced Trade in February 2025.
"""

import base64
import binascii
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_BEGIN: Final = "-----BEGIN"
#: An Ed25519 seed with its public key, and the length of that in base64.
_ED25519_BYTES, _ED25519_CHARS = 64, 88
_HOW: Final = (
    "copy the whole privateKey of the key file, from -----BEGIN EC PRIVATE KEY----- to "
    "-----END EC PRIVATE KEY-----, with its line breaks or with \\n for each"
)


def tidied(secret: str) -> str:
    r"""Return ``secret`` with line breaks where it has ``\n``, as in Coinbase's key files."""
    return secret.replace("\\n", "\n") if _BEGIN in secret else secret


def fault(api_key: str, secret: str) -> str:
    """Return why nothing can be signed with ``secret``, in words; empty if it can be."""
    if _BEGIN in secret:
        return _fault_of_pem(secret)
    if api_key.startswith("organizations/"):
        return f"is no private key in PEM form, which this api_key needs: {_HOW}"
    if len(secret) == _ED25519_CHARS or secret.endswith("="):
        return _fault_of_ed25519(secret)
    return ""


def advice(api_key: str, secret: str) -> str:
    """Return why Coinbase will hardly accept the key, in words; empty if there is no reason."""
    if not api_key or _BEGIN in secret or len(secret) == _ED25519_CHARS:
        return ""
    return (
        "the secret is no private key in PEM form, and Coinbase Advanced has switched off keys "
        "with other secrets: make a key on the Coinbase Developer Platform, and " + _HOW
    )


def _fault_of_pem(secret: str) -> str:
    try:
        key = load_pem_private_key(secret.encode(), password=None)
    except (ValueError, TypeError):
        return f"is no readable private key in PEM form: {_HOW}"
    except Exception as error:  # such as an algorithm this build of OpenSSL has not
        return f"is no private key that can be used ({type(error).__name__}): {_HOW}"
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        return "is a private key of another kind than Coinbase's ECDSA keys (curve P-256)"
    return ""


def _fault_of_ed25519(secret: str) -> str:
    try:
        length = len(base64.b64decode(secret, validate=True))
    except binascii.Error:
        length = 0
    if length == _ED25519_BYTES:
        return ""
    return f"is neither a private key in PEM form nor an Ed25519 key in base64: {_HOW}"
