from django.apps import AppConfig
from typing_extensions import override


class GatewayConfig(AppConfig):
    name = "gateway"

    @override
    def ready(self) -> None:
        # Registers the checks; they import models, which are ready only now.
        from gateway import checks  # noqa: F401
