"""In which lane a request waits for its turn: that of its tenant, or of its address."""

from typing import Any

from service.api.http.edge.access import SESSION_COOKIE, lanes_of
from service.application.access import Access, new_key
from service.bootstrap import SystemClock
from service.domain.access import Scope

MINE, TOKEN = new_key("acme", (Scope.READ,), SystemClock().now())


class OneKey:
    """Knows one key."""

    def find(self, key_id: str) -> Any:
        """It, by its id."""
        return MINE if key_id == MINE.id else None


def _scope(path: str = "/v1/generations", address: str = "192.0.2.1", **headers: str) -> Any:
    sent = [(name.replace("_", "-").encode(), each.encode()) for name, each in headers.items()]
    return {"type": "http", "path": path, "client": (address, 1), "headers": sent}


def test_a_key_has_the_lane_of_its_tenant_wherever_it_comes_from() -> None:
    unused: Any = None
    access = Access(OneKey(), unused, unused, SystemClock(), unused)
    lane_of = lanes_of(access, lambda _: False)
    mine = lane_of(_scope(authorization=f"Bearer {TOKEN}"))
    assert lane_of(_scope(authorization=f"Bearer {TOKEN}", address="192.0.2.2")) == mine
    assert lane_of(_scope(cookie=f"{SESSION_COOKIE}={TOKEN}")) == mine
    strangers = [lane_of(_scope(authorization=f"Bearer hd_{number}_x")) for number in range(3)]
    assert {*strangers} == {lane_of(_scope())}, "made-up keys make no lanes"
    assert mine not in strangers


def test_streams_and_probes_have_lanes_beside_the_rest() -> None:
    lane_of = lanes_of(None, lambda _: False)
    lanes = {lane_of(_scope(path)) for path in ("/healthz", "/v1/generations/1/events", "/a", "/b")}
    assert len(lanes) == 3


def test_a_proxys_clients_have_lanes_of_their_own_and_nobody_else_chooses_one() -> None:
    lane_of = lanes_of(None, lambda address: address == "10.0.0.9")
    told = [
        lane_of(_scope(address=address, x_forwarded_for=f"192.0.2.9, 192.0.2.{number}"))
        for address in ("10.0.0.9", "192.0.2.5")
        for number in (1, 2)
    ]
    assert len({*told[:2]}) == 2
    assert len({*told[2:]}) == 1
