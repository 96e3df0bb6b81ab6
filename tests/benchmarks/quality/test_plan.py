"""What the quality bench draws, and that it draws nothing twice."""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.__main__ import main, with_earlier
from benchmarks.quality.plan import (
    DIRECT,
    NATIVE_SIZE,
    Job,
    Part,
    Prompt,
    Size,
    Variant,
    prompts,
)
from benchmarks.quality.studio import Sampling, Studio, batches


def test_there_are_nine_prompts_a_noun_and_the_first_name_every_noun_once() -> None:
    every = prompts()
    nouns = {prompt.noun for prompt in every}
    assert len(set(every)) == len(every) == 9 * len(nouns)
    assert {prompt.noun for prompt in prompts(len(nouns))} == nouns


@pytest.mark.parametrize("count", [0, 100_000])
def test_a_number_of_prompts_that_there_is_not_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=str(count)):
        prompts(count)


def test_sizes_and_methods_are_read_as_they_are_written() -> None:
    assert Size.parse("1024x512") == Size(1024, 512)
    assert Size.parse("768") == Size(768, 768)
    swept = Variant.parse("hidiffusion:t1_ratio=0.7,window_grid=native")
    assert swept == Variant("hidiffusion", (("t1_ratio", 0.7), ("window_grid", "native")))
    assert Variant.parse(str(swept)) == swept


@pytest.mark.parametrize("text", ["", "big", "500", "128", "512x"])
def test_a_size_that_the_model_cannot_draw_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        Size.parse(text)


def test_batches_hold_one_size_and_method() -> None:
    part = Part(Size(1024, 1024), prompts(3), 2, (DIRECT, Variant("hidiffusion")))
    groups = list(batches(part.sampled()))
    assert [len(group) for group in groups] == [6] + [1] * 12
    assert list(itertools.chain(*groups)) == list(part.sampled())


def test_a_picture_is_drawn_once(tmp_path: Path) -> None:
    job = Job(Prompt("apple", "a red apple"), 3, NATIVE_SIZE, DIRECT)
    studio = Studio(Sampling(steps=2), cache=tmp_path)
    studio.draw([job, job])
    assert studio.picture(job).shape == (256, 256, 3)
    drawn = studio.file(job).stat().st_mtime_ns
    again = Studio(Sampling(steps=2), cache=tmp_path)
    again.draw([job])
    assert again.file(job).stat().st_mtime_ns == drawn
    other = Studio(Sampling(steps=3), cache=tmp_path)
    assert not other.file(job).exists()


def test_the_baseline_is_the_native_picture_on_white(tmp_path: Path) -> None:
    prompt = Prompt("apple", "a red apple")
    studio = Studio(Sampling(steps=2), cache=tmp_path)
    studio.draw([Job(prompt, 0, NATIVE_SIZE, DIRECT)])
    wide = studio.picture(Job(prompt, 0, Size(1024, 512), Variant("lanczos")))
    assert wide.shape == (512, 1024, 3)
    assert np.all(wide[:, :256] == 255)


def test_the_small_upscaler_is_a_baseline_with_options(tmp_path: Path) -> None:
    prompt = Prompt("apple", "a red apple")
    job = Job(prompt, 0, Size(512, 512), Variant.parse("inf-dit:num_inference_steps=1"))
    studio = Studio(Sampling(steps=2), cache=tmp_path)
    studio.draw([Job(prompt, 0, NATIVE_SIZE, DIRECT)])
    enlarged = studio.picture(job)
    filtered = studio.picture(Job(prompt, 0, job.size, Variant("lanczos")))
    assert enlarged.shape == filtered.shape == (512, 512, 3)
    assert 0 < np.abs(enlarged.astype(int) - filtered).mean() < 8


def test_an_unknown_method_is_named_before_anything_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.quality", "--methods", "magic"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "'magic'" in capsys.readouterr().err


def test_sizes_of_an_earlier_run_stay_if_it_drew_in_the_same_way(tmp_path: Path) -> None:
    file = tmp_path / "quality.json"
    large = {"prompts": 8, "methods": {"direct": 1}}
    small = {"prompts": 24, "methods": {"direct": 2, "lanczos": 3}}
    how = {"model": "a", "sampling": {"steps": 5}}
    first = how | {"sizes": {"1024x512": large, "512x512": small}}
    assert with_earlier(first, file) == first
    file.write_text(json.dumps(first))

    again = {"prompts": 24, "methods": {"lanczos": 4, "inf-dit": 5}}
    merged = with_earlier(how | {"sizes": {"512x512": again}}, file)["sizes"]
    assert [*merged] == ["512x512", "1024x512"]
    assert merged["1024x512"] == large
    assert merged["512x512"]["methods"] == {"direct": 2, "lanczos": 4, "inf-dit": 5}
    fewer = {"prompts": 12, "methods": {"inf-dit": 6}}
    assert with_earlier(how | {"sizes": {"512x512": fewer}}, file)["sizes"]["512x512"] == fewer
    for other in ({"model": "b"}, {"sampling": {"steps": 6}}):
        unlike = how | other | {"sizes": {"512x512": again}}
        assert with_earlier(unlike, file)["sizes"] == {"512x512": again}


def test_the_committed_result_says_how_much_was_compared() -> None:
    results = Path(__file__).parents[3] / "benchmarks" / "results" / "quality.json"
    document = json.loads(results.read_text())
    assert {"steps", "scheduler", "guidance_scale", "precision"} <= set(document["sampling"])
    for part in document["sizes"].values():
        assert part["pictures_each"] == part["prompts"] * part["seeds"]
        assert {"direct", "hidiffusion", "lanczos"} <= set(part["methods"])
        assert part["methods"]["lanczos"]["more_objects"]["value"] == 0
