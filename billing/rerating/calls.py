"""Reading what is re-rated: recorded calls, what they stand at, and the prices they had."""

from collections.abc import Collection, Iterator
from uuid import UUID

from django.db.models import Q, QuerySet, Sum

from billing.models import Price, Refund, ReratedCall, Rerating, UsageRecord
from billing.prices.catalog import PRICE_COLUMNS, price_terms
from billing.pricing import InvalidRates, PriceTerms
from billing.rerating.rating import RecordedCall, Standing
from billing.usage.queries import DayRange

# Calls of one statement, and of one transaction.
AT_ONCE = 500
_UNBILLED = (
    UsageRecord.Outcome.LOST,
    UsageRecord.Outcome.EXPIRED,
    UsageRecord.Outcome.UPSTREAM_ERROR,
)


class Prices:
    """The terms of price rows, each read once."""

    def __init__(self) -> None:
        self._terms: dict[int, PriceTerms | None] = {}

    def terms(self, price_id: int) -> PriceTerms | None:
        """None for a row that is not there, or cannot be computed with."""
        if price_id not in self._terms:
            self._terms[price_id] = _terms(Price.objects.filter(pk=price_id).first())
        return self._terms[price_id]


def calls_in_range(rerating: Rerating) -> QuerySet[UsageRecord]:
    """The charged calls that it is about."""
    days = DayRange(rerating.first_day, rerating.last_day)
    calls = UsageRecord.objects.filter(request_id__gte=days.lower, request_id__lt=days.upper)
    calls = calls.exclude(Q(outcome__in=_UNBILLED) | Q(usage_source="none"))
    if rerating.organization_id is not None:
        calls = calls.filter(organization_id=rerating.organization_id)
    return calls.filter(model=rerating.model) if rerating.model else calls


def call_batches(
    calls: QuerySet[UsageRecord], *, after: UUID | None = None
) -> Iterator[list[RecordedCall]]:
    """The calls in the order of their ids; the last batch is shorter than AT_ONCE."""
    while True:
        rows = calls if after is None else calls.filter(request_id__gt=after)
        found = rows.order_by("request_id").values_list(*RecordedCall._fields)[:AT_ONCE]
        batch = [RecordedCall(*row) for row in found]
        yield batch
        if len(batch) < AT_ONCE:
            return
        after = batch[-1].request_id


def standings(calls: Collection[RecordedCall]) -> dict[UUID, Standing]:
    """What each of the calls stands at now."""
    ids = [call.request_id for call in calls]
    changes = dict(
        _counted(ReratedCall.objects.filter(request_id__in=ids))
        .values_list("request_id")
        .annotate(Sum("difference_nano_usd"))
    )
    refunds = dict(
        Refund.objects.filter(request_id__in=ids)
        .values_list("request_id")
        .annotate(Sum("amount_nano_usd"))
    )
    return {
        call.request_id: Standing(
            call.charge_nano_usd + int(changes.get(call.request_id, 0)),
            int(refunds.get(call.request_id, 0)),
        )
        for call in calls
    }


def charge_now(record: UsageRecord) -> int:
    """What the call was charged in the end: at first, and by all that has changed it since."""
    changes = _counted(ReratedCall.objects.filter(request_id=record.request_id))
    total = changes.aggregate(total=Sum("difference_nano_usd"))["total"]
    return record.charge_nano_usd + int(total or 0)


def _counted(changes: QuerySet[ReratedCall]) -> QuerySet[ReratedCall]:
    """What was given back counts at once; what was added, when it has been collected."""
    return changes.filter(Q(difference_nano_usd__lt=0) | Q(line__settled_at__isnull=False))


def _terms(price: Price | None) -> PriceTerms | None:
    if price is None:
        return None
    try:
        return price_terms({name: getattr(price, name) for name in PRICE_COLUMNS})
    except InvalidRates:
        return None
