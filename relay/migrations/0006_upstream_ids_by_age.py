"""What upstream no longer keeps is found by its age."""

import django.contrib.postgres.indexes
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("relay", "0005_idempotency_keys")]

    operations = [
        migrations.AddIndex(
            model_name="upstreamid",
            index=django.contrib.postgres.indexes.BrinIndex(
                fields=["created_at"], name="relay_upstreamid_by_age"
            ),
        ),
    ]
