"""The identity of a request that may be sent again, and the seal on what it has done.

Results hold secrets, such as a new key's text. They are sealed with the Idempotency-Key itself and a secret
of the service, so that neither a copy of the database nor a key alone opens them.
"""

import base64
import hashlib
import hmac

import msgspec
from cryptography.fernet import Fernet, InvalidToken


class Repeat(msgspec.Struct, frozen=True):
    """`id` stands for who asks and the key; `fingerprint` for method, path, parameters and body."""

    id: bytes
    fingerprint: bytes
    seal: bytes

    def close(self, text: bytes) -> bytes:
        """`text` as it is kept."""
        return Fernet(self.seal).encrypt(text)

    def open(self, kept: bytes) -> bytes | None:
        """What was kept; None when the service's secret was another one then."""
        try:
            return Fernet(self.seal).decrypt(kept)
        except InvalidToken:
            return None


def repeat_of(secret: str, who: str, key: str, request: bytes) -> Repeat:
    """`who` is the caller: nobody meets another one's keys. `request` is all that must be the same."""
    named = f"{who}\n{key}".encode()
    return Repeat(
        id=hashlib.sha256(named).digest(),
        fingerprint=hashlib.sha256(request).digest(),
        seal=base64.urlsafe_b64encode(hmac.digest(secret.encode(), b"repeat\n" + named, "sha256")),
    )
