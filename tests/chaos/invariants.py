"""What must hold for every accepted generation, whatever was done to the stack meanwhile."""

import hashlib
import io
import json
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
from PIL import Image

from service.domain.artifacts import ArtifactKeys, Manifest
from service.domain.generations.generation import Generation, Status
from tests.chaos.stack import Stack

#: Longest from a generation's end to its webhook, behind a receiver that hung.
WEBHOOK_SECONDS = 60.0

#: Of 255, by which a picture that was drawn together with others may differ from itself alone.
LEVELS = 1

_FINAL = ("succeeded", "failed", "cancelled")

#: One event as the API sends it: its id, its type and its data.
Told = tuple[str, str, dict[str, Any]]


def read_events(stack: Stack, generation: Generation, after: str | None = None) -> list[Told]:
    """A finished generation's events as its tenant's client gets them."""
    headers = stack.headers(generation.tenant) | ({"Last-Event-ID": after} if after else {})
    url = f"{stack.url}/v1/generations/{generation.id}/events"
    text = httpx.get(url, headers=headers, timeout=60).raise_for_status().text
    return list(_parse(text))


def _parse(text: str) -> Iterator[Told]:
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])


def broken(stack: Stack, generation: Generation, reference: bytes) -> list[str]:
    """Every invariant that a generation breaks at its end, in words; empty when all is well.

    Args:
        stack: asked through the API for events, and past the proxies for objects.
        generation: its record.
        reference: the fault-free picture of the same request, drawn alone.
    """
    if not generation.status.final:
        return [f"lost: it does not end, {generation.status.value} in {generation.progress}"]
    events = read_events(stack, generation)
    return [
        *_record(generation),
        *_order(events, generation),
        *_resume(stack, generation, events),
        *_result(stack, generation, reference),
        *_webhook(stack, generation),
    ]


def _record(generation: Generation) -> Iterator[str]:
    if generation.status is not Status.SUCCEEDED:
        yield f"lost: it ended {generation.status.value}, {generation.error}"


def _order(events: list[Told], generation: Generation) -> Iterator[str]:
    kinds = [kind for _, kind, _ in events]
    if [kind for kind in kinds if kind in _FINAL] != [generation.status.value]:
        yield f"not exactly one final event: {kinds}"
    if kinds[:1] != ["queued"] or kinds[-1:] != [generation.status.value]:
        yield f"not from queued to the final event: {kinds}"
    ids = [tuple(int(part) for part in told.split("-")) for told, _, _ in events]
    if not all(first < second for first, second in pairwise(ids)):
        yield "event ids do not rise"
    attempts = [data["attempt"] for _, _, data in events]
    if attempts != sorted(attempts):
        yield f"attempts are not in order: {attempts}"
    if kinds.count("started") != generation.attempt:
        yield f"{kinds.count('started')} of {generation.attempt} attempts were announced"
    for attempt in sorted(set(attempts)):
        mine = [(kind, data) for _, kind, data in events if data["attempt"] == attempt]
        steps = [data["step"] for kind, data in mine if kind == "step"]
        tiles = [data["done"] for kind, data in mine if kind == "tile"]
        yield from (f"gap in {what} of attempt {attempt}: {found}"
                    for what, found in (("steps", steps), ("tiles", tiles))
                    if found and found != [*range(found[0], found[-1] + 1)])  # fmt: skip


def _resume(stack: Stack, generation: Generation, events: list[Told]) -> Iterator[str]:
    middle = len(events) // 2
    if read_events(stack, generation, events[middle][0]) != events[middle + 1 :]:
        yield "what follows a resumed stream differs"


def _result(stack: Stack, generation: Generation, reference: bytes) -> Iterator[str]:
    stored = set(stack.store.keys(ArtifactKeys(generation.id, 0).generation_prefix))
    yield from _manifests(stack, stored)
    result = generation.result
    if result is None:
        return
    if ArtifactKeys(generation.id, result.attempt).manifest not in stored:
        yield "a result without its manifest"
    picture = stack.store.get(result.image.key)
    if hashlib.sha256(picture).hexdigest() != result.image.sha256:
        yield "the picture is not the one in the manifest"
    together = Manifest.model_validate_json(
        stack.store.get(ArtifactKeys(generation.id, result.attempt).manifest)
    ).recipe.get("batch", 1)
    alike = picture == reference or (together > 1 and _difference(picture, reference) <= LEVELS)
    if not alike:
        yield f"another picture than without faults (attempt {result.attempt}, {together} together)"


def _difference(picture: bytes, reference: bytes) -> int:
    """The largest between two pictures of one size, in levels of 255."""
    pictures = (np.asarray(Image.open(io.BytesIO(each))) for each in (picture, reference))
    one, other = (each.astype(int) for each in pictures)
    return int(np.abs(one - other).max())


def _webhook(stack: Stack, generation: Generation) -> Iterator[str]:
    """Its receiver is told, under one id however often, what the record says."""
    deadline = time.monotonic() + WEBHOOK_SECONDS
    while True:
        told = {
            headers["webhook-id"]
            for headers, body in list(stack.receiver.deliveries)
            if json.loads(body)["data"]["id"] == generation.id
        }
        if told or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if told != {f"msg_{generation.id}"}:
        yield f"lost: its webhook came under {sorted(told) or 'no id at all'}"


def _manifests(stack: Stack, stored: Iterable[str]) -> Iterator[str]:
    """No manifest, of whichever attempt, without all that it promises."""
    present = set(stored)
    for key in [key for key in present if key.endswith("/manifest.json")]:
        manifest = Manifest.model_validate_json(stack.store.get(key))
        keys = ArtifactKeys(manifest.generation_id, manifest.attempt)
        pyramid = manifest.pyramid
        promised = {manifest.image.key, manifest.thumbnail.key} | {
            keys.tile(level.level, column, row, pyramid.format)
            for level in pyramid.levels
            for column in range(level.columns)
            for row in range(level.rows)
        }
        if missing := promised - present:
            yield f"a manifest without {len(missing)} of its objects: {sorted(missing)[:3]}"
