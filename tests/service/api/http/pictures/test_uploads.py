"""Uploads over HTTP: what goes in, in which ways, and what generations take from it."""

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.service.api.stack import (
    MAX_BODY_BYTES,
    MAX_UPLOAD_BYTES,
    MAX_UPLOAD_PIXELS,
    UPLOAD_TTL_SECONDS,
    Stack,
)


def picture(width: int = 300, height: int = 200, name: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((width, height))
    gradient.convert("RGB").save(stream, name, **options)
    return stream.getvalue()


def url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def upload(stack: Stack, data: bytes) -> dict[str, Any]:
    response = stack.http.post("/v1/uploads", content=data)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/uploads/{response.json()['id']}"
    view: dict[str, Any] = response.json()
    return view


def ask(stack: Stack, **fields: Any) -> httpx.Response:
    return stack.http.post("/v1/generations", json={"prompt": "a fox", **fields})


def violations(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 422, response.text
    return {error["field"]: error["description"] for error in response.json()["errors"]}


def test_a_form_and_a_bare_body_are_the_same_upload(stack: Stack) -> None:
    data = picture(302, 200)
    bare = upload(stack, data)
    form = stack.http.post("/v1/uploads", files={"file": ("a.png", data, "image/png")})

    assert form.status_code == 201
    assert form.json()["id"] == bare["id"]
    assert (bare["width"], bare["height"]) == (302, 200)
    read = stack.http.get(f"/v1/uploads/{bare['id']}").json()
    assert read == form.json()
    assert read["created_at"] == bare["created_at"]
    (key,) = stack.store.keys(f"uploads/-/{bare['id']}/")
    assert len(stack.store.get(key)) == bare["bytes"]


def test_an_upload_expires_and_every_use_puts_that_off(stack: Stack) -> None:
    upload_id = upload(stack, picture())["id"]
    key = f"hidiffusion:upload:{upload_id}"
    assert UPLOAD_TTL_SECONDS - 5 < stack.records.redis.ttl(key) <= UPLOAD_TTL_SECONDS
    stack.records.redis.expire(key, 5)
    assert ask(stack, image=upload_id).status_code == 202
    assert stack.records.redis.ttl(key) > UPLOAD_TTL_SECONDS - 5


def test_a_deleted_upload_is_gone_but_not_for_a_generation_that_has_it(stack: Stack) -> None:
    upload_id = upload(stack, picture())["id"]
    accepted = ask(stack, image=upload_id).json()["id"]

    assert stack.http.delete(f"/v1/uploads/{upload_id}").status_code == 204
    for response in (
        stack.http.get(f"/v1/uploads/{upload_id}"),
        stack.http.delete(f"/v1/uploads/{upload_id}"),
    ):
        assert response.status_code == 404
        assert response.json()["type"] == "/problems/upload-not-found"
    assert "no upload has this id" in violations(ask(stack, image=upload_id))["image"]
    key = stack.records.get(accepted).inputs[upload_id]
    assert Image.open(io.BytesIO(stack.store.get(key))).size == (300, 200)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "begins like no picture"),
        (b"hello", "begins like no picture"),
        (picture(name="GIF"), "begins like no picture"),
        (picture()[:-60], "broken or incomplete png"),
        (picture(1024, 1024), f"up to {MAX_UPLOAD_PIXELS} pixels"),
        (picture() + bytes(MAX_UPLOAD_BYTES), f"up to {MAX_UPLOAD_BYTES} are allowed"),
    ],
)
def test_what_is_no_picture_is_refused_and_not_stored(stack: Stack, data: bytes, rule: str) -> None:
    before = stack.store.keys("uploads/")
    bare = stack.http.post("/v1/uploads", content=data)
    form = stack.http.post("/v1/uploads", files={"file": ("a.png", data)})
    assert rule in violations(bare)["body"]
    assert rule in violations(form)["file"]
    assert stack.store.keys("uploads/") == before


def test_a_body_beyond_all_limits_is_refused_before_it_is_read(stack: Stack) -> None:
    response = stack.http.post("/v1/uploads", content=bytes(MAX_UPLOAD_BYTES + 2**18))
    assert response.status_code == 413
    assert ask(stack, image=url(bytes(MAX_BODY_BYTES))).status_code == 413


@pytest.mark.parametrize(
    "files",
    [{"picture": ("a.png", b"x")}, {"file": (None, "text")}],
)
def test_a_form_without_its_file_is_told(stack: Stack, files: dict[str, Any]) -> None:
    rule = violations(stack.http.post("/v1/uploads", files=files))["file"]
    assert rule == "send the picture as a file with a filename"


def test_a_form_that_is_none_is_told(stack: Stack) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = stack.http.post("/v1/uploads", content=b"nothing", headers=headers)
    assert response.status_code in {400, 422}
    many = [("file", ("a.png", picture())) for _ in range(3)]
    assert stack.http.post("/v1/uploads", files=many).status_code == 400


def test_a_data_url_becomes_an_upload_when_the_request_is_accepted(stack: Stack) -> None:
    before = len(stack.store.keys("uploads/"))
    data = picture(264, 136)
    assert violations(ask(stack, image=url(data), width=3))
    assert len(stack.store.keys("uploads/")) == before

    view = ask(stack, image=url(data)).json()
    upload_id = view["request"]["image"]
    assert stack.http.get(f"/v1/uploads/{upload_id}").json()["width"] == 264
    assert "base64" not in stack.records.redis.hget(
        f"hidiffusion:generation:{view['id']}", "request"
    )
    again = ask(stack, image=upload_id).json()
    assert {**again["request"], "seed": 0} == {**view["request"], "seed": 0}


@pytest.mark.parametrize(
    "reference",
    ["data:", "data:image/png,abc", "data:image/png;base64,@@", "data:image/png;base64,YQ"],
)
def test_a_data_url_that_is_none_is_told(stack: Stack, reference: str) -> None:
    assert "base64" in violations(ask(stack, image=reference))["image"]


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((300, 200), {}, (304, 200)),
        ((300, 200), {"width": 600}, (600, 400)),
        ((300, 200), {"height": 1024}, (1536, 1024)),
        ((300, 200), {"width": 256, "height": 512}, (256, 512)),
        ((64, 32), {}, (256, 128)),
        ((4, 400), {}, (128, 4096)),
    ],
)
def test_the_size_follows_the_picture(
    stack: Stack, size: tuple[int, int], asked: dict[str, int], expected: tuple[int, int]
) -> None:
    request = ask(stack, image=url(picture(*size)), **asked).json()["request"]
    assert (request["width"], request["height"]) == expected


def test_defaults_follow_from_picture_and_mask(stack: Stack) -> None:
    image, mask = url(picture()), url(picture(name="JPEG"))
    plain, masked = ask(stack, image=image).json(), ask(stack, image=image, mask=mask).json()
    assert (plain["request"]["strength"], masked["request"]["strength"]) == (0.8, 1.0)
    assert plain["request"]["mask"] is None
    assert masked["request"]["mask"] != masked["request"]["image"] == plain["request"]["image"]
    assert ask(stack).json()["request"]["strength"] is None


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"mask": url(picture())}, "mask", "give one as image"),
        ({"strength": 0.5}, "strength", "give one as image"),
        ({"image": url(picture()), "mask": url(picture(8, 8))}, "mask", "300 x 200 pixels"),
        ({"image": url(picture()), "strength": 0}, "strength", "of 25 steps"),
        ({"image": url(picture()), "strength": 1.1}, "strength", "less than or equal to 1"),
        ({"image": "img_1", "mask": "img_2"}, "mask", "no upload has this id"),
        ({"image": url(b"x" * 99)}, "image", "begins like no picture"),
        (
            {"image": url(picture()), "method": "hidiffusion-refresh", "width": 512, "height": 512},
            "method",
            "can start from image: hidiffusion, hidiffusion-guided, direct",
        ),
    ],
)
def test_what_does_not_go_together_is_named(
    stack: Stack, fields: dict[str, Any], field: str, rule: str
) -> None:
    assert rule in violations(ask(stack, **fields))[field]


def test_the_same_key_with_the_same_picture_is_the_same_generation(stack: Stack) -> None:
    body = {"prompt": "a fox", "image": url(picture())}
    headers = {"Idempotency-Key": "k"}
    ids = {
        stack.http.post("/v1/generations", json=body, headers=headers).json()["id"]
        for _ in range(2)
    }
    assert len(ids) == 1
    other = body | {"image": url(picture(310))}
    assert stack.http.post("/v1/generations", json=other, headers=headers).status_code == 422


def test_a_repeated_request_is_found_when_its_picture_is_gone(stack: Stack) -> None:
    upload_id, headers = upload(stack, picture())["id"], {"Idempotency-Key": "k"}
    body = {"prompt": "a fox", "image": upload_id}
    first = stack.http.post("/v1/generations", json=body, headers=headers).json()
    stack.http.delete(f"/v1/uploads/{upload_id}")
    again = stack.http.post("/v1/generations", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    other = stack.http.post("/v1/generations", json=body | {"seed": 1}, headers=headers)
    assert other.json()["reason"] == "IDEMPOTENCY_KEY_REUSED"


def test_object_keys_stay_inside(stack: Stack) -> None:
    response = ask(stack, image=url(picture()))
    assert "uploads/" not in response.text
    assert "uploads/" not in stack.http.get(f"/v1/generations/{response.json()['id']}").text


def _mask(colour: tuple[int, int, int, int]) -> str:
    stream = io.BytesIO()
    Image.new("RGBA", (256, 256), colour).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize(
    ("colour", "value"),
    [
        ((0, 0, 0, 255), "keeps everything"),
        ((255, 255, 255, 0), "keeps everything"),
        ((255, 255, 255, 255), "keeps nothing"),
    ],
)
def test_a_mask_that_says_nothing_is_refused_with_the_other_convention(
    stack: Stack, colour: tuple[int, int, int, int], value: str
) -> None:
    picture = _mask((9, 9, 9, 255))
    body = {"prompt": "a fox", "image": picture, "mask": _mask(colour)}
    answer = stack.http.post("/v1/generations", json=body)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == "mask"
    assert value in error["value"]
    assert "/v1/images/edits" in error["description"]
