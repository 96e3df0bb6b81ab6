"""What clients get to see of an upload."""

from datetime import datetime
from typing import Self

from pydantic import Field

from service.api.http.views.schemas import View
from service.domain.requests.uploads import Upload


class UploadView(View):
    """A picture that was uploaded, as it is stored."""

    id: str = Field(
        description="Name to use in requests; the same picture always has the same.",
        examples=["img_" + "0f" * 32],
    )
    width: int = Field(description="Pixels, after turning it upright.")
    height: int = Field(description="Pixels, after turning it upright.")
    bytes: int = Field(description="Length of the stored PNG in bytes.")
    created_at: datetime
    expires_at: datetime = Field(description="Later, if it is sent or used again before.")

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """The view of `upload`; where it lies stays inside."""
        return cls(**upload.model_dump(include=set(cls.model_fields)))
