"""What constraints cannot say: the ledger is append-only and balanced, usage is partitioned, prices notify."""

import datetime as dt

from django.db import migrations

from billing.usage.partitions import TABLE, partitions_create

LEDGER = """
CREATE FUNCTION tollgate_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER ledger_entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON billing_ledgerentry FOR EACH STATEMENT EXECUTE FUNCTION tollgate_refuse_change();

CREATE FUNCTION tollgate_posting_is_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount_nano_usd) FROM billing_ledgerentry WHERE posting = NEW.posting) <> 0 THEN
        RAISE EXCEPTION 'posting % does not sum to zero', NEW.posting
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ledger_posting_is_balanced AFTER INSERT ON billing_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tollgate_posting_is_balanced();
"""

DROP_LEDGER = """
DROP TRIGGER ledger_posting_is_balanced ON billing_ledgerentry;
DROP FUNCTION tollgate_posting_is_balanced();
DROP TRIGGER ledger_entry_is_append_only ON billing_ledgerentry;
DROP FUNCTION tollgate_refuse_change();
"""

PRICES = """
CREATE TRIGGER billing_price_notify AFTER INSERT OR UPDATE OR DELETE ON billing_price
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_configuration_changed('prices');
CREATE TRIGGER billing_discount_notify AFTER INSERT OR UPDATE OR DELETE ON billing_discount
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_configuration_changed('prices');

-- New money ends the remembered refusals of its organization.
CREATE FUNCTION tollgate_wallet_credited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tollgate', 'wallet 0 ' || NEW.organization_id);
    RETURN NULL;
END $$;
CREATE TRIGGER billing_grant_notify AFTER INSERT ON billing_grant
    FOR EACH ROW EXECUTE FUNCTION tollgate_wallet_credited();
"""

DROP_PRICES = """
DROP TRIGGER billing_grant_notify ON billing_grant;
DROP FUNCTION tollgate_wallet_credited();
DROP TRIGGER billing_discount_notify ON billing_discount;
DROP TRIGGER billing_price_notify ON billing_price;
"""


def create_partitions(apps, schema_editor):
    schema_editor.execute(f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT")
    partitions_create(today=dt.datetime.now(dt.UTC).date())


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0001_prices_wallets_leases_and_usage"),
        ("accounts", "0002_configuration_versions"),
    ]

    operations = [
        migrations.RunSQL(LEDGER, DROP_LEDGER),
        migrations.RunSQL(PRICES, DROP_PRICES),
        migrations.RunPython(create_partitions, migrations.RunPython.noop),
    ]
