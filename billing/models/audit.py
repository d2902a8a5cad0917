"""What the hourly audit found."""

from django.db import models
from typing_extensions import override


class AuditRun(models.Model):
    """One run of every invariant's check; no findings means that all of them held."""

    started_at = models.DateTimeField()
    duration_ms = models.IntegerField()
    findings = models.JSONField(default=list)

    class Meta:
        indexes = [models.Index(name="audit_run_newest_first", fields=["-started_at"])]

    @override
    def __str__(self) -> str:
        return f"audit of {self.started_at:%Y-%m-%d %H:%M}"
