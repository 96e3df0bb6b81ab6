"""Rounds of one fault each: submit, wait for a random moment, inject, wait for the end, check."""

import contextlib
import faulthandler
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product

import httpx

from service.application.generations.retention import SweepStore
from service.application.generations.store_scan import ScanStore
from service.domain.generations.generation import Generation, Status
from service.records.keys import ALL, CONDEMNED, SHARES, index_key, slots_key
from service.records.retention import RedisRetained
from tests.chaos.clients import PLACES, TENANTS, Asking
from tests.chaos.faults import Inject, kinds
from tests.chaos.invariants import broken
from tests.chaos.process import Process
from tests.chaos.stack import Stack

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
#: Each picture of a request has the seed of the one before plus 1.
SEED = 7
PICTURES = (1, 1, 2, 3)

#: Requests for two pictures each, of the bounded tenant's other clients while the fault lasts.
OTHERS = 2

MOMENTS = ("queued", "denoising", "denoising", "decoding", "late")


@dataclass
class Round:
    """One fault and what came of it.

    Attributes:
        tenant: who asked for the generation that the fault met.
        pictures: how many were asked for at once.
        generations: all that were accepted meanwhile.
        refused: requests that found no room within their limits at first.
        recovery_seconds: from the fault to the next sign of life.
    """

    number: int
    store: str
    fault: str
    moment: str
    tenant: str
    pictures: int
    generations: list[str]
    refused: int
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
        self._references: dict[tuple[str, int], bytes] = {}
        self._told: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}

    def prepare(self) -> None:
        """Make the fault-free pictures that all others are compared with."""
        self.stack.wait_until_ready()
        for scheduler, seed in product(SCHEDULERS, range(SEED, SEED + max(PICTURES))):
            [generation_id] = self._accepted(self._asking("free", scheduler, 1, seed))
            generation = self._finish(generation_id)
            assert generation.result is not None, generation.error
            picture = self.stack.store.get(generation.result.image.key)
            self._references[scheduler, seed] = picture

    def run(self, faults: int) -> None:
        """Inject that many faults, one after another."""
        injects, weights = zip(*kinds(self.stack).items(), strict=True)
        for _ in range(faults):
            faulthandler.dump_traceback_later(ROUND_SECONDS, exit=True)
            self.one_round(self._chance.choices(injects, weights)[0])
        faulthandler.cancel_dump_traceback_later()

    def one_round(self, inject: Inject) -> Round:
        """Inject one fault into one generation, and check what comes of it."""
        self._rest()
        scheduler, moment = self._chance.choice(SCHEDULERS), self._chance.choice(MOMENTS)
        tenant, pictures = self._chance.choice(TENANTS), self._chance.choice(PICTURES)
        mine = self._asking(tenant, scheduler, pictures)
        others = [self._asking("bounded", scheduler, 2) for _ in range(OTHERS)]
        generation_id = self._accepted(mine)[0]
        self._wait_for(generation_id, moment)
        begin, before = time.monotonic(), self._length(generation_id)
        sign = _Watch(lambda: self._length(generation_id) > before)
        with ThreadPoolExecutor(1) as pool:
            pressing = pool.submit(self._press, others)
            inject(self.stack, generation_id, self._chance)
            wrong = pressing.result()
        for each in mine.ids:
            self._finish(each)
        end = time.monotonic()
        # Everybody asks again: nothing new for what was accepted, and room for what was refused.
        accepted = [each for asking in (mine, *others) for each in self._accepted(asking)]
        for each in accepted:
            wrong += self._check(self._finish(each))
        told = Round(
            number=len(self.rounds) + 1,
            store=self.stack.kind,
            fault=inject.__name__,
            moment=moment,
            tenant=tenant,
            pictures=pictures,
            generations=accepted,
            refused=sum(asking.refused for asking in (mine, *others)),
            attempts=self.stack.records.get(generation_id).attempt,
            recovery_seconds=round((sign.seen_at or end) - begin, 2),
            total_seconds=round(end - begin, 2),
            broken=[*wrong, *self._unaccounted(), *self._orphans()],
        )
        self.rounds.append(told)
        self._say(
            f"{told.number:4} {told.fault:24} {moment:10} {tenant:8} {pictures} + "
            f"{len(accepted) - pictures} refused {told.refused} attempts {told.attempts} "
            f"recovered {told.recovery_seconds:6.2f} s  {'; '.join(told.broken) or 'ok'}"
        )
        return told

    def _press(self, others: list[Asking]) -> list[str]:
        """Have others ask while the fault lasts; what is wrong with their limits meanwhile."""
        wrong = []
        for asking in others:
            asking.until_answered()
            held: set[str] = set()
            for status in (Status.QUEUED, Status.RUNNING):
                held.update(self.stack.client.zrange(index_key(status, "bounded"), 0, -1))
            if len(held) > PLACES:
                wrong.append(f"{len(held)} are unfinished, where {PLACES} are allowed")
        return wrong

    def _unaccounted(self) -> list[str]:
        """Generations that no client was told of."""
        wrong = []
        for tenant, told in self._told.items():
            there = set(self.stack.client.zrange(index_key(ALL, tenant), 0, -1))
            if there != told:
                wrong.append(f"doubled: of {tenant}, nobody was told of {sorted(there - told)}; "
                             f"lost: {sorted(told - there)}")  # fmt: skip
        return wrong

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
                # Places of a key are looked through when the next one is asked for.
                case "zset" if key not in (CONDEMNED, SHARES) and not key.startswith(
                    ("rq:", slots_key(""))
                ):
                    left += [f"{key}: {member}" for member in client.zrange(key, 0, -1)]
                case "list":
                    left += [f"{key}: {member}" for member in client.lrange(key, 0, -1)]
        return [*left, *client.zrange(CONDEMNED, 0, -1)]

    def _asking(self, tenant: str, scheduler: str, pictures: int, seed: int = SEED) -> Asking:
        hook = {"url": self.stack.receiver.url}
        body = REQUEST | {"scheduler": scheduler, "seed": seed, "webhook": hook}
        return self.stack.asking(tenant, body, pictures)

    def _accepted(self, asking: Asking) -> list[str]:
        """The ids of what is accepted now, or was."""
        ids = asking.until_accepted()
        self._told[asking.tenant].update(ids)
        return ids

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

    def _check(self, generation: Generation) -> list[str]:
        request = generation.request
        reference = self._references[request.scheduler, request.seed]
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
