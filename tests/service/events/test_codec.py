"""Events survive the way through a stream entry."""

from typing import get_args

from service.domain.generations.events import Event
from service.events.codec import FINAL_TYPES, decode, encode
from tests.generations import make_generation, one_of_each, step


def test_every_kind_of_event_comes_back_as_it_went():
    events = one_of_each(make_generation())
    union, _ = get_args(Event)
    assert {type(event) for event in events} == set(get_args(union))
    assert [decode(encode(event)) for event in events] == events


def test_the_fields_that_scripts_read_stand_alone():
    event = step(attempt=2)
    fields = encode(event)
    assert set(fields) == {"type", "attempt", "at", "data"}
    assert fields["type"] == "step"
    assert fields["attempt"] == "2"
    assert fields["data"] == '{"step":1,"total":3,"eta_seconds":0.5}'


def test_fields_of_a_newer_service_do_no_harm():
    event = step(attempt=1)
    fields = encode(event)
    fields["data"] = fields["data"].replace("{", '{"mood":"good",', 1)
    assert decode({**fields, "more": "of it"}) == event


def test_an_event_of_a_newer_service_is_passed_over():
    assert decode({**encode(step(attempt=1)), "type": "upscaled"}) is None


def test_final_types_are_those_whose_status_is_final():
    final = [event.type for event in one_of_each(make_generation()) if event.type in FINAL_TYPES]
    assert final == ["succeeded", "failed", "cancelled"]
