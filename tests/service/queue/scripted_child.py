"""A pipeline process without pipelines: it does what the prompt says, over the real channel.

A prompt is one word, and what it does in each attempt:

    paint     three steps, then success
    slow      steps until it is cancelled
    stuck     one step, then deaf to everything
    refuse    a failure of its own
    doom      killed by signal 9 at once
    stumble   killed in the first attempt, `paint` in the next
    quit      exit with code 3
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from service.domain.artifacts import ArtifactRef, Manifest, Pyramid
from service.domain.events import Cancelled, Event, Failed, Stepped, Succeeded
from service.domain.generation import Failure, Generation
from service.queue.channel import (
    Cancel,
    Channel,
    ChannelClosed,
    Happened,
    Run,
    Warm,
    die_with_parent,
)

STEP_SECONDS = 0.02


def main() -> None:
    die_with_parent()
    channel = Channel.from_fd(int(sys.argv[-1]))
    with Path(os.environ["SCRIPTED_CHILD_LOG"]).open("a") as log:
        log.write(f"{os.getpid()}\n")
    channel.send(Warm(models=tuple(os.environ["SCRIPTED_CHILD_MODELS"].split(",")), loads=1))
    try:
        while isinstance(message := channel.receive(), Run | Cancel):
            if isinstance(message, Run):
                perform(channel, message.generation)
    except ChannelClosed:
        pass


def perform(channel: Channel, generation: Generation) -> None:
    attempt = generation.attempt

    def say(event: Event) -> None:
        channel.send(Happened(generation_id=generation.id, event=event))

    def step(number: int) -> None:
        say(Stepped(attempt=attempt, at=now(), step=number, total=3, eta_seconds=0.0))

    match generation.request.prompt:
        case "doom":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stumble" if attempt == 1:
            step(1)
            os.kill(os.getpid(), signal.SIGKILL)
        case "quit":
            sys.exit(3)
        case "refuse":
            error = Failure(reason="OUT_OF_MEMORY", detail="no room")
            say(Failed(attempt=attempt, at=now(), error=error))
        case "stuck":
            step(1)
            time.sleep(600)
        case "slow":
            number = 0
            while not isinstance(channel.receive(STEP_SECONDS), Cancel):
                number += 1
                step(number)
            say(Cancelled(attempt=attempt, at=now()))
        case _:
            for number in (1, 2, 3):
                step(number)
            say(Succeeded(attempt=attempt, at=now(), manifest=manifest(generation)))


def manifest(generation: Generation) -> Manifest:
    nothing = ArtifactRef(key="nothing", media_type="image/png", bytes=0, sha256="")
    return Manifest(
        generation_id=generation.id,
        attempt=generation.attempt,
        width=8,
        height=8,
        image=nothing,
        thumbnail=nothing,
        pyramid=Pyramid(tile_size=8, overlap=0, format="png", levels=()),
        recipe={"seed": generation.request.seed},
        created_at=now(),
    )


def now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
