"""Accepted jobs a second over HTTP and gRPC, against bare RQ on the same Redis."""

import statistics
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.load.processes import helpers
from benchmarks.load.stage import Stage

#: Requests a second of the client that reads one record while others make theirs.
READS_PER_SECOND = 20


def rival(stage: Stage, seconds: float) -> dict[str, Any]:
    """Jobs a second that a loop of RQ's own `enqueue` puts into the same Redis."""
    stage.redis.flushall()
    with helpers("generator", ("rq", stage.redis_url, "--seconds", str(seconds))) as (rq,):
        rq.start()
        result: dict[str, Any] = rq.result()
    return result


def accepting(stage: Stage, kind: str, clients: int, seconds: float) -> dict[str, Any]:
    """Jobs a second that the API accepts from so many clients, while a record is read."""
    stage.redis.flushall()
    generation_id = stage.accept()
    targets = {"http": stage.http_address, "grpc": stage.grpc_address}
    length = ("--seconds", str(seconds))
    load = (kind, targets[kind], "--clients", str(clients), *length)
    pause = ("--pause", str(1 / READS_PER_SECOND))
    read = ("get", targets["http"], "--id", generation_id, *pause, *length)
    with helpers("generator", load, read) as (writer, reader):
        cpu = stage.cpu_seconds()
        for generator in (writer, reader):
            generator.start()
        result, reads = writer.result(), reader.result()
        api_ms = 1000 * (stage.cpu_seconds() - cpu) / result["count"]
    gets = {f"get_{name}": reads[name] for name in ("p50_ms", "p99_ms")}
    return {**result, "api_cores": api_ms / 1000 * result["per_second"], "api_ms": api_ms, **gets}


def compare(stage: Stage, clients: Sequence[int], seconds: float, repeats: int) -> dict[str, Any]:
    """Every kind and number of clients in turn, each beside a run of the rival of its own."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = {
        (kind, count): [] for kind in ("http", "grpc") for count in clients
    }
    rq: list[dict[str, Any]] = []
    rounds = [cell for _ in range(repeats) for cell in cells]
    for kind, count in tqdm(rounds, desc="accepting"):
        rq.append(rival(stage, seconds))
        run = accepting(stage, kind, count, seconds)
        beside = rq[-1]["per_second"]
        ratio = run["per_second"] / beside
        cells[kind, count].append({**run, "rq_per_second": beside, "ratio": ratio})
    return {
        "rq": _summary(rq),
        "cells": [
            {"kind": kind, "clients": count, **_summary(runs)}
            for (kind, count), runs in cells.items()
        ],
    }


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of every figure, and the spread of those that are held to a target."""
    names = [name for name in runs[0] if name != "count"]
    medians = {name: round(statistics.median(run[name] for run in runs), 3) for name in names}
    spreads = {
        f"{name}_spread": [round(edge(run[name] for run in runs), 3) for edge in (min, max)]
        for name in ("per_second", "ratio")
        if name in names
    }
    return {**medians, **spreads}
