"""What a row of an import makes: a new DRAFT, or a change of a campaign that is there."""

from collections.abc import Sequence

from control_api.domain.campaign import Content
from control_api.domain.content_rules import read_submission, refuse
from control_api.domain.money_rules import over_limit
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError
from control_api.domain.sizes import too_long
from control_api.domain.submission import Submission


def imported_content(
    submission: Submission, organization: Organization, unread: Sequence[FieldError] = ()
) -> Content:
    """As content_rules.new_content, but for dates: those of an import may have passed."""
    read = read_submission(submission, organization.default_currency)
    refuse([*read.errors, *too_long(read.content), *over_limit(read.amounts, organization)], unread)
    return read.content
