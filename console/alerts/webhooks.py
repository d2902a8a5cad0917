"""Alerts as signed webhooks, in the form of the Standard Webhooks specification.

Any library of that specification verifies them: `webhook-id`, `webhook-timestamp` and
`webhook-signature` (v1, HMAC-SHA-256 over "id.timestamp.body" with the decoded secret).
"""

import base64
import hmac
import json
import time

from billing.alerts import webhook_secret
from billing.models import Alert
from console.alerts.safe_http import post


def webhook_send(alert: Alert) -> None:
    """Raises what `post` raises."""
    body = webhook_body(alert)
    post(alert.rule.webhook_url, headers=_signed(alert, body), body=body)


def webhook_body(alert: Alert) -> bytes:
    kind = "test" if alert.facts.get("test") else alert.rule.kind
    return json.dumps(
        {
            "type": f"alert.{kind}",
            "timestamp": alert.created_at.isoformat(),
            "data": {"organization": alert.rule.organization.slug, **alert.facts},
        }
    ).encode()


def _signed(alert: Alert, body: bytes) -> dict[str, str]:
    message_id, timestamp = f"alert_{alert.pk}", str(int(time.time()))
    key = base64.b64decode(webhook_secret(alert.rule).removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature}",
    }
