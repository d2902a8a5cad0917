import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from billing.identifiers import uuid7, uuid7_time

MANY = 2_000
RANDOM_BITS = (1 << 62) - 1


def test_identifiers_are_of_version_7_and_ascend_strictly() -> None:
    identifiers = [uuid7() for _ in range(MANY)]
    assert all((i.version, i.variant) == (7, "specified in RFC 4122") for i in identifiers)
    assert identifiers == sorted(set(identifiers))
    assert abs(uuid7_time(identifiers[-1]).timestamp() - time.time()) < 60


def test_their_random_parts_differ() -> None:
    assert len({uuid7().int & RANDOM_BITS for _ in range(MANY)}) == MANY


def test_threads_get_different_ones() -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: [uuid7() for _ in range(MANY)], range(4)))
    assert len({i.int & RANDOM_BITS for some in made for i in some}) == 4 * MANY


def test_a_forked_process_draws_numbers_of_its_own() -> None:
    uuid7()  # Now there are some left, which both would have.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, b"".join(uuid7().bytes for _ in range(100)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    data = os.read(reading, 1600)
    os.close(reading)
    os.close(writing)
    theirs = {UUID(bytes=data[i : i + 16]).int & RANDOM_BITS for i in range(0, 1600, 16)}
    ours = {uuid7().int & RANDOM_BITS for _ in range(1000)}
    assert len(theirs) == 100
    assert not theirs & ours
