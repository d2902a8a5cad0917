"""Small indexes over what an operator counts."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0003_guards"),
        ("billing", "0006_redemption_codes"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(
                condition=models.Q(
                    ("usage_source", "estimated"),
                    ("outcome__in", ["lost", "expired"]),
                    ("flags__contains", ["bound_exceeded"]),
                    _connector="OR",
                ),
                fields=["request_id"],
                name="usage_record_odd",
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(
                condition=models.Q(("reason", "late_settlement")),
                fields=["created_at"],
                name="ledger_entry_late",
            ),
        ),
    ]
