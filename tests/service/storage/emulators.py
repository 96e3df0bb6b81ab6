"""Azure's emulator, from npm: `make stores` fetches it.

There is none of Google's: fake-gcs-server and gcp-storage-emulator of PyPI know its JSON interface
alone, and obstore writes and lists by the other one.

python -m tests.service.storage.emulators FOLDER
"""

import base64
import contextlib
import hashlib
import hmac
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from service.settings import StoreSettings
from tests.node import install, node, package
from tests.servers import free_port

AZURITE = "azurite@3.37.0"

#: Azurite's own account, as its documentation has it.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextlib.contextmanager
def _running(command: list[str], url: str) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url)
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        try:
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def azure(tools: Path, folder: Path) -> Iterator[StoreSettings]:
    """Azurite with a container; the settings of it."""
    port, container = free_port(), "pictures"
    script = package(tools, "azurite") / "dist" / "src" / "blob" / "main.js"
    command = [str(node(tools)), str(script), "--blobPort", str(port), "--inMemoryPersistence"]
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with _running([*command, "--skipApiVersionCheck"], endpoint):
        _make_container(endpoint, container)
        key = folder / "azure-key"
        key.write_text(KEY, encoding="utf-8")
        yield StoreSettings(
            url=f"az://{container}/some/prefix",
            endpoint=endpoint,
            azure_account=ACCOUNT,
            azure_key_file=key,
            public_endpoint=endpoint,
        )


def _make_container(endpoint: str, name: str) -> None:
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    version = "2021-08-06"
    signed = (
        f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n"
        f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    )
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    answer = httpx.put(f"{endpoint}/{name}?restype=container", headers=headers)
    assert answer.status_code == 201, answer.text


if __name__ == "__main__":
    install(Path(sys.argv[1]), (AZURITE,))
