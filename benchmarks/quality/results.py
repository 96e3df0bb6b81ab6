"""From pictures to the document: measures of each picture, estimates of each method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.quality import measures, statistics
from benchmarks.quality.enlarge import enlarge
from benchmarks.quality.plan import DIRECT, Job, Part, Variant
from benchmarks.quality.studio import Studio
from models.train.trainings.classifier import Classifier, load_classifier

Floats = NDArray[np.float64]
Draws = list[NDArray[np.intp]]


@dataclass(frozen=True)
class Reference:
    """A native picture, and what its enlargement measures."""

    native: measures.Pixels
    objects: int
    detail: float

    @classmethod
    def of(cls, studio: Studio, job: Job, part: Part) -> Reference:
        """Measure a native picture, enlarged to the size of a part of the bench."""
        native = studio.picture(job)
        enlarged = enlarge(native, part.size)
        return cls(
            native=native,
            objects=measures.count_objects(enlarged, native),
            detail=measures.detail(enlarged),
        )


@dataclass(frozen=True)
class Columns:
    """The measures of one method: one entry a picture, in the order of the part's jobs."""

    objects: Floats
    agreement: Floats
    correct: Floats
    detail: Floats
    features: Floats

    def more_objects(self, references: list[Reference]) -> Floats:
        """Tell of each picture whether it has more objects than its reference: 0 or 1."""
        wanted = np.array([reference.objects for reference in references])
        more: Floats = (self.objects > wanted).astype(np.float64)
        return more


def measure_part(studio: Studio, part: Part) -> dict[str, Any]:
    """Measure every picture of one size and estimate every method.

    Args:
        studio: Has the pictures.
        part: The plan of this size.

    Returns:
        A document: what was compared, and for each method its estimates.
    """
    classifier, names = load_classifier()
    jobs = part.references()
    references = [Reference.of(studio, job, part) for job in tqdm(jobs, desc="references")]
    _, wanted = measures.classify(classifier, [reference.native for reference in references])
    columns = {
        variant: _columns(studio, part, variant, references, (classifier, names))
        for variant in part.variants
    }
    draws = statistics.resamples([job.prompt.noun for job in jobs])
    rows = {
        str(variant): _estimates(column, references, wanted, draws)
        for variant, column in columns.items()
    }
    if DIRECT in columns:
        for variant in columns.keys() - {DIRECT}:
            rows[str(variant)]["minus_direct"] = _differences(
                columns[variant], columns[DIRECT], references, draws
            )
    return {
        "prompts": len(part.prompts),
        "nouns": len({prompt.noun for prompt in part.prompts}),
        "seeds": part.seeds,
        "pictures_each": len(jobs),
        "methods": rows,
    }


def _columns(
    studio: Studio,
    part: Part,
    variant: Variant,
    references: list[Reference],
    classifier: tuple[Classifier, list[str]],
) -> Columns:
    network, names = classifier
    jobs = part.jobs(variant)
    pictures = (studio.picture(job) for job in jobs)
    table = []
    for picture, job, reference in zip(
        tqdm(pictures, total=len(jobs), desc=f"{variant} {part.size}"),
        jobs,
        references,
        strict=True,
    ):
        logits, features = measures.classify(network, [picture])
        numbers = (
            measures.count_objects(picture, reference.native),
            measures.agreement(picture, reference.native),
            names[int(logits[0].argmax())] == job.prompt.noun,
            measures.detail(picture),
        )
        table.append(np.concatenate([np.array(numbers, np.float64), features[0]]))
    values = np.stack(table)
    objects, agreement, correct, detail = values[:, :4].T
    return Columns(objects, agreement, correct, detail, values[:, 4:])


def _estimates(
    column: Columns, references: list[Reference], wanted: Floats, draws: Draws
) -> dict[str, Any]:
    details = np.array([reference.detail for reference in references])

    def distance(rows: NDArray[np.intp]) -> float:
        return statistics.frechet(column.features[rows], wanted[rows])

    estimates = {
        "objects": statistics.mean(column.objects, draws),
        "more_objects": statistics.mean(column.more_objects(references), draws),
        "agreement": statistics.mean(column.agreement, draws),
        "accuracy": statistics.mean(column.correct, draws),
        "detail": statistics.mean(column.detail, draws),
        "detail_ratio": statistics.ratio(column.detail, details, draws),
        "frechet": statistics.bootstrap(distance, draws, len(wanted)),
    }
    return {name: estimate.rounded() for name, estimate in estimates.items()}


def _differences(
    column: Columns, direct: Columns, references: list[Reference], draws: Draws
) -> dict[str, Any]:
    """Estimate what a method changes, picture by picture of the same prompt and seed."""
    readings: dict[str, Callable[[Columns], Floats]] = {
        "more_objects": lambda one: one.more_objects(references),
        "agreement": lambda one: one.agreement,
        "accuracy": lambda one: one.correct,
        "detail": lambda one: one.detail,
    }
    return {
        name: statistics.mean(reading(column) - reading(direct), draws).rounded()
        for name, reading in readings.items()
    }
