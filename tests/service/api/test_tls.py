"""TLS and mutual TLS of both front ends, on real sockets with certificates of the test's own."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
import trustme

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from service.api.serve import Endpoints
from service.api.tls import Certificates
from service.settings import ApiSettings, StoreSettings
from service.storage.store import open_store
from tests.service.api.stack import serving, use_cases


class Authority:
    """A certificate authority, and what it certifies, in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._ca = trustme.CA()
        self._folder = folder
        self.root = folder / "root.pem"
        self._ca.cert_pem.write_to_path(self.root)
        self.root_bytes = self._ca.cert_pem.bytes()

    def issue(self, name: str) -> trustme.LeafCert:
        """A certificate with its key in `NAME.pem` and `NAME.key`."""
        leaf = self._ca.issue_cert(name)
        self.certificate(name).write_bytes(b"".join(p.bytes() for p in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self.key(name))
        return leaf

    def certificate(self, name: str) -> Path:
        return self._folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self._folder / f"{name}.key"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "ours")
    authority.issue("127.0.0.1")
    authority.issue("client")
    return authority


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "theirs")
    authority.issue("client")
    return authority


@contextmanager
def served(
    redis_url: str, folder: Path, server: Authority, client_ca: Path | None = None
) -> Iterator[Endpoints]:
    cases, records = use_cases(redis_url, open_store(StoreSettings(url=folder.as_uri())))
    settings = ApiSettings(
        http_port=0,
        grpc_port=0,
        tls_certificate=server.certificate("127.0.0.1"),
        tls_key=server.key("127.0.0.1"),
        tls_client_ca=client_ca,
    )
    with serving(settings, cases, None) as endpoints:
        yield endpoints
    records.redis.close()


def over_http(url: str, trusted: Authority, client: Authority | None = None) -> int:
    context = ssl.create_default_context(cafile=str(trusted.root))
    if client is not None:
        context.load_cert_chain(client.certificate("client"), client.key("client"))
    return httpx.get(f"{url}/healthz", verify=context, timeout=10).status_code


def over_grpc(address: str, trusted: Authority, client: Authority | None = None) -> int:
    pair = (None, None)
    if client is not None:
        pair = (client.key("client").read_bytes(), client.certificate("client").read_bytes())
    credentials = grpc.ssl_channel_credentials(trusted.root_bytes, *pair)
    with grpc.secure_channel(address, credentials) as channel:
        stub = stubs.GenerationServiceStub(channel)
        return len(stub.ListModels(rpc.ListModelsRequest(), timeout=10).models)


def test_the_right_authority_opens_both_and_plain_text_neither(
    redis_url: str, tmp_path: Path, ours: Authority, theirs: Authority
) -> None:
    with served(redis_url, tmp_path, ours) as endpoints:
        assert endpoints.http_url.startswith("https://")
        assert over_http(endpoints.http_url, ours) == 200
        assert over_grpc(endpoints.grpc_address, ours) == 1
        with pytest.raises(httpx.TransportError):
            httpx.get(endpoints.http_url.replace("https", "http") + "/healthz", timeout=10)
        with grpc.insecure_channel(endpoints.grpc_address) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                stubs.GenerationServiceStub(channel).ListModels(rpc.ListModelsRequest(), timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            over_http(endpoints.http_url, theirs)


@pytest.mark.parametrize("wrong", ["none", "by another authority"])
def test_clients_need_a_certificate_of_the_set_authority(
    redis_url: str, tmp_path: Path, ours: Authority, theirs: Authority, wrong: str
) -> None:
    client = None if wrong == "none" else theirs
    with served(redis_url, tmp_path, ours, client_ca=ours.root) as endpoints:
        assert over_http(endpoints.http_url, ours, client=ours) == 200
        assert over_grpc(endpoints.grpc_address, ours, client=ours) == 1
        with pytest.raises(httpx.TransportError):
            over_http(endpoints.http_url, ours, client=client)
        with pytest.raises(grpc.RpcError) as refused:
            over_grpc(endpoints.grpc_address, ours, client=client)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_is_served_without_a_restart(
    redis_url: str, tmp_path: Path, ours: Authority
) -> None:
    with served(redis_url, tmp_path, ours) as endpoints:
        address = urlsplit(endpoints.http_url)
        assert address.hostname is not None
        assert address.port is not None
        http = (address.hostname, address.port)
        host, port = endpoints.grpc_address.split(":")
        before = {ssl.get_server_certificate(each) for each in (http, (host, int(port)))}
        ours.certificate("127.0.0.1").write_text("half a file")
        assert over_http(endpoints.http_url, ours) == 200
        assert over_grpc(endpoints.grpc_address, ours) == 1

        ours.issue("127.0.0.1")
        after = {ssl.get_server_certificate(each) for each in (http, (host, int(port)))}

    assert len(before) == len(after) == 1
    assert before != after


def test_a_key_of_another_certificate_is_refused_at_start(ours: Authority) -> None:
    with pytest.raises(ValueError, match=r"cannot serve TLS with .*client\.key"):
        Certificates(ours.certificate("127.0.0.1"), ours.key("client"))


def test_a_certificate_without_its_key_is_refused(ours: Authority) -> None:
    with pytest.raises(ValueError, match="go together"):
        ApiSettings(tls_certificate=ours.certificate("127.0.0.1"))
    with pytest.raises(ValueError, match="set tls_certificate too"):
        ApiSettings(tls_client_ca=ours.root)
