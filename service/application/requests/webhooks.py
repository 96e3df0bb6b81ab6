"""Whether a webhook may be called at all, before anything is accepted."""

from collections.abc import Callable

from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.webhooks import Targets, Webhook


class WebhookRules:
    """The rules for the webhooks of one tenant.

    Args:
        targets: what may be called besides public addresses.
        has_secret: whether there is a secret to sign the tenant's webhooks with.
    """

    def __init__(
        self, targets: Targets | None = None, has_secret: Callable[[], bool] = lambda: False
    ) -> None:
        self._targets = targets or Targets()
        self._has_secret = has_secret

    def check(self, webhook: Webhook | None) -> None:
        """Return when `webhook` can be called, as far as can be told now.

        Raises:
            InvalidRequest: it leads nowhere public, or could not be signed.
        """
        if webhook is None:
            return
        if rule := self._targets.broken_rule(webhook.url):
            raise InvalidRequest([FieldViolation("webhook.url", repr(webhook.url), rule)])
        if not self._has_secret():
            rule = "there is no secret to sign it with; ask the operator for one"
            raise InvalidRequest([FieldViolation("webhook", repr(webhook.url), rule)])
