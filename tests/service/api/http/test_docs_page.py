"""The description of the interface runs what the service ships, under the page's own policy."""

import re

from tests.service.api.stack import Stack


def test_everything_it_needs_comes_from_here(stack: Stack) -> None:
    page = stack.http.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy == stack.http.get("/").headers["content-security-policy"]
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(needed) == 4
    for address in needed:
        assert "//" not in address
        assert stack.http.get(f"/{address}").status_code == 200, address
    assert "<script>" not in page.text


def test_there_is_no_other(stack: Stack) -> None:
    assert stack.http.get("/redoc").status_code == 404
