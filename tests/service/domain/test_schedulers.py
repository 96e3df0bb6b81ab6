"""Schedulers by the names that people know, and what diffusers has of them."""

import inspect
import re
from pathlib import Path

import diffusers
import pytest

from service.domain.models.schedulers import (
    A1111_NAMES,
    HAVING,
    class_of,
    scheduler_named,
    scheduler_violations,
    settings_of,
)

MULTISTEP = "DPMSolverMultistepScheduler"


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("euler", "EulerDiscreteScheduler"),
        ("euler_a", "EulerAncestralDiscreteScheduler"),
        ("Euler a", "EulerAncestralDiscreteScheduler"),
        ("K_EULER_ANCESTRAL", "EulerAncestralDiscreteScheduler"),
        ("dpmpp_2m_karras", f"{MULTISTEP}+karras"),
        ("DPM++ 2M Karras", f"{MULTISTEP}+karras"),
        ("DPM++ 2M SDE Karras", f"{MULTISTEP}+sde+karras"),
        ("KarrasDPM", f"{MULTISTEP}+karras"),
        ("DPMSolverMultistep", MULTISTEP),
        (f"{MULTISTEP}+karras", f"{MULTISTEP}+karras"),
        ("UniPC", "UniPCMultistepScheduler"),
        ("nobody's", "nobody's"),
    ],
)
def test_common_names_are_understood(name: str, scheduler: str) -> None:
    assert scheduler_named(name) == scheduler


def test_every_name_of_the_table_for_newcomers_is_understood() -> None:
    page = (Path(__file__).parents[3] / "docs" / "coming-from.md").read_text()
    rows = [line for line in page.split("## Schedulers")[1].splitlines() if line[:3] == "| `"]
    assert rows
    for row in rows:
        ours, *theirs = (cell.strip() for cell in row.strip("|").split("|"))
        named = re.findall("`(.+?)`", ours)
        for names in (cell.replace("` with `", "_").split(", ") for cell in theirs):
            expected = named if len(named) > 1 else named * len(names)
            for name, scheduler in zip(names, expected, strict=True):
                assert name == "none" or scheduler_named(name.strip("`")) == scheduler


@pytest.mark.parametrize("variant", HAVING)
def test_diffusers_has_what_each_variant_sets(variant: str) -> None:
    for name in HAVING[variant]:
        (setting,) = settings_of(f"{name}+{variant}")
        assert setting in inspect.signature(getattr(diffusers, name).__init__).parameters


def test_names_of_a1111_come_back_as_their_class() -> None:
    for name, theirs in A1111_NAMES.items():
        assert class_of(scheduler_named(theirs)) == name


def test_what_a_scheduler_does_not_have_is_refused() -> None:
    offered = ("EulerAncestralDiscreteScheduler", MULTISTEP)

    (ancestral,) = scheduler_violations("EulerAncestralDiscreteScheduler+karras", offered)
    (unknown,) = scheduler_violations(f"{MULTISTEP}+quick", offered)

    assert ancestral.description == f"+karras goes with {MULTISTEP}"
    assert "+karras, +exponential, +sde" in unknown.description
    assert [*scheduler_violations(f"{MULTISTEP}+karras", offered)] == []
