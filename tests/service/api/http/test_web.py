"""The page's files: complete, self-contained, labelled, and what they were vendored from."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from service.api.http.routes import web
from service.domain.requests.request import GenerationRequest
from tests.service.api.stack import Stack

FOLDER = Path(web.__file__).parents[2] / "web"


class _Page(HTMLParser):
    """Collects what the test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element with this tag."""
        return [attributes for each, attributes in self.attributes if each == tag]


def _own_files(*extensions: str) -> list[Path]:
    files = [path for extension in extensions for path in FOLDER.rglob(f"*.{extension}")]
    return [path for path in files if "vendor" not in path.parts]


def test_every_file_of_the_page_is_served_and_from_here(stack: Stack) -> None:
    response = stack.http.get("/")
    page = _Page(response.text)
    files = [each.get("src") or each["href"] for tag in ("script", "link") for each in page.of(tag)]

    assert "default-src 'self'" in response.headers["content-security-policy"]
    for file in files:
        assert file is not None
        if not file.startswith("data:"):
            assert stack.http.get(file).status_code == 200, file
    for path in [*_own_files("html", "js", "css")]:
        assert "http://" not in path.read_text().replace("http://www.w3.org/2000/svg", ""), path
        assert "https://" not in path.read_text(), path


def test_nothing_is_written_into_the_page_that_the_policy_forbids(stack: Stack) -> None:
    page = _Page(stack.http.get("/").text)

    assert all("src" in each for each in page.of("script"))
    assert page.of("style") == []
    names = {name for _, attributes in page.attributes for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


def test_every_control_has_a_name(stack: Stack) -> None:
    page = _Page(stack.http.get("/").text)

    labelled = {each["for"] for each in page.of("label")}
    for tag in ("input", "select", "textarea"):
        for each in page.of(tag):
            assert each["id"] in labelled or each.get("aria-label"), each


def test_limits_in_the_form_are_the_requests_own(stack: Stack) -> None:
    page = _Page(stack.http.get("/").text)
    fields = GenerationRequest.model_json_schema()["properties"]

    for each in [*page.of("input"), *page.of("textarea")]:
        if each.get("name") in fields:
            field = fields[each["name"]]
            rule = field.get("anyOf", [field])[0]
            assert each.get("min") == _text(rule.get("minimum")), each
            assert each.get("max") == _text(rule.get("maximum")), each
            assert each.get("maxlength") == _text(rule.get("maxLength")), each


def _text(limit: float | None) -> str | None:
    return None if limit is None else f"{limit:g}" if limit < 1e6 else str(limit)


def test_scripts_and_page_agree_on_names(stack: Stack) -> None:
    ids = {attributes.get("id") for _, attributes in _Page(stack.http.get("/").text).attributes}
    scripts = "".join(path.read_text() for path in _own_files("js"))

    assert set(re.findall(r'byId\("([\w-]+)"\)', scripts)) <= ids
    drawings = set(re.findall(r'<symbol id="(\w+)"', (FOLDER / "icons.svg").read_text()))
    assert set(re.findall(r'(?:icon|iconButton|button)\("(\w+)"', scripts)) <= drawings


def test_code_on_the_page_names_the_port_that_grpc_has(stack: Stack) -> None:
    metas = {
        each.get("name"): each.get("content") for each in _Page(stack.http.get("/").text).of("meta")
    }

    assert metas["grpc-port"] == stack.endpoints.grpc_address.rpartition(":")[2]


def test_vendored_files_are_what_their_note_says() -> None:
    note = (FOLDER / "vendor" / "README.md").read_text()
    noted = dict(re.findall(r"\| `([^`]+)` \| .* \| `([0-9a-f]{64})` \|", note))
    files = [path for path in (FOLDER / "vendor").rglob("*") if path.is_file()]

    digests = {
        str(path.relative_to(FOLDER / "vendor")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "README.md"
    }
    assert noted == digests


def test_files_stay_short() -> None:
    for path in _own_files("js", "css", "html"):
        assert len(path.read_text().splitlines()) <= 300, path


def test_unknown_file_is_a_problem_document(stack: Stack) -> None:
    assert stack.http.get("/web/none.js").json()["type"] == "/problems/not-found"
