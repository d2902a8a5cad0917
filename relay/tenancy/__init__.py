"""What keeps tenants apart who share upstream's accounts."""

from relay.tenancy.namespaces import Namespaces
from relay.tenancy.ownership import Ownership


class Tenancy:
    __slots__ = ("namespaces", "ownership")

    def __init__(self, *, ownership: Ownership, namespaces: Namespaces) -> None:
        self.ownership = ownership
        self.namespaces = namespaces
