from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0008_payments_and_reversals'),
    ]

    operations = [
        migrations.AddField(
            model_name='price',
            name='unit_rates',
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('tiers', {}), _negated=True) | models.Q(('unit_rates', {}), _negated=True), name='price_is_of_something'),
        ),
    ]
