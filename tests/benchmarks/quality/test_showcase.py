"""The sheets that show nouns beside each other, a method a row."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import showcase
from benchmarks.quality.studio import Sampling, Studio


def test_a_row_a_method_and_a_column_a_noun(tmp_path: Path) -> None:
    command = ["--out", "unused", "--nouns", "tree", "apple", "--methods", "lanczos", "native"]
    shown = showcase.rows(showcase.parser().parse_args(command))
    assert [[job.prompt.text for job in row] for row in shown] == [["a tree", "an apple"]] * 2
    studio = Studio(Sampling(steps=2), cache=tmp_path)
    studio.draw(shown[0])
    enlarged, native = np.split(np.asarray(showcase.sheet(studio, shown, 64), int), 2)
    assert native.shape == (64, 128, 3)
    assert np.ptp(native) > 50
    assert np.abs(native - enlarged).mean() < 3  # the same pictures, by two ways to 64 pixels


def test_all_nouns_by_default_and_none_that_the_model_does_not_know() -> None:
    chosen = showcase.columns(None)
    assert chosen[0].text == "an apple"
    assert len({one.noun for one in chosen}) == len(chosen) == 8
    with pytest.raises(ValueError, match=r"noun is 'fox'; choose from apple, balloon"):
        showcase.columns(["fox"])


def test_a_method_that_there_is_not_is_refused_before_anything_is_drawn() -> None:
    options = showcase.parser().parse_args(["--out", "unused", "--methods", "hidifusion"])
    with pytest.raises(ValueError, match="hidifusion"):
        showcase.rows(options)
