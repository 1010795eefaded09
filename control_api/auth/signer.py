"""Makes the tokens of sessions."""

import base64
import hashlib
import hmac
from datetime import datetime

from control_api.auth.tokens import Claims, Tokens
from control_api.domain.sessions import ACCESS_LIFETIME
from control_api.domain.users import StoredUser


class SessionSigner:
    """Implements handlers.sessions.Signer."""

    def __init__(self, secret: str, tokens: Tokens) -> None:
        self._secret = secret.encode()
        self._tokens = tokens

    def access_token(self, user: StoredUser, session_id: str, now: datetime) -> str:
        """A JWT of ten minutes that names its session."""
        claims = Claims(user.id, user.organization_id, user.roles, session_id)
        return self._tokens.mint(claims, now=now, lifetime=ACCESS_LIFETIME)

    def successor(self, refresh_token: str, salt: bytes) -> str:
        """Nobody makes it without the secret, so a copy of the database gives no tokens."""
        text = b"refresh\n" + salt + refresh_token.encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, text, "sha256")).decode().rstrip("=")

    def hash(self, refresh_token: str) -> bytes:
        """The tokens have 256 random bits: a slow hash would protect nothing more."""
        return hashlib.sha256(refresh_token.encode()).digest()
