"""The secrets of webhooks, sealed: a copy of the database alone opens none of them."""

import base64
import hmac
import secrets

from cryptography.fernet import Fernet, InvalidToken

PREFIX = "whsec_"
_SECRET_BYTES = 32


class WebhookSecrets:
    """Makes, seals and opens secrets (Standard Webhooks: `whsec_` and base64). The seal is the service's
    secret with the webhook's id: a row that was copied to another webhook does not open."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def new(self) -> str:
        """The clear text of a new one."""
        return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()

    def seal(self, webhook_id: str, clear: str) -> bytes:
        """As it is kept."""
        return self._fernet(webhook_id).encrypt(clear.encode())

    def open(self, webhook_id: str, sealed: bytes) -> str | None:
        """The clear text; None when the service's secret was another one then."""
        try:
            return self._fernet(webhook_id).decrypt(sealed).decode()
        except InvalidToken:
            return None

    def _fernet(self, webhook_id: str) -> Fernet:
        key = hmac.digest(self._secret, f"webhook\n{webhook_id}".encode(), "sha256")
        return Fernet(base64.urlsafe_b64encode(key))
