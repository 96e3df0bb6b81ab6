"""Rounds of one fault each: submit, wait for a random moment, inject, wait for the end, check."""

import contextlib
import faulthandler
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from ulid import ULID

from service.application.generations.retention import SweepStore
from service.application.generations.store_scan import ScanStore
from service.domain.generations.generation import Generation
from service.records.keys import CONDEMNED, SHARES
from service.records.retention import RedisRetained
from tests.chaos.faults import FAULTS, Inject
from tests.chaos.invariants import broken
from tests.chaos.stack import Process, Stack

#: Longest time from a fault to the end of its generation.
PATIENCE_SECONDS = 240.0

#: A round that takes longer hangs: the run ends, and says where.
ROUND_SECONDS = 900.0

#: Processes of a dead supervisor are gone after this long.
ORPHAN_SECONDS = 10.0

#: What is made: small, but with enough steps and tiles for a fault to fall between two of them.
REQUEST = {"prompt": "a fox", "width": 128, "height": 128, "num_inference_steps": 8}
SCHEDULERS = ("DDIMScheduler", "UniPCMultistepScheduler", "EulerAncestralDiscreteScheduler")

#: Where in its life a generation is when the fault comes.
MOMENTS = ("queued", "denoising", "denoising", "decoding", "late")


@dataclass
class Round:
    """One fault and what came of it; `recovery_seconds` from the fault to the next sign of life."""

    number: int
    store: str
    fault: str
    moment: str
    generation_id: str
    attempts: int
    recovery_seconds: float
    total_seconds: float
    broken: list[str] = field(default_factory=list)


class Chaos:
    """A run of rounds over one stack, every choice drawn from `seed`."""

    def __init__(self, stack: Stack, seed: int, say: Callable[[str], None] = print) -> None:
        self.stack = stack
        self.rounds: list[Round] = []
        self._chance = random.Random(seed)
        self._say = say
        self._references: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the fault-free pictures that all others are compared with."""
        self.stack.wait_until_ready()
        for scheduler in SCHEDULERS:
            generation = self._finish(self._submit(scheduler))
            assert generation.result is not None, generation.error
            self._references[scheduler] = generation.result.image.sha256

    def run(self, faults: int) -> None:
        """Inject that many faults, one after another."""
        kinds, weights = zip(*FAULTS[self.stack.kind].items(), strict=True)
        for _ in range(faults):
            faulthandler.dump_traceback_later(ROUND_SECONDS, exit=True)
            self.one_round(self._chance.choices(kinds, weights)[0])
        faulthandler.cancel_dump_traceback_later()

    def one_round(self, inject: Inject) -> Round:
        """Inject one fault into one generation, and check what comes of it."""
        self._rest()
        scheduler, moment = self._chance.choice(SCHEDULERS), self._chance.choice(MOMENTS)
        generation_id = self._submit(scheduler)
        self._wait_for(generation_id, moment)
        begin, before = time.monotonic(), self._length(generation_id)
        sign = _Watch(lambda: self._length(generation_id) > before)
        inject(self.stack, generation_id, self._chance)
        generation = self._finish(generation_id)
        end = time.monotonic()
        told = Round(
            number=len(self.rounds) + 1,
            store=self.stack.kind,
            fault=inject.__name__,
            moment=moment,
            generation_id=generation_id,
            attempts=generation.attempt,
            recovery_seconds=round((sign.seen_at or end) - begin, 2),
            total_seconds=round(end - begin, 2),
            broken=[*self._check(generation, self._references[scheduler]), *self._orphans()],
        )
        self.rounds.append(told)
        self._say(
            f"{told.number:4} {told.fault:24} {moment:10} attempts {told.attempts} "
            f"recovered {told.recovery_seconds:6.2f} s  {'; '.join(told.broken) or 'ok'}"
        )
        return told

    def left_after_retention(self) -> list[str]:
        """Objects, and entries of Redis about a generation, after retention has ended them all."""
        retained = RedisRetained(self.stack.records)
        for retention in (SweepStore, ScanStore):
            retention(self.stack.store, retained, budget=lambda _: 0, grace_seconds=0)()
        client = self.stack.client
        # What says that the store takes writes is one small object, always the same.
        kept = (key for key in self.stack.store.keys("") if key != "probe/readiness")
        left = [*kept, *client.keys("hidiffusion:generation:*")]
        left += [*client.keys("hidiffusion:events:*"), *client.keys("rq:job:*")]
        for key in client.keys("*"):
            match client.type(key):
                case "zset" if key not in (CONDEMNED, SHARES) and not key.startswith("rq:"):
                    left += [f"{key}: {member}" for member in client.zrange(key, 0, -1)]
                case "list":
                    left += [f"{key}: {member}" for member in client.lrange(key, 0, -1)]
        return [*left, *client.zrange(CONDEMNED, 0, -1)]

    def _submit(self, scheduler: str) -> str:
        """Have a generation accepted, as a client does that tries again under one key."""
        hook = {"url": self.stack.receiver.url}
        body = REQUEST | {"scheduler": scheduler, "seed": 7, "webhook": hook}
        headers = {"Idempotency-Key": str(ULID())}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                url = f"{self.stack.url}/v1/generations"
                reply = httpx.post(url, json=body, headers=headers, timeout=10)
                if reply.is_success:
                    return str(reply.json()["id"])
                assert reply.status_code == 503, reply.text
            assert time.monotonic() < deadline, "nothing is accepted"
            time.sleep(0.1)

    def _wait_for(self, generation_id: str, moment: str) -> None:
        """Wait until the generation is there in its life, or is past it; then a little more."""
        wanted = {
            "queued": ("waiting", 0),
            "denoising": ("denoising", self._chance.randint(1, 7)),
            "decoding": ("decoding", self._chance.randint(1, 6)),
            "late": ("decoding", self._chance.randint(7, 11)),
        }[moment]
        phases = ("waiting", "denoising", "decoding", "waiting_for_store", "done")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            now = self.stack.records.get(generation_id)
            here = (phases.index(now.progress.phase), now.progress.step)
            if now.status.final or here >= (phases.index(wanted[0]), wanted[1]):
                break
            assert time.monotonic() < deadline, f"{generation_id} does not get on"
            time.sleep(0.02)
        time.sleep(self._chance.uniform(0, 0.05))

    def _finish(self, generation_id: str) -> Generation:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (now := self.stack.records.get(generation_id)).status.final:
            if time.monotonic() > deadline:
                break  # the invariants will call it lost
            time.sleep(0.05)
        return now

    def _length(self, generation_id: str) -> int:
        return int(self.stack.client.xlen(f"hidiffusion:events:{generation_id}"))

    def _check(self, generation: Generation, reference: str) -> list[str]:
        deadline = time.monotonic() + 60
        while True:  # the API may be on its way up again
            try:
                return broken(self.stack, generation, reference)
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    return [f"the API does not answer: {error!r}"]
                time.sleep(0.2)

    def _orphans(self) -> list[str]:
        """Processes of the stack whose parent is none of the stack's, after a while."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while True:
            alive = self.stack.processes()
            ours = {process.pid for process in self.stack.own}
            strays = [pid for pid, parent in alive.items() if not {pid, parent} & ours]
            if not strays:
                return []
            if time.monotonic() > deadline:
                return [f"orphan processes: {strays}"]
            time.sleep(0.2)

    def _rest(self) -> None:
        """Revive what died, and wait until a worker is ready for the next round."""
        for worker in [worker for worker in self.stack.workers if not worker.alive]:
            self.stack.replace(worker)
        if not self.stack.api.alive:
            self.stack.api = Process(self.stack, "api")
        if not self.stack.deliverer.alive:
            self.stack.deliverer = Process(self.stack, "webhooks", "deliver")
        self.stack.wait_until_ready()


class _Watch:
    """Notes when something first holds, on a thread."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self.seen_at: float | None = None
        self._holds = holds
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # Redis may be the one that is down
                if self._holds():
                    self.seen_at = time.monotonic()
                    return
            time.sleep(0.02)


def summary(rounds: list[Round]) -> dict[str, Any]:
    """The rounds in figures, by kind of fault and in all."""
    kinds = sorted({done.fault for done in rounds})
    return {
        "faults": len(rounds),
        "jobs": len({done.generation_id for done in rounds}),
        "losses": sum(any("lost" in text for text in done.broken) for done in rounds),
        "duplicates": sum(any("final event" in text for text in done.broken) for done in rounds),
        "broken_invariants": sum(len(done.broken) for done in rounds),
        "attempts": dict(sorted(Counter(done.attempts for done in rounds).items())),
        "recovery_seconds": _recovery(rounds),
        "by_fault": {
            kind: {
                "faults": sum(done.fault == kind for done in rounds),
                "recovery_seconds": _recovery([done for done in rounds if done.fault == kind]),
            }
            for kind in kinds
        },
    }


def _recovery(rounds: list[Round]) -> dict[str, float]:
    seconds = [done.recovery_seconds for done in rounds]
    return {"median": round(statistics.median(seconds), 2), "worst": max(seconds)}
