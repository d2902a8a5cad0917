"""What models cannot say: a key's project is its organization's, a digest is whole, the trail stays."""

from django.db import migrations

KEYS = [
    "ALTER TABLE accounts_apikey ADD CONSTRAINT api_key_digest_is_whole"
    " CHECK (octet_length(digest) = 32)",
    "ALTER TABLE accounts_project ADD CONSTRAINT project_and_organization UNIQUE (id, organization_id)",
    "ALTER TABLE accounts_apikey ADD CONSTRAINT api_key_project_is_its_organizations"
    " FOREIGN KEY (project_id, organization_id) REFERENCES accounts_project (id, organization_id)"
    " DEFERRABLE INITIALLY DEFERRED",
]
DROP_KEYS = [
    "ALTER TABLE accounts_apikey DROP CONSTRAINT api_key_project_is_its_organizations",
    "ALTER TABLE accounts_project DROP CONSTRAINT project_and_organization",
    "ALTER TABLE accounts_apikey DROP CONSTRAINT api_key_digest_is_whole",
]
TRAIL = """
CREATE FUNCTION tollgate_trail_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Only the link to a person may end, when the person is deleted; the label stays.
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'actor_id' = to_jsonb(OLD) - 'actor_id'
        AND NEW.actor_id IS NULL THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_event_stays BEFORE UPDATE OR DELETE ON accounts_auditevent
    FOR EACH ROW EXECUTE FUNCTION tollgate_trail_stays();
"""
DROP_TRAIL = """
DROP TRIGGER audit_event_stays ON accounts_auditevent;
DROP FUNCTION tollgate_trail_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_configuration_versions")]

    operations = [migrations.RunSQL(KEYS, DROP_KEYS), migrations.RunSQL(TRAIL, DROP_TRAIL)]
