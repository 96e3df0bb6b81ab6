"""The page: complete, self-contained, and labelled."""

import re
from html.parser import HTMLParser

from tests.service.api.stack import Stack


class _Page(HTMLParser):
    """Collects what the test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))


def test_every_file_of_the_page_is_served_and_from_here(stack: Stack) -> None:
    response = stack.http.get("/")
    page = _Page(response.text)
    files = [
        attributes.get("src") or attributes["href"]
        for tag, attributes in page.attributes
        if tag in {"script", "link"}
    ]

    assert "default-src 'self'" in response.headers["content-security-policy"]
    for file in files:
        assert file is not None
        if not file.startswith("data:"):
            assert stack.http.get(file).status_code == 200, file
    assert "http://" not in response.text
    assert "https://" not in response.text


def test_every_control_has_a_label(stack: Stack) -> None:
    page = _Page(stack.http.get("/").text)

    controls = {
        attributes["id"] for tag, attributes in page.attributes if tag in {"input", "select"}
    }
    labels = {attributes["for"] for tag, attributes in page.attributes if tag == "label"}
    assert controls == labels


def test_script_and_page_agree_on_names(stack: Stack) -> None:
    page = _Page(stack.http.get("/").text)
    script = stack.http.get("/web/page.js").text

    ids = {attributes["id"] for _, attributes in page.attributes if "id" in attributes}
    assert set(re.findall(r'element\("(\w+)"\)', script)) <= ids


def test_page_names_paths_that_exist(stack: Stack) -> None:
    script = stack.http.get("/web/page.js").text

    for method, path in re.findall(r'call\("(\w+)", "([^"]+)"', script):
        assert method.lower() in stack.http.get("/openapi.json").json()["paths"][path]
    assert stack.http.get("/web/none.js").json()["type"] == "/problems/not-found"
