"""Credentials that upstream does not know any more: taken out of use, and an alarm raised.

A channel's last one is not taken out of use: that would help nobody, and turn a short trouble of
upstream's into one that lasts until the operator has come. Its circuit spares it meanwhile.
"""

import asyncio
import logging
from functools import partial

from psycopg.types.json import Json

from billing.engine import Connection, Database, OutcomeUnknown
from relay.channels.table import ChannelRoute

logger = logging.getLogger("tollgate.relay")
REMEMBERED_SECONDS = 60.0

_OTHERS = """
SELECT k.refused_at IS NOT NULL, EXISTS (SELECT 1 FROM relay_channelcredential o
        WHERE o.channel_id = k.channel_id AND o.enabled AND o.id <> k.id)
  FROM relay_channelcredential k WHERE k.id = %s AND k.enabled FOR UPDATE
"""
_REFUSE = """
UPDATE relay_channelcredential SET refused_at = now(), disabled_reason = %s, enabled = NOT %s,
       disabled_at = CASE WHEN %s THEN now() END
 WHERE id = %s
"""
_RECORD = """
INSERT INTO accounts_auditevent (at, actor_label, action, subject, details)
VALUES (now(), 'gateway', 'channel.credential_refused', %s, %s)
"""


class Refusals:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, route: ChannelRoute, answer: str) -> None:
        """Upstream has refused the route's credential; returns at once."""
        now = asyncio.get_running_loop().time()
        if now < self._noted.get(route.credential_id, 0):
            return
        self._noted[route.credential_id] = now + REMEMBERED_SECONDS
        logger.error(
            "Upstream refused the credential %s of the channel %s: %s",
            route.credential,
            route.name,
            answer,
        )
        task = asyncio.create_task(self._write(route, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Returns when everything that was noted is written."""
        await asyncio.gather(*self._tasks)

    async def _write(self, route: ChannelRoute, answer: str) -> None:
        try:
            await self._database.run(partial(credential_refuse, route=route, answer=answer))
        except OutcomeUnknown as error:
            logger.warning("The refusal could not be written down: %s", error)
            self._noted.pop(route.credential_id, None)


async def credential_refuse(connection: Connection, *, route: ChannelRoute, answer: str) -> None:
    """Take it out of use, unless it is the last one, and raise the alarm, once."""
    cursor = await connection.execute(_OTHERS, (route.credential_id,))
    row = await cursor.fetchone()
    if row is None:
        return  # The operator, or another worker, was faster.
    was_refused, has_others = row
    if was_refused and not has_others:
        return
    reason = f"Upstream answered {answer}."[:200]
    await connection.execute(_REFUSE, (reason, has_others, has_others, route.credential_id))
    details = {"credential": route.credential, "answer": answer, "disabled": has_others}
    await connection.execute(_RECORD, (route.name, Json(details)))
