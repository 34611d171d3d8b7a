"""Restore: a store brought up to the end of its changelog, from wherever it is."""

from __future__ import annotations

from streamproc.log import Log, Partition
from streamproc.state.errors import StoreError
from streamproc.state.settled import settle, settled_ms
from streamproc.state.store import Store

RESTORE_RECORDS = 20_000
"""Rows a write: a write holds the interpreter for about 10 ms."""


TOMBSTONES_MS = 7 * 86_400_000
"""How long a changelog keeps a deletion (`delete.retention.ms`) before compaction may drop it."""


async def restore(store: Store, log: Log, changelog: Partition, *, now_ms: int) -> int:
    """Replay what the changelog holds behind the store's position; returns how many rows that were.

    To the high watermark, taken after the committed offsets were read: so the state is never older than they are.
    A store that has stood still for half of the time that deletions are kept is rebuilt whole: it may have missed some,
    and keys that were deleted would be there again.
    """
    end = (await log.ends([changelog]))[changelog]
    position = store.position or 0
    if position > end:
        msg = (
            f"it is at {position} of its changelog, which ends at {end}: the topic was made anew under it. "
            "Delete the state directory to begin from the changelog as it is"
        )
        raise StoreError(f"of {changelog.topic}/{changelog.number}", msg)
    settled = settled_ms(store)
    if position and (settled is None or now_ms - settled > TOMBSTONES_MS // 2):
        store.clear()
        position = 0
    count = 0
    while position < end:
        chunk = await log.read(changelog, position, min(RESTORE_RECORDS, end - position))
        changes = {
            key: value for key, value in zip(chunk.columns.keys, chunk.columns.values, strict=True) if key is not None
        }
        position = chunk.next_offset
        settle(store, changes, position, now_ms=now_ms)
        count += len(changes)
    return count
