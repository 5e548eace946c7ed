"""`manage.py bridge`: the commands for the bridge of a Django project."""

import sys

from django.core.management.base import BaseCommand, CommandError

from bridge.django.configuration import configured
from bridge.errors import MissingExtra, needs_extra


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Hands its arguments to the command `bridge`, with the URL of `settings.BRIDGE`."""

    help = "Watch tasks, and the messages of any topic."

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command line. Django's own options, such as --settings, come from the environment."""
        try:
            with needs_extra("manage.py bridge", "cli"):
                from bridge.cli.application import target_of
                from bridge.cli.group import bridge
                from bridge.cli.target import Target
        except MissingExtra as error:
            raise CommandError(str(error)) from error

        def find() -> Target:
            return target_of(configured().service)

        bridge.main(argv[2:], prog_name="manage.py bridge", obj=find)

    def handle(self, *args: str, **options: object) -> None:
        """Run it from `call_command`, with its arguments as texts."""
        self.run_from_argv([sys.argv[0], "bridge", *args])
