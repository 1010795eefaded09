"""Every refusal and error as a google.rpc.Status: of the same problems as over HTTP."""

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from control_api.domain.names import camel_case
from control_api.routes.problems import INTERNAL, ProblemType, kind_of, members_of
from control_api.rpc.messages import field_path

_DOMAIN = "flightline"
_RETRY_SECONDS = 1.0
OF_STATUS = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    408: code_pb2.DEADLINE_EXCEEDED,
    409: code_pb2.FAILED_PRECONDITION,
    424: code_pb2.ABORTED,
    412: code_pb2.ABORTED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
    422: code_pb2.INVALID_ARGUMENT,
    428: code_pb2.INVALID_ARGUMENT,
    429: code_pb2.RESOURCE_EXHAUSTED,
    500: code_pb2.INTERNAL,
    502: code_pb2.UNAVAILABLE,
    503: code_pb2.UNAVAILABLE,
    504: code_pb2.UNAVAILABLE,
}
OF_PROBLEM = {"name-taken": code_pb2.ALREADY_EXISTS}
"""The code of a problem by its status over HTTP, but for those that gRPC has a word of its own for."""


def status_of(error: Exception, request_id: str) -> status_pb2.Status:
    """With ErrorInfo always, and with what can be said of fields and of trying again."""
    kind = kind_of(error)
    told = "an unexpected error; it has been logged" if kind is INTERNAL else str(error)
    status = status_pb2.Status(code=code_of(kind), message=told)
    members = members_of(error) if kind is not INTERNAL else {}
    wrong = members.pop("errors", ())
    metadata = {"type": f"/problems/{kind.name}", "requestId": request_id, "title": kind.title}
    metadata |= {camel_case(name): _text(value) for name, value in members.items() if value is not None}
    reason = kind.name.replace("-", "_").upper()
    _add(status, error_details_pb2.ErrorInfo(reason=reason, domain=_DOMAIN, metadata=metadata))
    if wrong:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field_path(one), description=one.detail)
            for one in wrong
        ]
        _add(status, error_details_pb2.BadRequest(field_violations=violations))
    if status.code in (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED):
        delay = Duration()
        delay.FromMilliseconds(int(1_000 * _retry_seconds(error)))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _retry_seconds(error: Exception) -> float:
    try:
        return float(getattr(error, "retry_after", _RETRY_SECONDS))
    except ValueError:  # a door's Retry-After may be a date
        return _RETRY_SECONDS


def code_of(kind: ProblemType) -> int:
    """The code of a kind of problem."""
    return int(OF_PROBLEM.get(kind.name, OF_STATUS[kind.status]))


def _add(status: status_pb2.Status, detail: object) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
