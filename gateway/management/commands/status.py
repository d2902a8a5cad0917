"""manage.py status: the gateway that runs here, and what its money is doing."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from typing_extensions import override

from gateway.counters import Counters, as_json, counters, sentences
from gateway.launch import data_directory, embedded_postgres
from gateway.state import State

NOT_RUNNING = 1


class Command(BaseCommand):
    help = (
        "Show the processes of the gateway that uses this data directory, and the counters of all"
        " workers on its database; status 1 if no gateway runs here."
    )
    requires_system_checks = ()

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Answer with one line of JSON.")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        directory = data_directory()
        server = embedded_postgres()
        supervisor = directory.supervisor_pid()
        state = State.read(directory)
        known = state is not None and state.supervisor == supervisor
        answer: dict[str, Any] = {
            "supervisor": supervisor,
            "workers": state.living_workers() if state is not None and known else [],
            "postgres": server.pid if server is not None else None,
            "base_url": state.base_url if state is not None and known else None,
        }
        found = counters(database_runs=server is None or server.pid is not None)
        if options["json"]:
            self.stdout.write(json.dumps({**answer, **as_json(found)}))
        else:
            self.stdout.write("\n".join(_sentences(answer, found)))
        if supervisor is None:
            raise SystemExit(NOT_RUNNING)


def _sentences(answer: dict[str, Any], found: Counters) -> list[str]:
    if answer["supervisor"] is None:
        return ["Tollgate does not run here.", *sentences(found)]
    workers = ", ".join(map(str, answer["workers"])) or "none"
    lines = [
        f"Supervisor  {answer['supervisor']}",
        f"Workers     {workers}",
        f"Base URL    {answer['base_url'] or 'not yet'}",
    ]
    if answer["postgres"] is not None:
        lines.append(f"PostgreSQL  {answer['postgres']}")
    return [*lines, *sentences(found)]
