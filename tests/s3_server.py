"""A real S3-compatible HTTP server (moto's) for tests."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

ACCESS_KEY_ID = "test-key"
SECRET_ACCESS_KEY = "test-secret"


@dataclass(frozen=True)
class S3Server:
    """A running server and how to reach it."""

    endpoint: str

    def create_bucket(self, name: str) -> None:
        """Create an empty bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )
        client.create_bucket(Bucket=name)
        client.close()


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server on a free port of 127.0.0.1; stop it at the end of the block."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()
