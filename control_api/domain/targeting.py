"""Targeting rules are references to the rules service: any id is accepted, none at all is not.

An unknown rule makes nobody eligible; targeting decides whom to serve, never what is counted or billed.
"""

from collections.abc import Iterator, Sequence

from control_api.domain.refusals import FieldError

POINTER = "/targetingRules"


def check_rules(rules: Sequence[str]) -> Iterator[FieldError]:
    """What is wrong with the rules of a campaign."""
    if not rules:
        yield FieldError(POINTER, "at least one targeting rule is required")
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        if not rule.strip():
            yield FieldError(f"{POINTER}/{index}", "a rule's id must not be empty")
        elif rule in seen:
            yield FieldError(f"{POINTER}/{index}", "this rule is named twice")
        seen.add(rule)
