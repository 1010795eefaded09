"""Examples of answers about dry runs, approvals, bulk requests and jobs, by the name of their schema."""

from typing import Any

_ID = "0190b2c4-0000-7000-8000-00000000000a"
_OTHER_ID = "0190b2c4-0000-7000-8000-000000000011"
_USER = "0190b2c4-0000-7000-8000-00000000000b"
_APPROVER = "0190b2c4-0000-7000-8000-000000000012"
_JOB = "0190b2c4-0000-7000-8000-000000000013"
_NOT_ACTIVE = {
    "type": "/problems/transition-not-allowed",
    "title": "Not possible in this status",
    "status": 409,
    "detail": "pause is not possible while a campaign is DRAFT",
    "instance": f"/api/v1/campaigns/{_OTHER_ID}",
    "requestId": None,
    "currentStatus": "DRAFT",
    "allowedTransitions": ["activate", "stop"],
}
_APPROVAL = {
    "id": "0190b2c4-0000-7000-8000-000000000014",
    "campaignId": _ID,
    "state": "approved",
    "budget": {"amount": 20000.00, "currency": "EUR"},
    "budgetVersion": 1,
    "forPendingBudget": True,
    "askedBy": _USER,
    "askedAt": "2027-06-20T15:45:00Z",
    "askComment": "for the second half",
    "decidedBy": _APPROVER,
    "decidedAt": "2027-06-20T16:10:00Z",
    "decideComment": None,
}
_ERROR = {"line": 7, "pointer": "/budget/amount", "detail": "a budget must be positive"}


def work_answers(campaign: dict[str, Any]) -> dict[str, Any]:
    """All of them; some show a campaign."""
    return {
        "PreviewView": {"possible": True, "campaign": campaign},
        "ApprovalView": _APPROVAL,
        "ApprovalsView": {"items": [_APPROVAL], "nextCursor": None},
        "BulkView": {
            "results": [
                {"id": _ID, "status": 200, "campaign": campaign | {"propagation": "published"}},
                {"id": _OTHER_ID, "status": 409, "problem": _NOT_ACTIVE},
            ],
            "succeeded": 1,
            "failed": 1,
        },
        "JobIdView": {"jobId": _JOB},
        "JobView": {
            "id": _JOB,
            "state": "running",
            "format": "csv",
            "mode": "upsert",
            "dryRun": False,
            "progress": {"rows": 400, "total": 1200},
            "counts": {"created": 390, "updated": 6, "unchanged": 3, "failed": 1},
            "failure": None,
            "errors": [_ERROR],
            "errorsUrl": f"/api/v1/jobs/{_JOB}/errors",
            "createdBy": _USER,
            "createdAt": "2027-06-20T15:45:00Z",
            "startedAt": "2027-06-20T15:45:01Z",
            "finishedAt": None,
        },
        "JobErrorView": _ERROR,
    }
