"""Who may send: keys, origins, limits; and what a request says of its sender."""

import math
import time
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import parse_qs

from ingest.domain.incoming import MAX_TEXT
from ingest.domain.knowledge import Knowledge
from ingest.domain.rate import TokenBucket
from ingest.domain.validate import Sender
from ingest.errors import Refusal, unavailable
from ingest.http.message import Request
from ingest.settings import Settings
from schemas.access_keys import AccessKey, KeyKind, hash_key
from schemas.door_problems import BAD_KEY, MISSING_SCOPE, ORIGIN_NOT_ALLOWED, TOO_MANY_REQUESTS
from schemas.reasons import Scope

_MAX_KEY = 256
_DEBT_SECONDS = 1.0
_COUNTRY_LETTERS = 2
_NO_COUNTRY = "XX"


_hash = lru_cache(maxsize=4_096)(hash_key)


def key_in(headers: Mapping[str, str], query: str) -> str | None:
    """The key as sent: X-Write-Key, or the parameter `key`."""
    key = headers.get("x-write-key")
    if key is None and "key=" in query:
        key = parse_qs(query).get("key", [None])[0]
    return key


class Access:
    """Checks keys against what is known of them; keeps the token buckets of this door."""

    def __init__(self, settings: Settings, knowledge: Knowledge) -> None:
        self._settings = settings
        self._knowledge = knowledge
        self._buckets: dict[str, TokenBucket] = {}

    def find(self, key: str | None) -> AccessKey | None:
        """The key's newest version, whatever it allows."""
        if not key or len(key) > _MAX_KEY or not key.isascii():
            return None
        return self._knowledge.keys.get(_hash(key))

    def require(self, key: str | None, origin: str | None, now: int, *, catching_up: bool) -> AccessKey:
        """The key if it may send events from `origin` at `now` (epoch ms). Raises Refusal."""
        found = self.find(key)
        if found is None:
            if key and catching_up:
                raise unavailable("the keys have not all been read yet")
            raise Refusal(BAD_KEY, "send a valid key in X-Write-Key or ?key=")
        if found.revoked or (found.expires_at is not None and now >= found.expires_at):
            raise Refusal(BAD_KEY, "the key was revoked or has expired")
        if Scope.WRITE not in found.scopes:
            raise Refusal(MISSING_SCOPE, f"the key lacks the scope {Scope.WRITE}")
        if origin is not None and not origin_allowed(found, origin):
            raise Refusal(ORIGIN_NOT_ALLOWED, "the key may not be used from this origin")
        return found

    def require_allowance(self, key: AccessKey) -> None:
        """That the key is not deep in debt; asked before a body is read. Raises Refusal with 429.

        Otherwise the body is read: only then it is known how long to wait for so many events.
        """
        bucket = self._bucket(key)
        if bucket is not None and (wait := bucket.wait(1, time.monotonic())) > _DEBT_SECONDS:
            raise _over_limit(bucket, wait)

    def spend(self, key: AccessKey, events: int) -> None:
        """Counts the events against the key's own limit. Raises Refusal with 429."""
        bucket = self._bucket(key)
        if bucket is not None and (wait := bucket.take(events, time.monotonic())) > 0:
            raise _over_limit(bucket, wait)

    def _bucket(self, key: AccessKey) -> TokenBucket | None:
        rate = key.limits.events_per_second
        if rate is None:
            return None
        burst = max(1, key.limits.burst or rate)
        bucket = self._buckets.get(key.key_hash)
        if bucket is None or (bucket.rate, bucket.burst) != (rate, burst):
            bucket = self._buckets[key.key_hash] = TokenBucket(rate, burst, time.monotonic())
        return bucket

    def sender(self, key: AccessKey, request: Request) -> Sender:
        """The sender as its events depend on it. Its address is used here and kept nowhere."""
        headers = request.headers
        private = headers.get("sec-gpc") == "1" or headers.get("dnt") == "1"
        if key.kind is KeyKind.SERVER:
            return Sender(key, private=private)
        user_agent = headers.get("user-agent") or ""
        country = self._country(request) if self._settings.trusted_proxies else ""
        return Sender(key, user_agent[:MAX_TEXT], country, private)

    def _country(self, request: Request) -> str:
        country = (request.headers.get(self._settings.country_header) or "").upper()
        well_formed = len(country) == _COUNTRY_LETTERS and country.isascii() and country.isalpha()
        if not well_formed or country == _NO_COUNTRY:
            return ""
        try:
            address = ip_address(request.client.rpartition(":")[0].strip("[]"))
        except ValueError:
            return ""
        return country if any(address in network for network in self._settings.trusted_proxies) else ""


def _over_limit(bucket: TokenBucket, wait: float) -> Refusal:
    retry_after = ("retry-after", str(math.ceil(wait)))
    return Refusal(TOO_MANY_REQUESTS, f"the key may send {bucket.rate} events a second", [retry_after])


def origin_allowed(key: AccessKey, origin: str) -> bool:
    """Whether a browser's page of this origin may use the key."""
    return not key.allowed_origins or origin in key.allowed_origins or "*" in key.allowed_origins
