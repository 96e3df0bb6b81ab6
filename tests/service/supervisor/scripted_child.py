"""A pipeline process without pipelines: it does what the prompt says, over the real channel.

A prompt is one word, and what it does in each attempt:

    paint     three steps, then success
    linger    steps for a second, then success
    develop   in the first attempt three steps, a free device, and success once something else has
              run; `paint` in the next
    fix       likewise, but deaf to being cancelled
    dry       three steps, a free device, and success after two seconds
    slow      steps until it is cancelled
    stuck     one step, then deaf to everything
    refuse    a failure of its own
    shelve    waits for the store for two seconds, then success
    doom      killed by signal 9 at once
    stumble   killed in the first attempt, `paint` in the next
    stall     `slow` in the first attempt, `paint` in the next
    freeze    stopped by a signal after a step of the first attempt, `paint` in the next
    babble    no message at all in the first attempt, `paint` in the next
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from service.channel import (
    Cancel,
    Channel,
    ChannelClosed,
    DeviceFree,
    Happened,
    Message,
    Run,
    Warm,
    die_with_parent,
)
from service.domain.generations.events import Cancelled, Event, Failed, Succeeded, WaitingForStore
from service.domain.generations.generation import Failure, Generation
from tests.generations import make_manifest, now
from tests.generations import step as make_step

STEP_SECONDS = 0.02

DRY_SECONDS = 2.0


def main() -> None:
    die_with_parent()
    channel = Channel.from_fd(int(sys.argv[-1]))
    with Path(os.environ["SCRIPTED_CHILD_LOG"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    models = tuple(os.environ["SCRIPTED_CHILD_MODELS"].split(","))
    capacity = os.environ.get("SCRIPTED_CHILD_CAPACITY")
    capacities = {} if capacity is None else dict.fromkeys(models, int(capacity))
    channel.send(Warm(models=models, loads=1, capacities=capacities))
    with contextlib.suppress(ChannelClosed):
        serve(channel)


def serve(channel: Channel) -> None:
    drawn: list[Generation] = []
    while True:
        dry = any(one.request.prompt == "dry" for one in drawn)
        match message := channel.receive(DRY_SECONDS if dry else None):
            case Run():
                for generation in (message.generation, *message.mates):
                    perform(channel, generation)
                    succeed(channel, drawn)
                    if is_drawn_first(generation):
                        drawn.append(generation)
            case Cancel() if message.generation_id in hearing(drawn):
                drawn.clear()
                event = Cancelled(attempt=message.attempt, at=now())
                channel.send(Happened(generation_id=message.generation_id, event=event))
            case Cancel():
                pass
            case None:
                succeed(channel, drawn)
            case _:
                return


def is_drawn_first(generation: Generation) -> bool:
    prompt = generation.request.prompt
    return prompt == "dry" or (prompt in {"develop", "fix"} and generation.attempt == 1)


def concerns(message: Message | None, generation: Generation) -> bool:
    return isinstance(message, Cancel) and message.generation_id == generation.id


def hearing(drawn: list[Generation]) -> set[str]:
    return {one.id for one in drawn if one.request.prompt != "fix"}


def succeed(channel: Channel, drawn: list[Generation]) -> None:
    for one in drawn:
        manifest = make_manifest(one, one.attempt)
        event = Succeeded(attempt=one.attempt, at=now(), manifest=manifest)
        channel.send(Happened(generation_id=one.id, event=event))
    drawn.clear()


def perform(channel: Channel, generation: Generation) -> None:
    attempt = generation.attempt

    def say(event: Event) -> None:
        channel.send(Happened(generation_id=generation.id, event=event))

    def step(number: int) -> None:
        say(make_step(attempt, number))

    match generation.request.prompt:
        case "doom":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stumble" | "freeze" as how if attempt == 1:
            step(1)
            os.kill(os.getpid(), signal.SIGKILL if how == "stumble" else signal.SIGSTOP)
        case "babble" if attempt == 1:
            os.write(int(sys.argv[-1]), b"Loading...\n")
        case "shelve":
            waiting = WaitingForStore(attempt=attempt, at=now(), reason="STORE_UNAVAILABLE")
            say(waiting)
            time.sleep(2)
            say(Succeeded(attempt=attempt, at=now(), manifest=make_manifest(generation, attempt)))
        case "refuse":
            error = Failure(reason="OUT_OF_MEMORY", detail="no room")
            say(Failed(attempt=attempt, at=now(), error=error))
        case "stuck":
            step(1)
            time.sleep(600)
        case "slow" | "stall" if attempt == 1:
            number = 0
            while not concerns(channel.receive(STEP_SECONDS), generation):
                number += 1
                step(number)
            say(Cancelled(attempt=attempt, at=now()))
        case _ if is_drawn_first(generation):
            for number in range(3):
                step(number + 1)
            channel.send(DeviceFree(generation_id=generation.id, attempt=attempt))
        case prompt:
            for number in range(50 if prompt == "linger" else 3):
                step(number + 1)
                time.sleep(STEP_SECONDS if prompt == "linger" else 0)
            say(Succeeded(attempt=attempt, at=now(), manifest=make_manifest(generation, attempt)))


if __name__ == "__main__":
    main()
