"""Header grammars, by example and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.http.headers import (
    RangeNotSatisfiable,
    byte_range,
    idempotency_key,
    matches_etag,
    preferred_wait,
)

SIZES = st.integers(1, 10**6)


@given(size=SIZES, first=st.integers(0, 10**6), length=st.integers(1, 10**6))
def test_range_is_what_python_slices(size: int, first: int, length: int) -> None:
    header = f"bytes={first}-{first + length - 1}"

    if first >= size:
        with pytest.raises(RangeNotSatisfiable):
            byte_range(header, size)
    else:
        expected = range(size)[first : first + length]
        assert byte_range(header, size) == (expected.start, expected.stop)


@given(size=SIZES, length=st.integers(1, 2 * 10**6))
def test_suffix_is_what_python_slices(size: int, length: int) -> None:
    expected = range(size)[-length:]

    assert byte_range(f"bytes=-{length}", size) == (expected.start, expected.stop)


@given(header=st.text(max_size=40), size=SIZES)
def test_any_header_gives_a_range_inside_or_none(header: str, size: int) -> None:
    try:
        found = byte_range(header, size)
    except RangeNotSatisfiable:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


@given(key=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=120))
def test_quoted_and_bare_keys_are_the_same_key(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert idempotency_key(quoted) == key


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, wait=10", 10),
        ('wait="7"; foo=bar', 7),
        ("WAIT = 3", 3),
        ("respond-async", None),
        ("await=5", None),
        ("wait=soon", None),
        ("", None),
        (None, None),
    ],
)
def test_wait_preference(header: str | None, seconds: int | None) -> None:
    assert preferred_wait(header) == seconds


@pytest.mark.parametrize(
    ("header", "known"),
    [('"a"', True), ('"b", "a"', True), ('W/"a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_entity_tags(header: str, known: bool) -> None:
    assert matches_etag(header, '"a"') is known
