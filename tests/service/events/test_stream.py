"""Reading and following a generation's events in a real Redis."""

import asyncio
import itertools
import time

import pytest
import redis

from service.domain.errors import InvalidRequest, Unavailable
from service.domain.generations.events import Cancelled, Queued
from service.events.connection import ASYNC_CONNECTIONS, connect
from service.events.stream import RedisEventLog, events_key
from tests.generations import now, step
from tests.servers import RedisServer, free_port

IDLE = 20.0


async def collect(following):
    return [stored async for stored in following if stored is not None]


def connections(client) -> int:
    return int(client.info("clients")["connected_clients"])


async def settle(client, expected: int) -> None:
    """Wait for the server to notice that connections were closed."""
    for _ in range(100):
        if connections(client) == expected:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{connections(client)} connections are open instead of {expected}")


@pytest.fixture
def client(redis_url):
    client = connect(redis_url)
    yield client
    client.close()


def test_reading_resumes_after_any_event(log, tell):
    ids = [tell("g", step(1, number)) for number in (1, 2, 3)]
    assert [stored.id for stored in log.read("g", None, 10)] == ids
    assert [stored.event.step for stored in log.read("g", ids[0], 10)] == [2, 3]
    assert [stored.id for stored in log.read("g", None, 2)] == ids[:2]
    assert log.read("g", ids[-1], 10) == []
    assert log.read("unknown", None, 10) == []


def test_reading_goes_on_where_events_were_trimmed(log, tell, client):
    ids = [tell("g", step(1, number)) for number in range(1, 6)]
    client.xtrim(events_key("g"), maxlen=2, approximate=False)
    assert [stored.id for stored in log.read("g", ids[0], 10)] == ids[3:]


@pytest.mark.parametrize("after", ["", "later", "1-2-3", "-1-0", "$", "1" * 40 + "-0"])
def test_an_id_that_is_none_is_the_callers_mistake(log, after):
    with pytest.raises(InvalidRequest, match="an event id"):
        log.read("g", after, 10)
    with pytest.raises(InvalidRequest, match="an event id"):
        log.follow("g", after, IDLE)


def test_reading_without_redis_says_so():
    log = RedisEventLog(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable, match="redis is not available"):
        log.read("g", None, 10)


async def test_following_tells_the_past_then_the_present_and_ends(log, tell):
    tell("g", Queued(attempt=0, at=now()))
    seen = []
    async for stored in log.follow("g", None, IDLE):
        seen.append(stored.event.type)
        if stored.event.type == "queued":
            await asyncio.to_thread(tell, "g", step(1))
        elif stored.event.type == "step":
            await asyncio.to_thread(tell, "g", Cancelled(attempt=1, at=now()))
    assert seen == ["queued", "step", "cancelled"]


async def test_news_come_at_once_and_not_when_the_wait_is_over(log, tell):
    tell("g", step(1))
    following = log.follow("g", None, IDLE)
    await anext(following)
    waiting = asyncio.create_task(anext(following))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    begun = time.monotonic()
    await asyncio.to_thread(tell, "g", step(1, 2))
    stored = await waiting
    assert stored.event.step == 2
    assert time.monotonic() - begun < IDLE / 2
    await following.aclose()


async def test_following_resumes_without_gap_or_repeat(log, tell):
    ids = [tell("g", step(1, number)) for number in range(1, 300)]
    ids.append(tell("g", Cancelled(attempt=1, at=now())))
    for cut in (0, 150, 298):
        assert [s.id for s in await collect(log.follow("g", ids[cut], IDLE))] == ids[cut + 1 :]


async def test_following_after_the_final_event_ends_at_once(log, tell):
    last = tell("g", Cancelled(attempt=1, at=now()))
    assert await collect(log.follow("g", last, IDLE)) == []
    assert await collect(log.follow("expired", None, IDLE)) == []


async def test_coming_and_going_in_haste_hangs_nobody(log, tell):
    last = tell("g", Cancelled(attempt=1, at=now()))
    async with asyncio.timeout(60):
        for _ in range(100):
            assert await collect(log.follow("g", last, IDLE)) == []


async def test_silence_is_told_as_none(log, tell):
    tell("g", step(1))
    following = log.follow("g", None, 0.05)
    assert await anext(following) is not None
    assert await anext(following) is None
    assert await anext(following) is None
    await asyncio.to_thread(tell, "g", step(1, 2))
    later = [stored async for stored in _until_event(following)]
    assert later[-1].event.step == 2
    await following.aclose()


async def _until_event(following):
    async for stored in following:
        yield stored
        if stored is not None:
            return


async def test_many_followers_share_few_connections_and_leave_none(log, tell, client):
    ids = [f"g{number}" for number in range(300)]
    for generation_id in ids:
        tell(generation_id, step(1))
    before = connections(client)
    followers = [asyncio.create_task(collect(log.follow(i, None, IDLE))) for i in ids]
    while connections(client) == before:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    assert connections(client) <= before + ASYNC_CONNECTIONS
    for generation_id in ids:
        await asyncio.to_thread(tell, generation_id, Cancelled(attempt=1, at=now()))
    seen = await asyncio.gather(*followers)
    assert [[s.event.type for s in one] for one in seen] == [["step", "cancelled"]] * 300
    await settle(client, before)


async def test_many_followers_of_one_generation_read_it_and_make_of_it_what_they_send_once(
    log, tell, client
):
    tell("g", Queued(attempt=0, at=now()))
    followers = [asyncio.create_task(collect(log.follow("g", None, IDLE))) for _ in range(200)]
    await asyncio.sleep(1.0)
    client.config_resetstat()
    ids = [await asyncio.to_thread(tell, "g", step(1, number)) for number in range(1, 11)]
    ids.append(await asyncio.to_thread(tell, "g", Cancelled(attempt=1, at=now())))
    seen = await asyncio.gather(*followers)
    assert {tuple(s.id for s in one[1:]) for one in seen} == {tuple(ids)}
    assert client.info("commandstats")["cmdstat_xread"]["calls"] <= 2 * len(ids)
    made = []
    for stored in itertools.chain(*seen):
        stored.made("a test's", lambda told=stored: made.append(told.id))
    assert len(made) <= 2 * len(ids)


async def test_a_follower_that_leaves_in_the_midst_of_a_read_ends_nobodys(log, tell):
    tell("g", Queued(attempt=0, at=now()))
    first, second = (log.follow("g", None, IDLE) for _ in range(2))
    leaving, staying = (asyncio.create_task(anext(each)) for each in (first, second))
    for _ in range(3):
        await asyncio.sleep(0)  # both wait for the same read now
    leaving.cancel()
    assert (await staying).event.type == "queued"
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await second.aclose()


async def test_a_follower_that_leaves_frees_its_connections(log, tell, client):
    tell("g", step(1))
    before = connections(client)
    following = log.follow("g", None, IDLE)
    await anext(following)
    waiting = asyncio.create_task(anext(following))
    await asyncio.sleep(0.1)
    assert connections(client) > before
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await following.aclose()
    await settle(client, before)


async def test_a_cut_bell_rope_delays_news_and_loses_none(log, tell, client):
    tell("g", step(1))
    following = log.follow("g", None, IDLE)
    await anext(following)
    waiting = asyncio.create_task(anext(following))
    await asyncio.sleep(0.2)
    client.client_kill_filter(_type="pubsub")
    await asyncio.to_thread(tell, "g", step(1, 2))
    assert (await asyncio.wait_for(waiting, IDLE / 2)).event.step == 2
    await following.aclose()


async def test_following_ends_with_an_error_when_redis_is_gone(own_redis: RedisServer):
    with redis.Redis.from_url(own_redis.url) as client:
        client.xadd(events_key("g"), {"type": "none of ours"})
    following = RedisEventLog(own_redis.url).follow("g", None, 0.2)
    assert await anext(following) is None
    own_redis.stop()
    with pytest.raises(Unavailable):
        await collect(following)
