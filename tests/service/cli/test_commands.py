"""Commands about pictures against a running service whose worker is played."""

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from service.cli.app import app
from service.domain.generations.generation import Status
from service.settings import StoreSettings
from tests.service.api.stack import Stack, running_stack


@pytest.fixture
def stack(redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "store").mkdir()
    store = StoreSettings(url=(tmp_path / "store").as_uri())
    with running_stack(redis_url, store) as running:
        yield running


@contextmanager
def _painting(stack: Stack) -> Iterator[None]:
    """A worker that makes whatever is asked for."""
    stream, stop = io.BytesIO(), threading.Event()
    Image.new("RGB", (8, 8)).save(stream, "PNG")

    def paint() -> None:
        while not stop.wait(0.02):
            page = stack.records.list(status=Status.QUEUED, cursor=None, limit=9)
            for generation in page.generations:
                stack.worker.succeed(stack.worker.start(generation.id), stream.getvalue())

    painter = threading.Thread(target=paint)
    painter.start()
    try:
        yield
    finally:
        stop.set()
        painter.join()


def _run(stack: Stack, *arguments: str) -> Result:
    environment = {"HIDIFFUSION_SERVER": stack.endpoints.http_url, "COLUMNS": "80"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def _picture(file: Path, text: str = "") -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (256, 128)).save(file, pnginfo=info)
    return file


def test_several_pictures_with_all_that_guides_them(stack: Stack, tmp_path: Path) -> None:
    map_, style = _picture(tmp_path / "map.png"), _picture(tmp_path / "style,1.png")
    with _painting(stack):
        made = _run(
            stack,
            *("generate", "a fox", "-n", "2", "--seed", "7", "--output", str(tmp_path / "fox.png")),
            *("--lora", "ink=0.5", "--lora", "oil", "--control", f"canny={map_},0.25"),
            *("--image-prompt", str(style), "--option", "t1_ratio=0.5"),
            *("--option", "window_grid=native", "--method", "hidiffusion"),
        )

    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in tmp_path.glob("fox*")) == ["fox-1.png", "fox-2.png"]
    first, second = stack.records.list(status=None, cursor=None, limit=9).generations[::-1]
    request = first.request
    assert (request.seed, second.request.seed) == (7, 8)
    assert [(each.name, each.weight) for each in request.loras] == [("ink", 0.5), ("oil", 1.0)]
    assert [(each.name, each.scale) for each in request.controls] == [("canny", 0.25)]
    assert request.image_prompt is not None
    assert request.method_options["t1_ratio"] == 0.5
    assert request.method_options["window_grid"] == "native"
    assert f"{stack.endpoints.http_url}/#/{first.id}" in made.output


def test_a_recipe_is_taken_from_a_picture_and_changed(stack: Stack, tmp_path: Path) -> None:
    source = _picture(tmp_path / "old.png", "a fox\nSteps: 9, Seed: 11, Size: 256x256")
    with _painting(stack):
        made = _run(
            *(stack, "generate", "--from", str(source), "--seed", "12"),
            *("--output", str(tmp_path / "new.png")),
        )

    assert made.exit_code == 0, made.output
    (generation,) = stack.records.list(status=None, cursor=None, limit=9).generations
    request = generation.request
    assert (request.prompt, request.num_inference_steps, request.seed) == ("a fox", 9, 12)
    refused = _run(stack, "generate", "--from", str(_picture(tmp_path / "plain.png")))
    assert refused.exit_code == 1
    assert "Traceback" not in refused.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--lora", "ink=much"), "--lora"),
        (("--control", "canny"), "NAME=FILE"),
        (("--control", "canny=none.png"), "none.png"),
        (("--option", "t1_ratio"), "NAME=VALUE"),
        (("-n", "17"), "-n"),
    ],
)
def test_options_that_cannot_be_read_are_named(arguments: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(app, ["generate", "a fox", *arguments])
    assert result.exit_code == 2
    assert told in re.sub(r"\x1b\[[\d;]*m", "", result.output)


def test_generations_are_listed_read_fetched_stopped_and_deleted(
    stack: Stack, tmp_path: Path
) -> None:
    prompt = "a fox " + "in the snow " * 12
    first, second = stack.submit(prompt=prompt), stack.submit()
    listed = _run(stack, "list", "--limit", "1")
    assert second in listed.output
    assert first not in listed.output
    (record,) = map(json.loads, _run(stack, "list", "--json", "--limit", "1").output.splitlines())
    assert record["id"] == second
    assert json.loads(_run(stack, "get", first).output)["request"]["prompt"] == prompt

    target = tmp_path / "fox.png"
    early = _run(stack, "download", first, "-o", str(target))
    assert early.exit_code == 1
    assert early.output.count("queued") == 1  # an error is told once
    assert f"{second}: cancelled" in _run(stack, "cancel", second).output
    with _painting(stack):
        assert _run(stack, "watch", first, "-o", str(target)).exit_code == 0
    assert target.stat().st_size > 0
    target.unlink()
    assert str(target) in _run(stack, "download", first, "-o", str(target)).output
    assert target.is_file()

    kept = CliRunner().invoke(
        app, ["delete", first], input="n\n", env={"HIDIFFUSION_SERVER": stack.endpoints.http_url}
    )
    assert kept.exit_code == 1
    assert _run(stack, "delete", "-y", first, second).exit_code == 0
    assert stack.count() == 0
    assert _run(stack, "get", first).exit_code == 1


def test_without_a_service_one_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDIFFUSION_API__HTTP_PORT", "1")
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 1
    assert "hidiffusion up" in result.output


def test_version_and_short_help() -> None:
    told = CliRunner().invoke(app, ["--version"]).output
    assert re.fullmatch(r"hidiffusion \d+\.\d+\S*\n", told)
    for command in ([], ["generate"], ["models", "add"]):
        assert "Usage" in CliRunner().invoke(app, [*command, "-h"]).output


def test_no_name_of_a_model_is_cut(stack: Stack) -> None:
    listed = _run(stack, "models").output
    assert "emoji" in listed
    assert "\u2026" not in listed
