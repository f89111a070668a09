"""Waiting for a condition with a deadline: tests never wait for time to pass."""

import asyncio
import inspect
import time

PAUSE = 0.02


class TimedOut(AssertionError):
    pass


async def eventually(check, within=10.0, what="the condition"):
    """Calls `check` (plain or async) until it returns something true, and returns that.

    An AssertionError from `check` counts as "not yet"; the last one is shown when time is up.
    """
    deadline = time.monotonic() + within
    last = None
    while True:
        try:
            value = check()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise TimedOut(f"{what}: not within {within} s; last: {last!r}")
        await asyncio.sleep(PAUSE)


def eventually_sync(check, within=10.0, what="the condition"):
    deadline = time.monotonic() + within
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"{what}: not within {within} s; last: {value!r}")
        time.sleep(PAUSE)
