"""Work on pictures waits without threads, is done once for all who ask, and has a limit."""

import asyncio
import threading
from collections.abc import Iterator

import anyio.to_thread
import pytest

from service.api.picture_work import PictureWork
from service.domain.errors import Unavailable


class Bench:
    """Work that goes on until it is let go."""

    def __init__(self, **limits: int) -> None:
        self.work = PictureWork(**limits)
        self.go = threading.Event()
        self.done = 0

    def toil(self) -> bytes:
        assert self.go.wait(30)
        self.done += 1
        return b"picture"


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(threads=1, places=3, places_of_one=2)
    yield bench
    bench.go.set()
    bench.work.close()


async def test_many_who_ask_for_the_same_cost_one(bench: Bench) -> None:
    asked = [asyncio.create_task(bench.work.made("a", "name", bench.toil)) for _ in range(60)]
    await asyncio.sleep(0)
    asked.pop().cancel()
    bench.go.set()
    assert set(await asyncio.gather(*asked)) == {b"picture"}
    assert await bench.work.made("b", "name", bench.toil) == b"picture"
    assert bench.done == 1


async def test_what_there_is_no_room_for_is_refused_at_once(bench: Bench) -> None:
    waiting = [asyncio.create_task(bench.work.run(who, bench.toil)) for who in ("a", "a", "b")]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as full:
        await bench.work.run("b", bench.toil)
    assert full.value.retry_after > 0
    bench.go.set()
    await asyncio.gather(*waiting)
    assert await bench.work.run("b", bench.toil) == b"picture"


async def test_one_tenant_leaves_room_for_others(bench: Bench) -> None:
    waiting = [asyncio.create_task(bench.work.run("a", bench.toil)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await bench.work.run("a", bench.toil)
    waiting.append(asyncio.create_task(bench.work.run("b", bench.toil)))
    bench.go.set()
    await asyncio.gather(*waiting)


async def test_what_waits_holds_no_thread_of_anybody_else() -> None:
    bench = Bench(threads=1, places=1000, places_of_one=1000)
    waiting = [asyncio.create_task(bench.work.run("a", bench.toil)) for _ in range(500)]
    await asyncio.sleep(0)
    assert await anyio.to_thread.run_sync(lambda: "answered") == "answered"
    bench.go.set()
    await asyncio.gather(*waiting)
    bench.work.close()


async def test_what_failed_is_tried_again(bench: Bench) -> None:
    def fail() -> bytes:
        raise OSError("no picture")

    with pytest.raises(OSError, match="no picture"):
        await bench.work.made("a", "name", fail)
    bench.go.set()
    assert await bench.work.made("a", "name", bench.toil) == b"picture"


async def test_results_are_kept_up_to_so_many_bytes() -> None:
    bench = Bench(kept_bytes=2 * len(b"picture"))
    bench.go.set()
    for name in (1, 2, 1, 3, 1, 2):
        await bench.work.made("a", name, bench.toil)
    assert bench.done == 4  # 1, 2, 3, and 2 again: the one used last is kept
    bench.work.close()
