"""The primary of a PostgreSQL pair dies in the middle of a large job and its synchronous replica is promoted.

DATABASE_URL names both hosts; the nodes find the one that takes writes. What was acknowledged is on both servers, so
nothing is lost; what was not is repeated with its key, so nothing comes twice. FANFARE_PROMOTIONS says how often.
"""

import asyncio
import os
import random
import time

from harness.fabric import Fabric
from harness.golive import World
from harness.waiting import eventually

SEED = int(os.environ.get("FANFARE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
#: The second one goes back to the server that was the primary at first, made anew as the replica.
PROMOTIONS = int(os.environ.get("FANFARE_PROMOTIONS", "5"))
CROWDS = {"big": 60_000, "middle": 3000, "small": 40}
#: Rows a second, so that the large job lasts some seconds on any machine.
RATE = 40_000


async def written_by_open_jobs(fabric, streamer):
    """Inbox rows of the streamer's events that are not complete yet."""
    rows = await asyncio.to_thread(fabric.database.sql, f"""
        SELECT COALESCE(sum(t.recipients), 0) FROM fanouts f JOIN users u ON u.id = f.streamer
        JOIN fanout_tallies t ON t.event_id = f.event_id
        WHERE u.name = '{streamer}' AND f.completed_at IS NULL""")
    return int(rows[0][0])


async def test_a_replica_is_promoted_under_fan_out(state_folder, tmp_path):
    print(f"FANFARE_CHAOS_SEED={SEED}")
    choose = random.Random(SEED)
    fabric = Fabric(state_folder / "promotion", replicated=True, FANFARE_FANOUT_RATE=str(RATE))
    world = World(fabric, SEED, users=20, crowds=CROWDS)
    violations = []
    try:
        await asyncio.to_thread(fabric.up)
        await world.open(tmp_path)
        for number in range(PROMOTIONS):
            before = fabric.database.port
            world.leave(4)

            async def beyond(threshold):
                written = await written_by_open_jobs(fabric, "big")
                return written if written >= threshold else None

            async def promote():
                threshold = 1 + choose.random() * 0.7 * CROWDS["big"]
                at = await eventually(lambda: beyond(threshold), 60, "the large job has come that far")
                begun = time.monotonic()
                await asyncio.to_thread(fabric.fail_over)
                promoted = time.monotonic()
                await world.notify_some()
                print(
                    f"died when {at:,} of {CROWDS['big']:,} rows were written, promoted after {promoted - begun:.1f} s, "
                    f"accepted again {time.monotonic() - promoted:.1f} s later", flush=True)

            await asyncio.gather(world.go_live(), promote())
            assert fabric.database.port != before
            await asyncio.to_thread(fabric.wait_ready)
            world.come_back()
            violations += [f"promotion {number}: {each}" for each in await world.check()]
            if number + 1 < PROMOTIONS:
                await asyncio.to_thread(fabric.replicate)
        # And on without a fault, with what came out of it.
        world.leave(4)
        await world.go_live()
        world.come_back()
        violations += [f"afterwards: {each}" for each in await world.check(delivered_exactly=True)]
    finally:
        await world.close()
        await asyncio.to_thread(fabric.down)
    assert not violations, f"FANFARE_CHAOS_SEED={SEED}\n" + "\n".join(violations)
