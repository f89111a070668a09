"""Rounds of going live while something dies: nothing is lost, nothing comes twice, nothing gets stuck.

FANFARE_CHAOS_ROUNDS says how many rounds, FANFARE_CHAOS_SEED repeats a run's choices, which are printed.
FANFARE_CHAOS_FAULTS names the faults to choose from, with commas, instead of all.
"""

import asyncio
import os
import random
import signal
import time

import pytest
from harness.fabric import Fabric
from harness.golive import World
from harness.proxy import CUTS
from harness.waiting import eventually

ROUNDS = int(os.environ.get("FANFARE_CHAOS_ROUNDS", "10"))
SEED = int(os.environ.get("FANFARE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
LEASE = 1.5


class Faults:
    """What may happen to a cluster. Each ends with everything running again."""

    ALL = "none,node,redis,postgres,pause,commits,links"
    KINDS = os.environ.get("FANFARE_CHAOS_FAULTS", ALL).split(",")

    def __init__(self, world, choose):
        self.world = world
        self.fabric = world.fabric
        self.random = choose

    async def strike(self, kind, victim):
        await getattr(self, kind)(victim)

    async def instant(self, longest=0.4):
        await asyncio.sleep(self.random.random() * longest)

    async def none(self, _):
        return

    async def node(self, victim):
        """kill -9; it comes back after the others may have taken its slots, or before."""
        await self.instant()
        self.world.dead.add(victim)
        await asyncio.to_thread(self.fabric.crash, f"node-{victim}")
        await self.instant(2 * LEASE)
        await asyncio.to_thread(self.fabric.restart_dead)
        await asyncio.to_thread(self.fabric.wait_ready)
        self.world.dead.discard(victim)

    async def redis(self, _):
        await self.instant()
        await asyncio.to_thread(self.fabric.crash, "redis")
        await self.instant(1)
        await asyncio.to_thread(self.fabric.restart_dead)

    async def postgres(self, _):
        await self.instant()
        await asyncio.to_thread(self.fabric.database.crash)
        await self.instant(1)
        await asyncio.to_thread(self.fabric.restart_dead)

    async def pause(self, victim):
        """Beyond the lease: the others own what it owned when it wakes up."""
        await self.instant()
        self.fabric.signal(f"node-{victim}", signal.SIGSTOP)
        try:
            await asyncio.sleep(LEASE + 1 + self.random.random())
        finally:
            self.fabric.signal(f"node-{victim}", signal.SIGCONT)

    async def commits(self, _):
        """COMMITs of all nodes that never arrive, or whose answer nobody hears."""
        proxies = self.fabric.proxies
        before = sum(proxy.cuts for proxy in proxies)
        for proxy in proxies:
            proxy.arm(*(self.random.choice(CUTS) for _ in range(self.random.randint(1, 6))))
        await eventually(lambda: sum(proxy.cuts for proxy in proxies) > before, 30, "a COMMIT was cut")
        await self.instant(2)
        for proxy in proxies:
            proxy.disarm()

    async def links(self, _):
        """All connections to PostgreSQL of one node after the other."""
        for proxy in self.fabric.proxies:
            await self.instant(0.2)
            proxy.cut_all()


def plan(choose, rounds):
    """The faults of each round: every kind in turn, in a shuffled order; every third round has a second one."""
    kinds = []
    while len(kinds) < rounds:
        kinds += choose.sample(Faults.KINDS, len(Faults.KINDS))
    for number in range(rounds):
        others = [kind for kind in Faults.KINDS if kind not in ("none", kinds[number])]
        second = [choose.choice(others)] if others else []
        yield [kinds[number], *second] if number % 3 == 2 and kinds[number] != "none" else [kinds[number]]


@pytest.mark.parametrize("broadcasts_from", [None, 500], ids=["rows", "broadcasts"])
async def test_rounds_of_going_live(state_folder, tmp_path, broadcasts_from):
    print(f"FANFARE_CHAOS_SEED={SEED}")
    choose = random.Random(SEED)
    settings = {"FANFARE_HEARTBEAT_LEASE": f"{int(LEASE * 1000)}ms"}
    if broadcasts_from:
        settings["FANFARE_BROADCAST_THRESHOLD"] = str(broadcasts_from)
    fabric = Fabric(state_folder / "chaos", **settings)
    world = World(fabric, SEED, broadcasts_from=broadcasts_from)
    violations, begun = [], time.monotonic()
    try:
        await asyncio.to_thread(fabric.up)
        await world.open(tmp_path)
        faults = Faults(world, choose)
        for number, kinds in enumerate(plan(choose, ROUNDS)):
            started = time.monotonic()
            # A node each, so that one is left.
            victim = choose.randrange(fabric.nodes)
            victims = [(victim + index) % fabric.nodes for index in range(len(kinds))]
            world.leave(6)
            strikes = [faults.strike(kind, struck) for kind, struck in zip(kinds, victims)]
            await asyncio.gather(world.go_live(avoiding=victims), *strikes)
            lasted = time.monotonic() - started
            await asyncio.to_thread(fabric.wait_ready)
            world.come_back()
            found = await world.check(delivered_exactly=kinds == ["none"])
            violations += [f"round {number} ({'+'.join(kinds)}, node {victim}): {each}" for each in found]
            for each in violations[len(violations) - len(found):][:20]:
                print(each, flush=True)
            print(
                f"round {number:3}: {'+'.join(kinds):18} {len(world.round_events)} events in {lasted:.1f} s, "
                f"right after {time.monotonic() - started:.1f} s{', VIOLATED' if found else ''}", flush=True)
        print(
            f"{ROUNDS} rounds in {time.monotonic() - begun:.0f} s, {len(world.events)} events, "
            f"{sum(len(event.audience) for event in world.events):,} inbox rows, "
            f"{sum(proxy.cuts for proxy in fabric.proxies)} cut COMMITs")
    finally:
        await world.close()
        await asyncio.to_thread(fabric.down)
    assert not violations, f"FANFARE_CHAOS_SEED={SEED}\n" + "\n".join(violations)
