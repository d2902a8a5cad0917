"""Channels get several credentials, concurrency, deadlines, headers, proxies and kinds."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

# The one that every channel had becomes its first.
MOVE = """
INSERT INTO relay_channelcredential
       (channel_id, label, encrypted, enabled, disabled_reason, created_at)
SELECT id, 'main', credential_encrypted, true, '', created_at FROM relay_channel;
SET CONSTRAINTS ALL IMMEDIATE;
"""
NOTIFY = """
CREATE TRIGGER relay_channelcredential_notify
    AFTER INSERT OR UPDATE OR DELETE ON relay_channelcredential
    FOR EACH STATEMENT EXECUTE FUNCTION tollgate_configuration_changed('channels');
"""


class Migration(migrations.Migration):
    dependencies = [("relay", "0003_upstream_ids")]

    operations = [
        migrations.CreateModel(
            name="ChannelCredential",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "label",
                    models.CharField(max_length=100, help_text="Tells it from the others."),
                ),
                ("encrypted", models.BinaryField()),
                ("enabled", models.BooleanField(default=True)),
                ("disabled_reason", models.CharField(blank=True, max_length=200)),
                ("refused_at", models.DateTimeField(blank=True, null=True)),
                ("disabled_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="credentials",
                        to="relay.channel",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=["channel", "label"], name="channel_label_is_unique"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(enabled=True, disabled_at__isnull=True)
                        | models.Q(enabled=False, disabled_at__isnull=False),
                        name="credential_is_disabled_at_a_time",
                    ),
                ],
            },
        ),
        migrations.RunSQL(MOVE, migrations.RunSQL.noop),
        migrations.RunSQL(
            NOTIFY, "DROP TRIGGER relay_channelcredential_notify ON relay_channelcredential"
        ),
        migrations.RemoveField("channel", "credential_encrypted"),
        migrations.AddField(
            "channel",
            "kind",
            models.CharField(
                choices=[("openai", "OpenAI compatible"), ("azure", "Azure OpenAI")],
                default="openai",
                max_length=10,
            ),
        ),
        migrations.AddField(
            "channel",
            "api_version",
            models.CharField(blank=True, max_length=40, help_text="Azure's; empty for its v1 API."),
            preserve_default=True,
        ),
        migrations.AddField(
            "channel",
            "concurrency",
            models.PositiveIntegerField(
                default=0, help_text="Calls at once in each serving process; 0: no limit."
            ),
        ),
        migrations.AddField("channel", "connect_seconds", models.FloatField(blank=True, null=True)),
        migrations.AddField(
            "channel", "first_byte_seconds", models.FloatField(blank=True, null=True)
        ),
        migrations.AddField("channel", "idle_seconds", models.FloatField(blank=True, null=True)),
        migrations.AddField(
            "channel",
            "http2",
            models.BooleanField(default=False, help_text="Speak HTTP/2 where upstream can."),
        ),
        migrations.AddField("channel", "proxy", models.CharField(blank=True, max_length=300)),
        migrations.AddField(
            "channel", "proxy_encrypted", models.BinaryField(editable=False, null=True)
        ),
        migrations.AddField("channel", "header_names", models.JSONField(blank=True, default=list)),
        migrations.AddField(
            "channel", "headers_encrypted", models.BinaryField(editable=False, null=True)
        ),
        migrations.AlterField(
            "channel",
            "weight",
            models.PositiveIntegerField(
                default=1,
                help_text="Its share of the calls among channels of the same priority.",
            ),
        ),
        migrations.AddConstraint(
            "channel",
            models.CheckConstraint(
                condition=models.Q(kind__in=["openai", "azure"]), name="channel_kind_is_known"
            ),
        ),
    ]
