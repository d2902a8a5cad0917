"""Delivering what billing.alerts put into its outbox."""

from billing.models import Alert
from console.alerts.letters import letter_send
from console.alerts.webhooks import webhook_send


def alert_send(alert: Alert) -> None:
    """Raises whatever keeps it from arriving."""
    if alert.rule.email:
        letter_send(alert)
    else:
        webhook_send(alert)
