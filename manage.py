#!/usr/bin/env python
"""Django's command line; with an embedded database it finds the running server or starts one."""

import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from gateway.data_directory import DataDirectoryError
from gateway.launch import command_environment
from gateway.postgres import PostgresUnavailable


def main() -> None:
    try:
        with command_environment(sys.argv):
            execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, DataDirectoryError, PostgresUnavailable) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
