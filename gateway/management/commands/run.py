"""manage.py run: the whole gateway, until it is told to stop."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from typing_extensions import override

from gateway.checks import refuse_unsafe_configuration
from gateway.data_directory import AlreadyRunning, DataDirectoryError
from gateway.launch import data_directory, embedded_postgres
from gateway.ports import UnableToListen
from gateway.postgres import PostgresUnavailable
from gateway.preparation import UnableToPrepare
from gateway.supervisor import Plan, Supervisor, UnableToStart

REFUSALS = (
    AlreadyRunning,
    DataDirectoryError,
    ImproperlyConfigured,
    PostgresUnavailable,
    UnableToListen,
    UnableToPrepare,
    UnableToStart,
)


class Command(BaseCommand):
    help = "Run the gateway with everything it needs, until SIGTERM or Ctrl-C."
    # Ours run below; the other applications' would double the time of a start.
    requires_system_checks = ()

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--no-jobs",
            action="store_true",
            help="Leave scheduled jobs to Celery processes elsewhere.",
        )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        plan = Plan(
            directory=data_directory(),
            postgres=embedded_postgres(),
            with_jobs=not options["no_jobs"],
        )
        try:
            refuse_unsafe_configuration()
            Supervisor(plan).run()
        except REFUSALS as refusal:
            raise CommandError(str(refusal)) from refusal
