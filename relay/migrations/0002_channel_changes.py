"""Changes of channels reach every worker."""

from django.db import migrations

CREATE = """
CREATE TRIGGER relay_channel_notify AFTER INSERT OR UPDATE OR DELETE ON relay_channel
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_configuration_changed('channels');
CREATE TRIGGER relay_channelmodel_notify AFTER INSERT OR UPDATE OR DELETE ON relay_channelmodel
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_configuration_changed('channels');
"""

DROP = """
DROP TRIGGER relay_channelmodel_notify ON relay_channelmodel;
DROP TRIGGER relay_channel_notify ON relay_channel;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0001_channels"),
        ("accounts", "0002_configuration_versions"),
    ]

    operations = [migrations.RunSQL(CREATE, DROP)]
