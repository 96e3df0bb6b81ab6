"""A pipeline process without pipelines: it does what the prompt says, over the real channel.

A prompt is one word, and what it does in each attempt:

    paint     three steps, then success
    linger    steps for a second, then success
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

import os
import signal
import sys
import time
from pathlib import Path

from service.channel import (
    Cancel,
    Channel,
    ChannelClosed,
    Happened,
    Run,
    Warm,
    die_with_parent,
)
from service.domain.generations.events import Cancelled, Event, Failed, Succeeded, WaitingForStore
from service.domain.generations.generation import Failure, Generation
from tests.generations import make_manifest, now
from tests.generations import step as make_step

STEP_SECONDS = 0.02


def main() -> None:
    die_with_parent()
    channel = Channel.from_fd(int(sys.argv[-1]))
    with Path(os.environ["SCRIPTED_CHILD_LOG"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    models = tuple(os.environ["SCRIPTED_CHILD_MODELS"].split(","))
    capacity = os.environ.get("SCRIPTED_CHILD_CAPACITY")
    capacities = {} if capacity is None else dict.fromkeys(models, int(capacity))
    channel.send(Warm(models=models, loads=1, capacities=capacities))
    try:
        while isinstance(message := channel.receive(), Run | Cancel):
            if isinstance(message, Run):
                for generation in (message.generation, *message.mates):
                    perform(channel, generation)
    except ChannelClosed:
        pass


def perform(channel: Channel, generation: Generation) -> None:
    attempt = generation.attempt

    def say(event: Event) -> None:
        channel.send(Happened(generation_id=generation.id, event=event))

    def step(number: int) -> None:
        say(make_step(attempt, number))

    match generation.request.prompt:
        case "doom":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stumble" if attempt == 1:
            step(1)
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze" if attempt == 1:
            step(1)
            os.kill(os.getpid(), signal.SIGSTOP)
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
            while not isinstance(channel.receive(STEP_SECONDS), Cancel):
                number += 1
                step(number)
            say(Cancelled(attempt=attempt, at=now()))
        case prompt:
            for number in range(50 if prompt == "linger" else 3):
                step(number + 1)
                time.sleep(STEP_SECONDS if prompt == "linger" else 0)
            say(Succeeded(attempt=attempt, at=now(), manifest=make_manifest(generation, attempt)))


if __name__ == "__main__":
    main()
