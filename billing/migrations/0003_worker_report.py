"""What a worker says of itself with each renewal."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_guards")]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="report",
            field=models.JSONField(default=dict),
        ),
    ]
