"""Why the door refuses a whole request: the closed set that code, answers, metrics and documents share."""

import msgspec


class DoorProblem(msgspec.Struct, frozen=True):
    """A kind of refusal (RFC 9457): `name` ends the type `/problems/<name>`; `advice` is for the sender."""

    name: str
    status: int
    title: str
    advice: str


MALFORMED_BODY = DoorProblem(
    "malformed-body",
    400,
    "The body cannot be read",
    "No event of it can be told from another. Send UTF-8: an event, an array of events, or a line for each.",
)
BAD_PARAMETER = DoorProblem(
    "bad-parameter", 400, "A parameter is not valid", "Correct the parameter that `detail` names."
)
BAD_KEY = DoorProblem(
    "bad-key",
    401,
    "The key is not valid",
    "Send a key that is neither revoked nor expired in `X-Write-Key` or `?key=`. Don't send the same again.",
)
MISSING_SCOPE = DoorProblem(
    "missing-scope", 403, "The key may not do this", "Use a key that has the scope which `detail` names."
)
ORIGIN_NOT_ALLOWED = DoorProblem(
    "origin-not-allowed",
    403,
    "Not from this origin",
    "The key is held to the origins in its `allowedOrigins`; make one that allows this page's.",
)
NOT_FOUND = DoorProblem("not-found", 404, "Not found", "Events go to `POST /v1/events`.")
METHOD_NOT_ALLOWED = DoorProblem(
    "method-not-allowed", 405, "Method not allowed", "`Allow` names the methods there are."
)
TOO_SLOW = DoorProblem(
    "too-slow", 408, "The body took too long", "Send the same request again, in smaller batches if need be."
)
TOO_LARGE = DoorProblem(
    "too-large",
    413,
    "The request is too large",
    "A request has at most 1,000 events and 1 MiB, unpacked as well: send fewer at a time.",
)
UNSUPPORTED_MEDIA_TYPE = DoorProblem(
    "unsupported-media-type",
    415,
    "The media type is not supported",
    "Send `application/json`, `application/x-ndjson` or `text/plain` in UTF-8; gzip, deflate or zstd.",
)
TOO_MANY_REQUESTS = DoorProblem(
    "too-many-requests",
    429,
    "More events than the key may send",
    "Send the same request again after `Retry-After`.",
)
OVER_SHARE = DoorProblem(
    "over-share",
    429,
    "More at once than the organization's share",
    "Send the same request again after `Retry-After`; fewer at a time, with more events in each.",
)
UNAVAILABLE = DoorProblem(
    "unavailable",
    503,
    "Temporarily unavailable",
    "Nothing is promised of this request: send all of it again, with the same eventIds, after `Retry-After`.",
)

ALL = (
    MALFORMED_BODY,
    BAD_PARAMETER,
    BAD_KEY,
    MISSING_SCOPE,
    ORIGIN_NOT_ALLOWED,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    TOO_SLOW,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    TOO_MANY_REQUESTS,
    OVER_SHARE,
    UNAVAILABLE,
)
