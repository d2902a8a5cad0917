"""Jobs of the relay: what leads to nothing any more is forgotten."""

import datetime as dt
import logging

import pytest
from pytest_django import Settings

from relay.jobs import KEPT_FOR_GOOD, upstream_ids_delete
from relay.models import UpstreamId
from tests.factories import now

DAY = dt.timedelta(days=1)


def handed_out(upstream_id: str, *, days_ago: float) -> str:
    UpstreamId.objects.create(
        organization_id=1,
        upstream_id=upstream_id,
        channel_id=1,
        created_at=now() - days_ago * DAY,
    )
    return upstream_id


def known() -> set[str]:
    return set(UpstreamId.objects.values_list("upstream_id", flat=True))


@pytest.mark.django_db
def test_ids_are_forgotten_when_upstream_has_forgotten_them(
    caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    handed_out("resp_old", days_ago=31)
    handed_out("msg_old", days_ago=400)
    kept = {handed_out("resp_new", days_ago=29)}
    kept |= {handed_out(f"{prefix}old", days_ago=400) for prefix in KEPT_FOR_GOOD}
    settings.UPSTREAM_IDS_DAYS = 0
    upstream_ids_delete()
    assert known() == kept | {"resp_old", "msg_old"}
    settings.UPSTREAM_IDS_DAYS = 30
    with caplog.at_level(logging.INFO):
        upstream_ids_delete()
        upstream_ids_delete()
    assert known() == kept
    assert caplog.messages == ["Deleted 2 ids of what upstream no longer keeps"]
