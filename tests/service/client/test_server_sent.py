"""The parser of server-sent events, wherever the bytes are cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.client.server_sent import EventParser, ServerSentEvent

STREAM = (
    "\ufeffretry: 2000\n\n: keep-alive\n\n"
    'id: 1-0\nevent: step\ndata: {"a": 1}\n\n'
    "id: 2-0\r\ndata: two\r\ndata:  lines é☃\r\n\r\n"
    "data: no id of its own\r\rid\ndata\n\nid: 9\n\n"
    "data: cut off"
).encode()
EVENTS = [
    ServerSentEvent("1-0", '{"a": 1}'),
    ServerSentEvent("2-0", "two\n lines é☃"),
    ServerSentEvent("2-0", "no id of its own"),
    ServerSentEvent("", ""),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    parser = EventParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(edges)]
    assert [event for piece in pieces for event in parser.feed(piece)] == EVENTS
