"""Jobs that speak to the world outside; Celery runs them on a schedule."""

from celery import shared_task
from django.utils import timezone

from billing.alerts import alerts_deliver, alerts_notice
from console.alerts import alert_send


@shared_task(name="console.alerts_send", ignore_result=True)
def alerts_send() -> None:
    """Notice what has crossed its line, and tell it."""
    alerts_notice(now=timezone.now())
    alerts_deliver(deliver=alert_send, now=timezone.now())
