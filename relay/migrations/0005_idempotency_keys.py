"""The Idempotency-Keys that were used, with the answers that their calls got."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("relay", "0004_channel_routing")]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "endpoint",
                        "key",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("endpoint", models.CharField(max_length=60)),
                ("key", models.CharField(max_length=255)),
                ("request_id", models.UUIDField()),
                ("body_digest", models.BinaryField()),
                ("status", models.SmallIntegerField(null=True)),
                ("headers", models.JSONField(null=True)),
                ("body", models.BinaryField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_index=True, default=django.utils.timezone.now),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        name="idempotency_answer_has_a_head",
                        condition=models.Q(
                            ("headers__isnull", False), ("status__isnull", False)
                        )
                        | models.Q(
                            ("body__isnull", True),
                            ("headers__isnull", True),
                            ("status__isnull", True),
                        ),
                    ),
                ],
            },
        ),
    ]
