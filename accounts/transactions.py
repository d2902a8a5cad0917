"""Who opens a transaction: the outermost service does (`durable`), the parts of it require one."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import transaction

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def durable(service: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
    """Run the service in a transaction of its own: when it returns, its work is committed."""
    return transaction.atomic(durable=True)(service)


def transaction_required(part: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
    """Refuse to run outside a transaction, where half of the work could stay."""

    @wraps(part)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        if not transaction.get_connection().in_atomic_block:
            raise RuntimeError(f"{part.__qualname__} is part of a larger transaction.")
        return part(*args, **kwargs)

    return checked
