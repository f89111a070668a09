"""The primary of a PostgreSQL pair dies in the middle of going live and its synchronous replica is promoted.

DATABASE_URL names both hosts; the nodes find the one that takes writes. What was acknowledged is on both servers, so
nothing is lost; what was not is repeated with its key, so nothing comes twice.
"""

import asyncio
import os
import random
import time

from harness.fabric import Fabric
from harness.golive import World

SEED = int(os.environ.get("FANFARE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
#: The second one goes back to the server that was the primary at first, made anew as the replica.
PROMOTIONS = 2


async def test_a_replica_is_promoted_under_fan_out(state_folder, tmp_path):
    print(f"FANFARE_CHAOS_SEED={SEED}")
    choose = random.Random(SEED)
    fabric = Fabric(state_folder / "promotion", replicated=True)
    world = World(fabric, SEED, users=20)
    violations = []
    try:
        await asyncio.to_thread(fabric.up)
        await world.open(tmp_path)
        for number in range(PROMOTIONS):
            before = fabric.database.port
            world.leave(4)

            async def promote():
                await asyncio.sleep(choose.random() * 0.4)
                begun = time.monotonic()
                await asyncio.to_thread(fabric.fail_over)
                promoted = time.monotonic()
                await world.notify_some()
                print(f"promoted after {promoted - begun:.1f} s, accepted again {time.monotonic() - promoted:.1f} s later")

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
