"""Who is begun next."""

import asyncio
from functools import partial

from service.api.turns import Turn, Turns


async def test_lanes_take_turns_and_each_keeps_its_order() -> None:
    begun: list[str] = []
    turns = Turns(at_once=1, seconds=60)

    def ask(name: str) -> None:
        asked[name] = turns.ask(name[0], partial(begun.append, name))

    asked: dict[str, Turn] = {}
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        ask(name)
    while turns.waiting:
        asked[begun[-1]].end()
    assert begun == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_no_more_are_begun_at_a_time_and_ending_twice_ends_one() -> None:
    turns = Turns(at_once=2, seconds=60)
    begun: list[int] = []
    first, *_ = [turns.ask("lane", partial(begun.append, n)) for n in range(5)]
    assert begun == [0, 1]
    first.end()
    first.end()
    assert begun == [0, 1, 2]


async def test_what_is_given_up_is_never_begun() -> None:
    turns = Turns(at_once=1, seconds=60)
    begun: list[int] = []
    first, second, _ = [turns.ask("lane", partial(begun.append, n)) for n in range(3)]
    second.end()
    first.end()
    assert begun == [0, 2]


async def test_one_that_takes_long_holds_up_nobody() -> None:
    turns = Turns(at_once=1, seconds=0.01)
    async with asyncio.timeout(30), turns.taken("a"), turns.taken("b"), turns.taken("a"):
        assert turns.waiting == 0


async def test_one_that_is_cancelled_while_it_waits_leaves_its_lane() -> None:
    turns = Turns(at_once=1, seconds=60)
    first = turns.ask("a", lambda: None)
    waiting = asyncio.create_task(turns.taken("a").__aenter__())
    await asyncio.sleep(0)
    assert turns.waiting == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert turns.waiting == 0
    first.end()
