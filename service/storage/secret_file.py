"""The file of webhook secrets: JSON that a command writes, and that who signs reads."""

import base64
import binascii
import json
import secrets
import tempfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

PREFIX = "whsec_"

#: Bytes of a new secret; Standard Webhooks 1.0.0 wants 24 to 64.
SECRET_BYTES = 32
_ALLOWED_BYTES = range(24, 65)

_SECRETS: TypeAdapter[dict[str, tuple[str, ...]]] = TypeAdapter(dict[str, tuple[str, ...]])


class SecretFile:
    """Each tenant's secrets, the newest first; `""` is the tenant where no keys are asked for.

    The file is read whenever it is asked, so a change is seen without a restart. No message of
    this class holds a secret.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, tenant: str) -> tuple[str, ...]:
        """The secrets of one tenant; none when it has none.

        Raises:
            ValueError: the file is damaged or cannot be read. One that is missing has no secrets.
        """
        return self._read().get(tenant, ())

    def add(self, tenant: str, *, replace: bool = False) -> str:
        """Make a secret and return it; earlier ones sign too, unless it takes their place."""
        known = self._read()
        secret = PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        earlier = () if replace else known.get(tenant, ())
        self._write({**known, tenant: (secret, *earlier)})
        return secret

    def _read(self) -> dict[str, tuple[str, ...]]:
        try:
            known = _SECRETS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ValueError(
                f"cannot read the file of webhook secrets {str(self._path)!r} ({error.strerror}); "
                "let this user read it, or unset HIDIFFUSION_WEBHOOKS__SECRET_FILE"
            ) from None
        except ValidationError:
            raise self._damaged() from None
        if not all(_is_secret(each) for many in known.values() for each in many):
            raise self._damaged()
        return known

    def _damaged(self) -> ValueError:
        return ValueError(
            f"the file of webhook secrets {str(self._path)!r} is damaged; it maps tenants to lists "
            "of whsec_ secrets of 24 to 64 bytes: write it with `hidiffusion webhooks secret`"
        )

    def _write(self, known: dict[str, tuple[str, ...]]) -> None:
        """Replace the file in one step, readable by its owner alone."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=self._path.parent, encoding="utf-8", delete=False
        ) as file:
            file.write(json.dumps(known, indent=2) + "\n")
        Path(file.name).replace(self._path)


def _is_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return False
    return text.startswith(PREFIX) and len(key) in _ALLOWED_BYTES
