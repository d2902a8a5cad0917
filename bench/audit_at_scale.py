"""How long `manage.py audit` takes on so many usage records: `python -m bench.audit_at_scale`.

Fills a PostgreSQL of its own, in a folder of its own, with consistent books: four months of usage
records in monthly partitions, the leases that paid them, the ledger, the grants. Then it times each
invariant, and the command itself.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[1]
DAYS = 100
ORGANIZATIONS = 500
# Records come in time order; so many in a row share so many leases, as an hour's calls do.
RECORDS_IN_A_BLOCK = 20_000
LEASES_IN_A_BLOCK = 400
GROWTHS = 4
CHUNK = 1_000_000
TRIGGERS = ("billing_ledgerentry", "billing_grant")

ORGANIZATIONS_SQL = """
INSERT INTO accounts_organization (slug, name, status, time_zone, created_at)
SELECT 'scale-' || i, 'Scale ' || i, 'active', 'UTC', now()
  FROM generate_series(1, %(organizations)s) i;
CREATE TABLE scale_organization AS
SELECT row_number() OVER (ORDER BY id) - 1 AS number, id FROM accounts_organization
 WHERE slug LIKE 'scale-%%';
INSERT INTO billing_worker (id, node, pid, state, expires_at, shipped_offset, was_lost, report,
    started_at)
SELECT uuidv7(), 'scale', i, CASE WHEN i < 8 THEN 'live' ELSE 'complete' END,
       now() + interval '1 day', 0, false, '{}', now()
  FROM generate_series(0, 199) i;
CREATE TABLE scale_worker AS SELECT pid AS number, id FROM billing_worker WHERE node = 'scale';
CREATE TABLE scale_lease AS
SELECT i AS number, uuidv7() AS id, o.id AS organization_id, w.id AS worker_id,
       i >= %(leases)s - %(open)s AS open
  FROM generate_series(0, %(leases)s - 1) i
  JOIN scale_organization o ON o.number = i %% %(organizations)s
  JOIN scale_worker w ON w.number = CASE WHEN i >= %(leases)s - %(open)s THEN i %% 8
                                         ELSE 8 + i %% 192 END;
CREATE UNIQUE INDEX ON scale_lease (number);
"""

RECORDS_SQL = """
INSERT INTO billing_usagerecord (request_id, worker_id, journal_offset, organization_id, project_id,
    api_key_id, api_key_prefix, endpoint, model, upstream_model, channel, stream, price_id,
    discount_ppm, retry_count, created_at, lease_id, hold_nano_usd, charge_nano_usd, settled_at,
    status, outcome, usage_source, prompt_tokens, cached_tokens, completion_tokens,
    reasoning_tokens, units, service_tier, official_cost_nano_usd, upstream_cost_nano_usd,
    upstream_request_id, first_byte_ms, duration_ms, flags, limit_lease_ids)
SELECT uuidv7(-ago), l.worker_id, r * 600, l.organization_id, 1, r %% 2000, 'sk-abcdefgh',
       'chat/completions', 'gpt-4o-mini', 'gpt-4o-mini', 'openai-' || r %% 4, r %% 2 = 0, 1,
       500000, 0, now() - ago, l.id, 90000 + charge, charge,
       now() - ago + interval '2 seconds', 200,
       'completed', CASE WHEN r %% 1000 = 0 THEN 'estimated' ELSE 'upstream' END,
       1000 + p, c, o, 0,
       jsonb_strip_nulls(jsonb_build_object('input_tokens', 1000 + p - c,
           'cached_input_tokens', nullif(c, 0), 'output_tokens', nullif(o, 0))),
       'default', charge * 2, charge, 'req_' || md5(r::text), 350, 2000,
       CASE WHEN r %% 5000 = 0 THEN '{bound_exceeded}'::varchar[] ELSE '{}' END, '{}'
  FROM (SELECT r, make_interval(secs => %(days)s * 86400.0 * (%(records)s - r) / %(records)s)
                  AS ago, r * 7919 %% 100000 AS charge, r * 31 %% 3000 AS p, (r %% 3) * 256 AS c,
               r * 17 %% 800 AS o
          FROM generate_series(%(first)s::bigint, %(last)s::bigint) r) call
  JOIN scale_lease l ON l.number = (r / %(block)s) * %(block_leases)s + r %% %(block_leases)s
"""

BOOKS_SQL = """
CREATE TABLE scale_book AS
SELECT l.*, coalesce(u.spent, 0)::bigint AS spent, coalesce(u.spent, 0)::bigint + 1000000 AS grown
  FROM scale_lease l
  LEFT JOIN (SELECT lease_id, sum(charge_nano_usd) AS spent FROM billing_usagerecord GROUP BY 1) u
         ON u.lease_id = l.id;
INSERT INTO billing_grant (organization_id, kind, amount_nano_usd, free_nano_usd, leased_nano_usd,
    burnt_nano_usd, expired_nano_usd, reason, created_at)
SELECT organization_id, 'top_up', sum(CASE WHEN open THEN grown ELSE spent END) + 5000000, 5000000,
       coalesce(sum(grown) FILTER (WHERE open), 0), coalesce(sum(spent) FILTER (WHERE NOT open), 0),
       0, '', now() - interval '101 days'
  FROM scale_book GROUP BY organization_id;
INSERT INTO billing_wallet (organization_id, strict, strict_always, balance_nano_usd, debt_nano_usd)
SELECT organization_id, false, false, 5000000, 0 FROM billing_grant WHERE organization_id IN
       (SELECT id FROM scale_organization);
INSERT INTO billing_lease (id, worker_id, organization_id, state, version, granted_nano_usd,
    spent_nano_usd, usable_until, opened_at, closed_at)
SELECT id, worker_id, organization_id, CASE WHEN open THEN 'open' ELSE 'closed' END, 6,
       CASE WHEN open THEN grown ELSE spent END, spent, now() + interval '1 hour', now(),
       CASE WHEN open THEN NULL ELSE now() END
  FROM scale_book;
INSERT INTO billing_leaseslice (lease_id, position, grant_id, amount_nano_usd)
SELECT b.id, 1, g.id, b.grown FROM scale_book b JOIN billing_grant g USING (organization_id)
 WHERE b.open;
CREATE TEMP TABLE leg (posting uuid, sequence int, account text, organization_id bigint,
    lease_id uuid, amount bigint, reason text);
WITH posting AS MATERIALIZED (SELECT uuidv7() AS id, organization_id, amount_nano_usd AS amount
                                FROM billing_grant)
INSERT INTO leg SELECT p.id, s, a, p.organization_id, NULL, sign * p.amount, 'grant'
  FROM posting p, (VALUES (1, 'source', -1), (2, 'wallet', 1)) AS leg(s, a, sign);
WITH posting AS MATERIALIZED (
    SELECT uuidv7() AS id, organization_id, b.id AS lease_id,
           CASE WHEN growth = 1 THEN grown - grown / %(growths)s * (%(growths)s - 1)
                ELSE grown / %(growths)s END AS amount
      FROM scale_book b, generate_series(1, %(growths)s) growth)
INSERT INTO leg SELECT p.id, s, a, p.organization_id, p.lease_id, sign * p.amount, 'lease_grow'
  FROM posting p, (VALUES (1, 'wallet', -1), (2, 'escrow', 1)) AS leg(s, a, sign);
WITH posting AS MATERIALIZED (
    SELECT uuidv7() AS id, organization_id, b.id AS lease_id, grown, spent
      FROM scale_book b WHERE NOT open)
INSERT INTO leg SELECT p.id, s, a, p.organization_id, p.lease_id, amount, 'lease_close'
  FROM posting p CROSS JOIN LATERAL (VALUES (1, 'escrow', -grown), (2, 'wallet', grown - spent),
       (3, 'revenue', spent)) AS leg(s, a, amount) WHERE amount <> 0;
INSERT INTO billing_ledgerentry (posting, sequence, account, organization_id, lease_id,
    amount_nano_usd, reason, created_at)
SELECT posting, sequence, account, organization_id, lease_id, amount, reason, now() FROM leg;
DROP TABLE scale_organization, scale_worker, scale_lease, scale_book;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="Keep the books here, and use them again.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-scale-") as temporary:
        os.environ["DATA_DIR"] = str(options.folder or temporary)
        run(options.records)


def run(records: int) -> None:
    from gateway.launch import embedded_postgres, prepare_environment

    prepare_environment()
    server = embedded_postgres()
    assert server is not None, "it measures a database of its own: unset DATABASE_URL"
    with server.for_command() as url, psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT to_regclass('billing_usagerecord')").fetchone()[0]:
            manage("migrate", "--verbosity", "0")
            fill(connection, records)
        describe(connection)
        time_each(connection)
        time_command(server.pid)


def manage(*arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, check=True)


def fill(connection: psycopg.Connection, records: int) -> None:
    began = time.monotonic()
    leases = -(-records // RECORDS_IN_A_BLOCK) * LEASES_IN_A_BLOCK
    facts = {
        "organizations": ORGANIZATIONS,
        "leases": leases,
        "open": min(800, leases),
        "days": DAYS,
        "records": records,
        "block": RECORDS_IN_A_BLOCK,
        "block_leases": LEASES_IN_A_BLOCK,
        "growths": GROWTHS,
    }
    partitions()
    script(connection, ORGANIZATIONS_SQL, facts)
    for first in range(0, records, CHUNK):
        bounds = {"first": first, "last": min(first + CHUNK, records) - 1}
        connection.execute(RECORDS_SQL, {**facts, **bounds})
        print(f"{bounds['last'] + 1:,} records after {time.monotonic() - began:.0f} s", flush=True)
    # Row by row, they would check what the audit checks for all.
    for table in TRIGGERS:
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    with connection.transaction():
        script(connection, BOOKS_SQL, facts)
    for table in TRIGGERS:
        connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    connection.execute("VACUUM ANALYZE")  # As the server's own vacuum has done it on a live system.
    print(f"filled in {time.monotonic() - began:.0f} s", flush=True)


def partitions() -> None:
    """The months that have passed; those to come were made with the table."""
    import datetime as dt

    import django

    django.setup()
    from billing.usage.partitions import partitions_create

    today = dt.datetime.now(dt.UTC).date()
    partitions_create(today=today - dt.timedelta(days=DAYS), months_ahead=DAYS // 28 + 1)


def script(connection: psycopg.Connection, statements: str, facts: dict[str, int]) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement, facts if "%(" in statement or "%%" in statement else None)


def describe(connection: psycopg.Connection) -> None:
    for table in ("usagerecord", "lease", "ledgerentry"):
        (rows,) = connection.execute(f"SELECT count(*) FROM billing_{table}").fetchone()
        print(f"{table}: {rows:,} rows")
    (size,) = connection.execute(
        "SELECT pg_size_pretty(pg_database_size(current_database()))"
    ).fetchone()
    print(f"database: {size}")


def time_each(connection: psycopg.Connection) -> None:
    """Seconds of each invariant by itself, as the command would run it."""
    import django

    django.setup()
    from billing.audit import CHECKS

    for check in CHECKS:
        began = time.monotonic()
        with connection.transaction():
            found = connection.execute(check.query, {"retain": 3600.0}).fetchall()
        assert not found, f"{check.invariant}: {found[:3]}"
        print(f"{time.monotonic() - began:7.2f} s  {check.invariant}", flush=True)


def time_command(server_pid: int) -> None:
    cpu, began = cpu_seconds(server_pid), time.monotonic()
    manage("audit")
    seconds, used = time.monotonic() - began, cpu_seconds(server_pid) - cpu
    print(f"manage.py audit: {seconds:.1f} s, {used:.1f} s of CPU in the server")


def cpu_seconds(server_pid: int) -> float:
    """What the server's ended sessions have used, its own work included."""
    fields = Path(f"/proc/{server_pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
