"""Take in pictures that generations start from, tell of them, forget them."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.api.http import links
from service.api.http.artifact_responses import PICTURE_RESPONSES, artifact_response
from service.api.http.dependencies import PicturesDep, UseCasesDep
from service.api.http.edge.forms import file_of, is_form, read_form
from service.api.http.openapi import problem_responses
from service.api.http.views.upload_schemas import UploadView
from service.domain.requests.uploads import FORMATS

router = APIRouter(prefix=links.UPLOADS, tags=["uploads"])

#: Where the picture is, as broken rules name it: in this field of a form, or all of the body.
_FIELD = "file"
_BODY_FIELD = "body"

_LOCATION = {"Location": {"description": "Path of the record.", "schema": {"type": "string"}}}
_BINARY = {"type": "string", "format": "binary"}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": [_FIELD], "properties": {_FIELD: _BINARY}}
        },
        **{f"image/{name}": {"schema": _BINARY} for name in FORMATS},
    },
}

UploadId = Annotated[
    str, Path(description="Identifier of the upload.", examples=["img_" + "0f" * 32])
]


@router.post(
    "",
    status_code=201,
    openapi_extra={"requestBody": _BODY},
    responses={
        201: {"description": "Stored.", "headers": _LOCATION},
        **problem_responses(400, 413, 422, 503, 507),
    },
)
async def create_upload(
    http: Request, response: Response, use_cases: UseCasesDep, pictures: PicturesDep
) -> UploadView:
    """Store a picture, sent as the form field `file` or as the whole body."""
    add = partial(use_cases.uploads.add, *await _picture(http))
    upload = await pictures.run(use_cases.tenant, add)
    response.headers["location"] = links.upload(upload.id)
    return UploadView.of(upload)


@router.get("/{upload_id}", responses=problem_responses(404, 503))
def get_upload(upload_id: UploadId, use_cases: UseCasesDep) -> UploadView:
    """Read what is known of an upload."""
    return UploadView.of(use_cases.uploads.get(upload_id))


@router.get("/{upload_id}/image", response_class=Response, responses=PICTURE_RESPONSES)
def get_upload_image(upload_id: UploadId, http: Request, use_cases: UseCasesDep) -> Response:
    """Fetch an upload as it is stored: upright, in sRGB, as a PNG."""
    return artifact_response(http, use_cases.query, use_cases.uploads.file(upload_id))


@router.delete("/{upload_id}", status_code=204, responses=problem_responses(404, 503))
def delete_upload(upload_id: UploadId, use_cases: UseCasesDep) -> Response:
    """Forget an upload; generations that were accepted with it still have it."""
    use_cases.uploads.delete(upload_id)
    return Response(status_code=204)


async def _picture(http: Request) -> tuple[bytes, str]:
    if not is_form(http):
        return await http.body(), _BODY_FIELD
    async with read_form(http, files=1) as form:
        return await file_of(form, _FIELD), _FIELD
