"""Who changed what. Every service writes its row in the transaction of its change."""

from collections.abc import Mapping
from dataclasses import dataclass

from accounts.models import AuditEvent, Organization, User
from accounts.transactions import transaction_required

# What a detail may be: whatever reads back from JSON as it was written.
Detail = str | int | bool | list[str] | None

_LABEL_LENGTH = 254
_SUBJECT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, or (user_id None) a command, a job, the system itself."""

    user_id: int | None
    label: str

    @classmethod
    def of(cls, user: User) -> "Actor":
        return cls(user_id=user.pk, label=user.email)


@transaction_required
def audit_event_record(
    *,
    actor: Actor,
    action: str,
    subject: str,
    organization: Organization | None = None,
    details: Mapping[str, Detail] | None = None,
) -> AuditEvent:
    """Record a change. Details never hold a key, a credential or a password."""
    return AuditEvent.objects.create(
        actor_id=actor.user_id,
        actor_label=actor.label[:_LABEL_LENGTH],
        action=action,
        organization=organization,
        subject=subject[:_SUBJECT_LENGTH],
        details=dict(details or {}),
    )
