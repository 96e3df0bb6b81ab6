"""The client in TypeScript that docs/api/http.md shows: types made, checked, compiled and run."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import chromium, visitor
from tests.clients.conftest import Node
from tests.service.api.http.images.test_images import working
from tests.service.api.painter import Painter
from tests.service.api.stack import Stack
from tests.service.api.web.screen import Screen
from tests.service.api.web.snippets import copied, recipe_with_everything

DOCS = Path(__file__).parents[2] / "docs" / "api"

#: What the types must refuse; a line that they accept is an error itself.
WRONG = """
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const client = createClient<paths>();
// @ts-expect-error: no such field
const request: components["schemas"]["GenerationRequest"] = { prompt: "a fox", steps: 3 };
// @ts-expect-error: no such path
await client.GET("/v1/nothing");
// @ts-expect-error: a text is no number
await client.POST("/v1/generations", { body: { prompt: "a fox", width: "512" } });
"""

CONFIG = {
    "compilerOptions": {
        "strict": True,
        "target": "es2022",
        "module": "nodenext",
        "types": ["node"],
        "skipLibCheck": True,
    },
    "include": ["*.ts"],
}


def shown(page: str, language: str) -> str:
    """The first code in a language on a page of the documentation."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (code, *_) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(code)


def compile_client(javascript: Node, stack: Stack, code: str) -> None:
    """Write the client as generate.ts; check and compile all TypeScript that is in the folder."""
    folder = javascript.folder
    (folder / "openapi.json").write_text(stack.http.get("/openapi.json").text)
    command = str(javascript.package("openapi-typescript") / "bin" / "cli.js")
    made = javascript.run(command, "openapi.json", "-o", "schema.d.ts")
    assert made.returncode == 0, made.stderr
    (folder / "generate.ts").write_text(code)
    (folder / "tsconfig.json").write_text(json.dumps(CONFIG))
    checked = javascript.run(str(javascript.package("typescript") / "bin" / "tsc"))
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_the_client_that_is_shown_type_checks_and_runs(javascript: Node, stack: Stack) -> None:
    folder = javascript.folder
    (folder / "wrong.ts").write_text(WRONG)
    compile_client(javascript, stack, shown("http.md", "typescript"))
    with working(stack, lambda each: Painter(stack.worker, each).finish()):
        ran = javascript.run("generate.js", HIDIFFUSION_URL=stack.endpoints.http_url)
    assert ran.returncode == 0, ran.stderr
    assert "1024 by 1024" in ran.stdout
    assert _size(folder) == (1024, 1024)


@pytest.mark.slow
def test_the_client_that_the_page_writes_makes_the_same_picture(
    javascript: Node, stack: Stack
) -> None:
    first = Painter(stack.worker, recipe_with_everything(stack))
    first.finish()
    grant = ["clipboard-read", "clipboard-write"]
    with (
        chromium() as browser,
        visitor(browser, stack.endpoints.http_url, permissions=grant) as context,
    ):
        screen = Screen(context.new_page())
        screen.open(first.generation.id)
        code = copied(screen, "TypeScript")
    compile_client(javascript, stack, code)
    with working(stack, lambda each: Painter(stack.worker, each).finish()):
        ran = javascript.run("generate.js")
    assert ran.returncode == 0, ran.stderr
    latest, _ = stack.records.list(status=None, cursor=None, limit=2).generations
    assert latest.request == first.generation.request
    image = stack.http.get(f"/v1/generations/{first.generation.id}/image").content
    assert (javascript.folder / "picture.png").read_bytes() == image


@pytest.mark.slow
def test_the_client_of_grpc_that_is_shown_runs(javascript: Node, stack: Stack) -> None:
    (javascript.folder / "generate.js").write_text(shown("grpc.md", "javascript"))
    (javascript.folder / "proto").symlink_to(DOCS.parents[1] / "proto")
    with working(stack, partial(_paint, stack)):
        ran = javascript.run("generate.js", HIDIFFUSION_GRPC=stack.endpoints.grpc_address)
    assert ran.returncode == 0, ran.stderr
    assert [line for line in ran.stdout.split() if line != "tile"] == [
        *("queued", "started", "step", "succeeded")
    ]
    assert _size(javascript.folder) == (1024, 1024)


def _size(folder: Path) -> tuple[int, int]:
    with Image.open(folder / "frog.png") as picture:
        return picture.size


def _paint(stack: Stack, generation_id: str) -> None:
    painter = Painter(stack.worker, generation_id)
    painter.step(1, 1)
    painter.finish()
