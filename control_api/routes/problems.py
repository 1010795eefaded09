"""RFC 9457: every refusal and error as a problem with a stable type, in one place."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import UNSET, UnsetType

from control_api import errors, metrics
from control_api.domain import refusals
from control_api.domain.refusals import FieldError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemType(msgspec.Struct, frozen=True):
    """A kind of problem: its name in `/problems/<name>`, its status and what to do about it."""

    name: str
    status: int
    title: str
    advice: str


class Problem(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The body of every answer of 400 and above."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
    errors: tuple[FieldError, ...] | UnsetType = UNSET
    current_status: str | UnsetType = UNSET
    allowed_transitions: tuple[str, ...] | UnsetType = UNSET
    current_version: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


_R, _E = refusals, errors
BY_ERROR: dict[type[Exception], ProblemType] = {
    _R.InvalidCampaign: ProblemType(
        "validation", 422, "The campaign is not valid", "Correct every field that `errors` names."
    ),
    _E.InvalidRequest: ProblemType(
        "invalid-fields", 422, "Some fields are not valid", "Correct every field that `errors` names."
    ),
    _E.MalformedRequest: ProblemType(
        "malformed-request", 400, "The request cannot be read", "Send JSON with the documented fields only."
    ),
    _R.NotInThisStatus: ProblemType(
        "transition-not-allowed",
        409,
        "Not possible in this status",
        "`currentStatus` is where the campaign is, `allowedTransitions` are the ways out of it.",
    ),
    _R.FieldsNotChangeable: ProblemType(
        "fields-not-changeable",
        409,
        "Some fields cannot be changed now",
        "Leave the fields that `errors` names as they are; what may change depends on the status.",
    ),
    _R.DatePassed: ProblemType(
        "date-passed", 409, "A date has passed", "Change the dates, or activate with `startNow`."
    ),
    _R.ApprovalRequired: ProblemType(
        "approval-required",
        409,
        "Approval required",
        "Ask somebody of your organization to approve the budget.",
    ),
    _R.BudgetNotAcknowledged: ProblemType(
        "budget-not-acknowledged",
        409,
        "90 % of the budget is billed",
        "Raise the budget, or activate with `acknowledgeBudget`.",
    ),
    _R.BudgetSpent: ProblemType(
        "budget-spent", 409, "The budget is used up", "Raise the budget or maxImpressions while PAUSED."
    ),
    _R.HasEvents: ProblemType(
        "has-events", 409, "Events were recorded", "Stop the campaign instead of deleting it."
    ),
    _R.ApprovalNotNeeded: ProblemType(
        "approval-not-needed", 409, "Nothing to approve", "The campaign may run with its budget as it is."
    ),
    _R.ApprovalAsked: ProblemType(
        "approval-asked", 409, "Asked for already", "Wait until somebody has decided on it."
    ),
    _R.ApprovalDecided: ProblemType(
        "approval-decided", 409, "Decided already", "Read the approval; ask for a new one if it is needed."
    ),
    _E.NotCarriedOut: ProblemType(
        "not-carried-out",
        424,
        "Nothing was changed",
        "Correct what is wrong with the other ids, or send them without `atomic`.",
    ),
    _E.NameTaken: ProblemType(
        "name-taken", 409, "The name is taken", "Names are unique in an organization, whatever their case."
    ),
    _E.WebhookInactive: ProblemType(
        "webhook-inactive", 409, "The webhook is not active", "Change it to `active` first."
    ),
    _E.TooManyWebhooks: ProblemType(
        "too-many-webhooks", 409, "Too many webhooks", "Delete a webhook that is not used any more."
    ),
    _E.NotFound: ProblemType(
        "not-found", 404, "Not found", "Check the id and the organization of your token."
    ),
    _E.Unauthorized: ProblemType("unauthorized", 401, "Not authenticated", "Send a valid Bearer token."),
    _E.Forbidden: ProblemType("forbidden", 403, "Not allowed", "Ask an admin of your organization."),
    _E.IdempotencyKeyReused: ProblemType(
        "idempotency-key-reused",
        422,
        "The Idempotency-Key was used before",
        "Send a new key with a new request, and the same key only with the very same one.",
    ),
    _E.RepeatUnreadable: ProblemType(
        "already-done",
        409,
        "Already carried out",
        "The request was carried out the first time; read what it made.",
    ),
    _E.PreconditionRequired: ProblemType(
        "precondition-required", 428, "If-Match is required", "Send the ETag of the version that you changed."
    ),
    _E.PreconditionFailed: ProblemType(
        "precondition-failed", 412, "Changed by others", "Read the current version and change that."
    ),
    _E.TooLarge: ProblemType(
        "too-large",
        413,
        "The body is too large",
        "Bodies have 1 MiB at most; files to import have 64 MiB, as they are sent and decompressed.",
    ),
    _E.JobFinished: ProblemType(
        "job-finished", 409, "The job has ended", "Read the job: what it has done stays."
    ),
    _E.TooManyJobs: ProblemType(
        "too-many-jobs", 409, "Too many jobs", "Send the file again when some of your jobs have ended."
    ),
    _E.TooSlow: ProblemType("too-slow", 408, "The body took too long", "Send the same request again."),
    _E.UnsupportedMediaType: ProblemType(
        "unsupported-media-type",
        415,
        "The media type is not supported",
        "Send JSON in UTF-8; files to import as CSV, NDJSON or JSON.",
    ),
    _E.EmailTaken: ProblemType(
        "email-taken", 409, "The email address is taken", "Change the user that has it, or take another one."
    ),
    _E.LastAdmin: ProblemType(
        "last-admin", 409, "The last admin", "Make another user an admin first, or activate one."
    ),
    _E.TooManyRequests: ProblemType(
        "too-many-requests", 429, "Too many requests", "Send it again after Retry-After, and fewer then."
    ),
    _E.EventRejected: ProblemType(
        "event-rejected",
        422,
        "The event was refused",
        "`reason` says why (docs of the door); the same event is refused again.",
    ),
    _E.TooManyEvents: ProblemType(
        "too-many-events", 429, "Too many events", "Send the same event again after Retry-After."
    ),
    _E.DoorUnavailable: ProblemType(
        "door-unavailable",
        503,
        "No door answers",
        "Send the same event again after Retry-After, with the same eventId or Idempotency-Key.",
    ),
    _E.TooManyStreams: ProblemType(
        "too-many-streams", 429, "Too many streams", "Close one that is not needed, then connect again."
    ),
    _E.Unavailable: ProblemType(
        "unavailable", 503, "Temporarily unavailable", "Send the request again after Retry-After."
    ),
}
BY_STATUS = {
    404: BY_ERROR[_E.NotFound],
    405: ProblemType("method-not-allowed", 405, "Method not allowed", "`Allow` names the methods there are."),
    413: BY_ERROR[_E.TooLarge],
    400: BY_ERROR[_E.MalformedRequest],
}
INTERNAL = ProblemType("internal", 500, "A mistake of ours", "Report the `requestId`; it is in our logs.")
ALL = {kind.name: kind for kind in (*BY_ERROR.values(), *BY_STATUS.values(), INTERNAL)}


def kind_of(error: Exception) -> ProblemType:
    """What an error is called: as the nearest of its classes that has a name."""
    return next((BY_ERROR[each] for each in type(error).__mro__ if each in BY_ERROR), INTERNAL)


def of_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A refusal of the domain or an error of the service."""
    kind = kind_of(error)
    headers = {}
    if isinstance(error, errors.TooManyRequests):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, errors.Unavailable | errors.TooManyEvents | errors.TooManyStreams):
        headers["Retry-After"] = error.retry_after
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(request, kind, str(error), headers, members_of(error))


def explain(error: Exception, instance: str | None = None) -> Problem:
    """The problem of a refusal as a part of an answer."""
    return _problem(kind_of(error), str(error), instance, None, members_of(error))


def of_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What Litestar itself refuses: unknown paths, methods, bodies that are too large."""
    status = error.status_code
    if isinstance(error, ValidationException):  # all else of a request is read by code of our own
        return of_error(request, errors.MalformedRequest("the request needs a body of JSON"))
    kind = BY_STATUS.get(status) or ProblemType("http", status, error.detail, "See the status.")
    return _answer(request, kind, error.detail, dict(error.headers or {}), {})


def of_mistake(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Anything that nobody expected."""
    metrics.ERRORS.inc()
    log.error("request.failed", path=request.url.path, exc_info=error)
    return _answer(request, INTERNAL, "an unexpected error; it has been logged", {}, {})


Handler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]
HANDLERS: dict[int | type[Exception], Handler] = {
    **dict.fromkeys(BY_ERROR, of_error),
    HTTPException: of_http,
    Exception: of_mistake,
}


def members_of(error: Exception) -> dict[str, Any]:
    """The members of a problem beyond those that all have."""
    members: dict[str, Any] = {}
    if isinstance(
        error,
        refusals.InvalidCampaign
        | refusals.FieldsNotChangeable
        | errors.InvalidRequest
        | errors.MalformedRequest,
    ):
        members["errors"] = error.errors
    if isinstance(error, errors.NameTaken):
        members["errors"] = (FieldError("/name", str(error)),)
    if isinstance(error, errors.EmailTaken):
        members["errors"] = (FieldError("/email", str(error)),)
    if isinstance(error, refusals.NotPossible | refusals.FieldsNotChangeable):
        members["current_status"] = error.status
    if isinstance(error, refusals.NotPossible):
        members["allowed_transitions"] = error.allowed
    if isinstance(error, errors.EventRejected):
        members["reason"] = error.reason
    if isinstance(error, errors.PreconditionFailed):
        members["current_version"] = error.current
    return members


def _problem(
    kind: ProblemType, detail: str, instance: str | None, request_id: str | None, members: dict[str, Any]
) -> Problem:
    return Problem(
        type=f"/problems/{kind.name}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=instance,
        request_id=request_id,
        **members,
    )


def _answer(
    request: Request[Any, Any, Any],
    kind: ProblemType,
    detail: str,
    headers: dict[str, str],
    members: dict[str, Any],
) -> Response[bytes]:
    request_id = request.scope.get("state", {}).get("request_id")
    problem = _problem(kind, detail, request.url.path, request_id, members)
    return Response(
        msgspec.json.encode(problem), status_code=kind.status, headers=headers, media_type=MEDIA_TYPE
    )
