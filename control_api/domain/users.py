"""Users of an organization: what an admin asks for, what is kept, and who may change whom."""

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from control_api.domain.campaign import ShortText
from control_api.domain.permissions import Permission, Role, of_roles
from control_api.domain.refusals import FieldError
from schemas.patterns import END

MIN_PASSWORD = 12
MAX_PASSWORD = 256
_LEAST_DIFFERENT = 5
_EMAIL = r"^[!#-'*+\-./0-9=?A-Z^_`a-z{|}~]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}" + END
Email = Annotated[str, msgspec.Meta(pattern=_EMAIL, max_length=254)]
"""ASCII only: two addresses that look alike are alike, and Postgres lowers them in any locale."""
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PASSWORD)]
Roles = Annotated[tuple[Role, ...], msgspec.Meta(min_length=1, max_length=len(Role))]


class UserRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body that makes a user. Without a password it logs in at the outside issuer only."""

    email: Email
    name: ShortText
    roles: Roles
    password: Password | None = None


class UserReplacement(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a PUT: the whole as GET shows it. What only the service writes is ignored, the email too. A
    `password` that is given replaces the one there is."""

    name: ShortText
    roles: Roles
    active: bool = True
    password: Password | UnsetType = UNSET
    id: Any = UNSET
    email: Any = UNSET
    has_password: Any = UNSET
    version: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET


class StoredUser(msgspec.Struct, frozen=True, kw_only=True):
    """A person of an organization, as it is kept."""

    id: str
    organization_id: str
    email: str
    name: str
    roles: tuple[str, ...]
    password_hash: str | None = None
    deactivated_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def active(self) -> bool:
        """Whether it may do anything."""
        return self.deactivated_at is None

    @property
    def is_admin(self) -> bool:
        """Whether it can mend what is wrong with other users."""
        return self.active and Role.ADMIN in self.roles


def normal(password: str) -> str:
    """The same password from every keyboard (NFKC, as NIST SP 800-63B asks for)."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, email: str, pointer: str) -> Iterator[FieldError]:
    """What is wrong with a new password: length counts, kinds of characters do not (NIST SP 800-63B)."""
    text = normal(password)
    if len(text) < MIN_PASSWORD:
        yield FieldError(pointer, f"must have at least {MIN_PASSWORD} characters")
    elif len(set(text)) < _LEAST_DIFFERENT:
        yield FieldError(pointer, f"must have at least {_LEAST_DIFFERENT} different characters")
    elif text.casefold() == email.casefold():
        yield FieldError(pointer, "must not be the email address")


def beyond(held: frozenset[Permission], roles: Iterable[str]) -> frozenset[Permission]:
    """What these roles allow beyond `held`: nobody gives, or takes over, more than he has."""
    return of_roles(roles) - held
