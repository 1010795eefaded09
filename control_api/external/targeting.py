"""The place of the rules service: none is there yet. An adapter that asks one replaces this one in app.py."""

from control_api.domain.campaign import Campaign
from control_api.domain.targeting import Evaluation


class NoRulesService:
    """Implements handlers.audience.Targeting where no rules service is connected."""

    async def evaluation(self, campaign: Campaign) -> Evaluation:
        """Says so."""
        named = len(campaign.targeting_rules)
        return Evaluation(
            available=False,
            detail=f"no rules service is connected: {named} rules are named, none is evaluated",
        )
