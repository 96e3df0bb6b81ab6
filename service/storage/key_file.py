"""The file of API keys: JSON that a command writes and every front end reads."""

import json
import tempfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.domain.access import ApiKey

_KEYS: TypeAdapter[list[ApiKey]] = TypeAdapter(list[ApiKey])


class KeyFile:
    """The keys in one file; a change is seen at the next look, without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int, int] | None = None
        self._by_id: dict[str, ApiKey] = {}

    def find(self, key_id: str) -> ApiKey | None:
        """The key of this id, or None.

        Raises:
            ValueError: the file is missing or is no list of keys.
        """
        return self._current().get(key_id)

    def check(self) -> None:
        """Return when the file can be read; raise `ValueError` as `find` does otherwise."""
        self._current()

    def all(self) -> list[ApiKey]:
        """Every key, in the order they were made; none when there is no file yet."""
        return list(self._current().values()) if self._path.exists() else []

    def add(self, key: ApiKey) -> None:
        """Append `key`."""
        self._write([*self.all(), key])

    def remove(self, key_id: str) -> bool:
        """Drop the key of this id; tells whether there was one."""
        keys = self.all()
        kept = [key for key in keys if key.id != key_id]
        self._write(kept)
        return len(kept) < len(keys)

    def _current(self) -> dict[str, ApiKey]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise ValueError(
                f"cannot read the key file {str(self._path)!r} ({error.strerror}); make it with "
                "`hidiffusion keys create`, or unset HIDIFFUSION_API__KEY_FILE"
            ) from None
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._read_at:
            self._by_id = {key.id: key for key in self._read()}
            self._read_at = version
        return self._by_id

    def _read(self) -> list[ApiKey]:
        try:
            return _KEYS.validate_json(self._path.read_bytes())
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ValueError(
                f"the key file {str(self._path)!r} is damaged at {where!r}; write it with "
                "`hidiffusion keys create` only"
            ) from None

    def _write(self, keys: list[ApiKey]) -> None:
        """Replace the file in one step, readable by its owner alone."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_KEYS.dump_python(keys, mode="json"), indent=2)
        with tempfile.NamedTemporaryFile(
            "w", dir=self._path.parent, encoding="utf-8", delete=False
        ) as file:
            file.write(text + "\n")
        Path(file.name).replace(self._path)
