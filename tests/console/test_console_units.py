"""Units beside tokens, as an administrator sees them."""

from django.test import Client
from django.urls import reverse

from tests.factories import make_organization, make_usage_record


def test_a_record_shows_the_units_that_are_not_tokens(administrator: Client) -> None:
    organization = make_organization("acme")
    spoken = make_usage_record(
        organization, prompt_tokens=0, completion_tokens=0, units={"characters": 4096}
    )
    searched = {"input_tokens": 1000, "output_tokens": 1000, "web_search_calls": 3}
    make_usage_record(organization, units=searched)
    page = administrator.get(reverse("admin:billing_usagerecord_changelist")).content.decode()
    assert "4,096 characters" in page
    assert ", 3 web search calls" in page
    one = reverse("admin:billing_usagerecord_change", args=[spoken.pk])
    assert "<th>characters</th><td>4,096</td>" in administrator.get(one).content.decode()
