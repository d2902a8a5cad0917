"""docs/api.md says what is offered: its table is the registry's, and its numbers are the code's.

`python -m tests.relay.surface.test_api_document` prints the table as it should be.
"""

import re
from pathlib import Path

from relay.endpoints.table import ENDPOINTS, BodyKind, Endpoint
from relay.idempotency import calls as idempotency
from relay.idempotency import store as idempotency_store

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "api.md").read_text()
MARKED = re.compile(r"<!-- endpoints -->\n(.*?)<!-- end of endpoints -->", re.DOTALL)
MEBIBYTE = 1024 * 1024


def table() -> str:
    heads = ("Endpoint", "Body", "Most bytes", "Metered by", "Units", "Streamed", "Checked ids")
    lines = [heads, ("---",) * len(heads), *map(row_of, ENDPOINTS)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def row_of(row: Endpoint) -> tuple[str, ...]:
    limit = "configured" if row.body is BodyKind.JSON else "none read"
    if row.body_limit_bytes is not None:
        limit = f"{row.body_limit_bytes // MEBIBYTE} MiB"
    return (
        f"`{row.method} /v1/{'/'.join(row.path)}`",
        {"json": "JSON", "multipart": "form", "none": "none"}[row.body.value],
        limit,
        "free" if row.is_free else row.meter,
        ", ".join(row.units) or "-",
        "yes" if row.streamed else "no",
        ", ".join(f"`{field}`" for field in row.id_fields) or "-",
    )


def test_the_table_is_the_registrys() -> None:
    (written,) = MARKED.findall(TEXT)
    assert written == table()


def test_the_numbers_are_the_codes() -> None:
    assert f"{idempotency.MAX_ANSWER_BYTES // MEBIBYTE} MiB" in TEXT
    assert f"{idempotency_store.MAX_KEPT_BYTES // MEBIBYTE} MiB" in TEXT
    assert f"{idempotency_store.MAX_KEYS:,} keys" in TEXT
    assert f"{idempotency_store.KEPT_HOURS} hours" in TEXT


def test_every_error_of_a_key_is_explained() -> None:
    source = (ROOT / "relay" / "idempotency" / "errors.py").read_text()
    codes = re.findall(r'code="(\w+)"', source)
    assert len(codes) == 5
    assert [code for code in codes if f"`{code}`" not in TEXT] == []


def test_the_readme_leads_here() -> None:
    assert "(docs/api.md)" in (ROOT / "README.md").read_text()


if __name__ == "__main__":
    print(table(), end="")
