"""What a payment provider calls, and the pages that its customers come back to."""

import logging

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from accounts.audit_trail import Actor
from billing.credit.payments import ForgedEvent, payment_event_receive
from console.payments import payment_provider

logger = logging.getLogger(__name__)

EVENT_LIMIT_BYTES = 1024 * 1024


@csrf_exempt
@require_POST
def webhook(request: HttpRequest, provider: str) -> HttpResponse:
    """Take one event. Whatever fails here ends with 500, so that the provider tells it again."""
    known = payment_provider(provider)
    if known is None:
        return JsonResponse({"error": "There is no such webhook."}, status=404)
    if int(request.headers.get("content-length") or 0) > EVENT_LIMIT_BYTES:
        return JsonResponse({"error": "The event is too large."}, status=413)
    try:
        event = known.event_read(
            request.body, {name.lower(): value for name, value in request.headers.items()}
        )
    except ForgedEvent as error:
        logger.warning("An event that claims to be of %s was refused: %s", provider, error)
        return JsonResponse({"error": "The signature is wrong."}, status=400)
    is_new = event is not None and payment_event_receive(
        provider=provider,
        event=event,
        actor=Actor(user_id=None, label=f"webhook:{provider}"),
        now=timezone.now(),
    )
    return JsonResponse({"received": True, "new": is_new})


@require_safe
def thanks(request: HttpRequest) -> HttpResponse:
    return _page(
        request,
        "Thank you",
        "Your credit is added as soon as the payment is confirmed, usually within seconds.",
    )


@require_safe
def cancelled(request: HttpRequest) -> HttpResponse:
    return _page(request, "Nothing was paid", "The order was cancelled, and nothing is charged.")


def _page(request: HttpRequest, title: str, sentence: str) -> HttpResponse:
    context = {"brand": settings.BRAND, "status": "", "title": title, "sentence": sentence}
    return render(request, "console/error.html", context)
