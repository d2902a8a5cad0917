"""Log lines as JSON objects, one a line."""

import datetime as dt
import json
import logging

from typing_extensions import override


class JsonFormatter(logging.Formatter):
    """A record's message, level and logger, plus the mapping in `extra={"fields": {...}}`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
