"""The application "bridge.django" of INSTALLED_APPS. It has no models."""

from django.apps import AppConfig
from django.core.checks import register

from bridge.django.checks import check_settings


class BridgeConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """Registers the system checks."""

    name = "bridge.django"
    label = "bridge"
    verbose_name = "Celery event bridge"

    def ready(self) -> None:
        """Called by Django when all applications are loaded."""
        register(check_settings)
