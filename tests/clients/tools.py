"""What clients in JavaScript and TypeScript are made with, from npm: `make clients` fetches it.

python -m tests.clients.tools FOLDER
"""

import sys
from pathlib import Path

from tests.node import install

PACKAGES = (
    "@grpc/grpc-js@1.14.7",
    "@grpc/proto-loader@0.8.1",
    "@types/node@24.10.1",
    "openapi-fetch@0.17.0",
    "openapi-typescript@7.13.0",
    "typescript@5.9.3",
)

#: Viewers, each with all that it needs in one file.
BUNDLES = ("mirador@4.0.0",)

if __name__ == "__main__":
    install(Path(sys.argv[1]), PACKAGES, BUNDLES)
