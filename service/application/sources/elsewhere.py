"""Pictures that a request names by where they are: results of this service, and addresses."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from service.application.ports import ObjectStore, Records
from service.domain.errors import GenerationNotFound, NotFound
from service.domain.requests.uploads import BadPicture

#: ULIDs, as generations have them.
_GENERATION = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_URL = re.compile(r"https?://", re.IGNORECASE)


def is_generation_id(reference: str) -> bool:
    """Whether a generation could have this id."""
    return _GENERATION.fullmatch(reference) is not None


def is_url(reference: str) -> bool:
    """Whether a picture is to be fetched from somewhere."""
    return _URL.match(reference) is not None


def fetch_nothing(url: str) -> NoReturn:  # noqa: ARG001
    """Where no picture may be fetched."""
    raise BadPicture("this service fetches no pictures; upload it, or send a data URL")


@dataclass(frozen=True)
class Elsewhere:
    """Where the pictures of one tenant's requests come from.

    Attributes:
        records: of the tenant's generations.
        store: where their results are.
        fetch: returns the file at an address; raises `BadPicture`, which says why not.
    """

    records: Records
    store: ObjectStore
    fetch: Callable[[str], bytes] = fetch_nothing

    def drawn(self, generation_id: str) -> bytes:
        """The finished picture of a generation.

        Raises:
            BadPicture: there is no such generation, or it has no picture.
            Unavailable, StoreError: it could not be read.
        """
        try:
            generation = self.records.get(generation_id)
            if generation.result is None:
                raise BadPicture(f"that generation is {generation.status} and has no picture")
            return self.store.get(generation.result.image.key)
        except (GenerationNotFound, NotFound):
            raise BadPicture("no generation has this id, or its picture is gone") from None
