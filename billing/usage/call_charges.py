"""What a call was charged, for who runs beside the engine and has its request id only."""

from uuid import UUID

from billing.engine import Connection


async def call_charge(connection: Connection, request_id: UUID) -> int | None:
    """None: nothing is recorded yet, so the call may still run. A call that was lost costs 0."""
    cursor = await connection.execute(
        "SELECT charge_nano_usd FROM billing_usagerecord WHERE request_id = %s", [request_id]
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]
