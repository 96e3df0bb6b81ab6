"""Cancel a generation, and delete what it left."""

from service.application.ports import Clock, ObjectStore, Records
from service.domain.artifacts import ArtifactKeys
from service.domain.errors import Conflict
from service.domain.generations.generation import Generation


class CancelGeneration:
    """Ask for a generation to stop."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def __call__(self, generation_id: str) -> Generation:
        """Cancel if unfinished; a final generation is returned as it is.

        Raises:
            GenerationNotFound: the id is unknown.
        """
        return self._records.request_cancel(generation_id, self._clock.now())


class PurgeGeneration:
    """Delete a finished generation with everything it left in the store."""

    def __init__(self, records: Records, store: ObjectStore) -> None:
        self._records = records
        self._store = store

    def __call__(self, generation_id: str) -> None:
        """Delete the artifacts first, then the record, so that nothing is left unaccounted for.

        Raises:
            GenerationNotFound: the id is unknown.
            Conflict: the generation is not final yet.
        """
        generation = self._records.get(generation_id)
        if not generation.status.final:
            raise Conflict(
                f"generation {generation_id} is still {generation.status.value!r}; "
                "cancel it and wait for its final event before purging"
            )
        for keys in ArtifactKeys.either(generation_id, 0):
            self._store.delete_prefix(keys.generation_prefix)
        self._records.delete(generation_id)
