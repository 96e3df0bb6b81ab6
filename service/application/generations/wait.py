"""Wait a while for a generation to become final."""

import asyncio
import contextlib

import anyio.to_thread

from service.application.generations.query import Query
from service.application.generations.watch import WatchGeneration
from service.domain.errors import Unavailable
from service.domain.generations.generation import Generation


async def wait_until_final(
    generation: Generation, watch: WatchGeneration, query: Query, seconds: float
) -> Generation:
    """The record once it is final, or as it stands after `seconds`.

    What was accepted stays accepted: when Redis is lost meanwhile, the last known record is
    returned, so no client is told to repeat a request that will run.
    """
    if generation.status.final or seconds <= 0:
        return generation
    try:
        with contextlib.suppress(TimeoutError):
            # Not anyio's scope: that would also cut off the watch's own cleaning up.
            async with asyncio.timeout(seconds):
                async for _ in await watch(generation.id):
                    pass
        return await anyio.to_thread.run_sync(query.generation, generation.id)
    except Unavailable:
        return generation
