"""Where results go, and by which credentials."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from service.settings.base import Section

#: Schemes of stores in buckets or containers.
BUCKETS = ("s3", "gs", "az")

#: Settings of one kind of store alone.
_OWNERS = {
    "access_key_id": "s3",
    "secret_access_key": "s3",
    "secret_access_key_file": "s3",
    "google_credentials_file": "gs",
    "azure_account": "az",
    "azure_key_file": "az",
}


class StoreSettings(Section):
    """Where results go: `file:///folder`, or `s3://`, `gs://` or `az://` and a bucket.

    `memory:///` also works, within one process: for tests of the front ends.
    """

    url: str = Field(
        "file:///var/lib/hidiffusion",
        description="file://folder, s3://bucket/prefix, gs://bucket/prefix (Google) or "
        "az://container/prefix (Azure); workers and API must both reach it.",
    )
    endpoint: str | None = Field(
        None, description="Endpoint of the store, where it is not AWS's, Google's or Azure's own."
    )
    region: str = Field("us-east-1", description="S3 region.")
    access_key_id: str | None = Field(None, description="S3 access key; default: AWS's own chain.")
    secret_access_key: SecretStr | None = Field(None, description="S3 secret key.")
    secret_access_key_file: Path | None = Field(
        None, description="File that holds the S3 secret key, in the place of the variable."
    )
    google_credentials_file: Path | None = Field(
        None, description="gs://: service account's JSON key; default: Google's own chain."
    )
    azure_account: str | None = Field(None, description="az://: name of the storage account.")
    azure_key_file: Path | None = Field(
        None,
        description="az://: file that holds the account's key; default: Azure's own chain.",
    )
    public_endpoint: str | None = Field(
        None, description="Endpoint as clients see it; presigned URLs are offered when set."
    )

    spread_keys: bool = Field(
        False,
        description="Whether workers spread keys over the bucket's index, for hundreds of GPUs; "
        "versions before this setting do not find tiles and previews there.",
    )

    @model_validator(mode="after")
    def _secret_is_given_once(self) -> Self:
        if self.secret_access_key and self.secret_access_key_file:
            raise ValueError("secret_access_key and secret_access_key_file are one; set either")
        return self

    @model_validator(mode="after")
    def _settings_are_those_of_the_scheme(self) -> Self:
        scheme = urlsplit(self.url).scheme
        for name, owner in _OWNERS.items():
            if getattr(self, name) is not None and scheme in BUCKETS and scheme != owner:
                raise ValueError(
                    f"{name} is for {owner}:// and the URL is {scheme}://; take it out"
                )
        if scheme == "az" and not self.azure_account:
            raise ValueError("azure_account is not set; az:// needs the storage account's name")
        return self

    def google_key(self) -> str | None:
        """The service account's JSON; raises ValueError when its file cannot be read."""
        path = self.google_credentials_file
        return None if path is None else _secret_in(path, "GOOGLE_CREDENTIALS_FILE", "JSON key")

    def azure_key(self) -> str | None:
        """The account's key; raises ValueError when its file cannot be read."""
        path = self.azure_key_file
        return None if path is None else _secret_in(path, "AZURE_KEY_FILE", "account's key")

    def secret(self) -> str | None:
        """The S3 secret key, from wherever it is.

        Raises:
            ValueError: its file cannot be read, or is empty.
        """
        if self.secret_access_key_file is None:
            key = self.secret_access_key
            return None if key is None else key.get_secret_value()
        name = "SECRET_ACCESS_KEY_FILE"
        return _secret_in(self.secret_access_key_file, name, "S3 secret key")


def _secret_in(path: Path, name: str, what: str) -> str:
    where = f"HIDIFFUSION_STORE__{name}: {str(path)!r}"
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror})") from None
    if not secret:
        raise ValueError(f"{where} is empty; it holds the {what} and nothing else")
    return secret
