"""The look of the console. Read by the settings, so nothing here may import Django's models."""

UNFOLD: dict[str, object] = {}
