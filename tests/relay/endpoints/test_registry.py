"""Every row of the endpoint table is whole: it has a path, a handler, and a record's name."""

import pytest

from relay.endpoints.base import Handler
from relay.endpoints.handlers import HANDLERS
from relay.endpoints.table import ENDPOINTS, ID, BodyKind, Endpoint
from relay.paths import allowed_methods, match

# As the usage record's column is.
MAX_NAME = 60


def test_there_is_one_handler_for_every_row_and_no_other() -> None:
    assert len(HANDLERS) == len(ENDPOINTS)
    for row in ENDPOINTS:
        assert HANDLERS[row.operation, row.method].endpoint is row


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: f"{row.method} {row.name}")
@pytest.mark.parametrize("prefix", ["/v1", "", "/openai/v1", "/v1/acme/prod/openai"])
def test_every_row_is_found_by_its_path(row: Endpoint, prefix: str) -> None:
    path = "/".join("resp_1" if part == ID else part for part in row.path)
    found = match(f"{prefix}/{path}")
    assert found is not None
    assert found.operation == row.operation
    assert found.argument == ("resp_1" if ID in row.path else None)
    assert row.method in allowed_methods(row.operation)


@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: f"{row.method} {row.name}")
def test_every_row_says_what_is_paid(row: Endpoint) -> None:
    assert 0 < len(row.name) <= MAX_NAME
    assert bool(row.units) != row.is_free
    handler = type(HANDLERS[row.operation, row.method])
    reads_json = row.body is BodyKind.JSON
    assert (handler.parse is not Handler.parse) == reads_json
    assert (handler.read is not Handler.read) != reads_json
    # What is named in a path or a body is checked.
    assert bool(row.id_fields) == (handler.references is not Handler.references)
