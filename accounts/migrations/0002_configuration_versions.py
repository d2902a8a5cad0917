"""Changes of configuration reach every worker: a version per topic, raised and notified by triggers.

The triggers make it impossible to forget: a change by console, command or plain SQL all count.
"""

from django.db import migrations, models

FUNCTIONS = """
CREATE FUNCTION tollgate_configuration_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    raised bigint;
BEGIN
    UPDATE accounts_configurationversion SET version = version + 1 WHERE topic = TG_ARGV[0]
        RETURNING version INTO raised;
    PERFORM pg_notify('tollgate', TG_ARGV[0] || ' ' || raised || ' 0');
    RETURN NULL;
END $$;

-- The same, but it also names the organizations, so that a worker forgets only theirs.
CREATE FUNCTION tollgate_organizations_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    raised bigint;
    organization bigint;
BEGIN
    UPDATE accounts_configurationversion SET version = version + 1 WHERE topic = 'accounts'
        RETURNING version INTO raised;
    FOR organization IN EXECUTE format('SELECT DISTINCT %I FROM changed', TG_ARGV[0]) LOOP
        PERFORM pg_notify('tollgate', 'accounts ' || raised || ' ' || organization);
    END LOOP;
    RETURN NULL;
END $$;
"""

DROP_FUNCTIONS = """
DROP FUNCTION tollgate_organizations_changed();
DROP FUNCTION tollgate_configuration_changed();
"""

TABLES = {
    "accounts_organization": "id",
    "accounts_project": "organization_id",
    "accounts_apikey": "organization_id",
}


def triggers() -> list[migrations.RunSQL]:
    operations = []
    for table, column in TABLES.items():
        create, drop = [], []
        for event, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            name = f"{table}_notify_{event.lower()}"
            create.append(
                f"CREATE TRIGGER {name} AFTER {event} ON {table}"
                f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT"
                f" EXECUTE FUNCTION tollgate_organizations_changed('{column}')"
            )
            drop.append(f"DROP TRIGGER {name} ON {table}")
        operations.append(migrations.RunSQL(create, drop))
    return operations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_people_organizations_and_keys")]

    operations = [
        migrations.CreateModel(
            name="ConfigurationVersion",
            fields=[
                ("topic", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("version", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.RunSQL(
            "INSERT INTO accounts_configurationversion (topic, version)"
            " VALUES ('accounts', 0), ('prices', 0), ('channels', 0)",
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(FUNCTIONS, DROP_FUNCTIONS),
        *triggers(),
    ]
