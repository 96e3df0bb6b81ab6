"""One delivery: signed as in Standard Webhooks, and only to where it may go."""

import datetime
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook, WebhookVerificationError

from service.api.webhooks.delivery import Courier, DeliveryFailed, Envelope, signed
from service.domain.webhooks import Targets
from tests.service.api.webhooks.receiver import receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "c2VjcmV0" * 4
BODY = '{"type":"generation.succeeded","title":"ü"}'.encode()
LOOPBACK = Targets.parse(["127.0.0.1"])


def _envelope(url):
    return Envelope("msg_1", url, BODY)


def _resolve(monkeypatch, *addresses):
    """Let every name resolve to these."""

    def getaddrinfo(_, port, *__, **___):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_signatures_are_those_of_the_specification():
    # The example of the reference implementations (standard-webhooks, libraries/*/test).
    at = datetime.datetime.fromtimestamp(1614265330, datetime.UTC)
    envelope = Envelope("msg_p5jXN8AQM9LWM0D4loKWxJek", "", b'{"test": 2432232314}')
    headers = signed(envelope, [SECRET], at)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_a_delivery_verifies_with_each_secret(receiver):
    Courier(LOOPBACK, 5).deliver(_envelope(receiver.url), [SECRET, OTHER])

    (headers, body) = receiver.deliveries[0]
    assert body == BODY
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "msg_1"
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers)["title"] == "ü"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


@pytest.mark.parametrize(("answer", "for_good"), [(500, False), (302, False), (410, True)])
def test_other_answers_are_failures(receiver, answer, for_good):
    receiver.answers.append(answer)
    with pytest.raises(DeliveryFailed, match=str(answer)) as caught:
        Courier(LOOPBACK, 5).deliver(_envelope(receiver.url), [SECRET])
    assert caught.value.for_good is for_good


def test_redirects_are_not_followed(receiver):
    with receiving() as inside:
        receiver.answers.append(307)
        receiver.location = inside.url
        with pytest.raises(DeliveryFailed, match="307"):
            Courier(LOOPBACK, 5).deliver(_envelope(receiver.url), [SECRET])
        assert inside.deliveries == []


def test_a_receiver_that_is_down_is_a_failure():
    with pytest.raises(DeliveryFailed, match="ConnectError"):
        Courier(LOOPBACK, 5).deliver(_envelope("http://127.0.0.1:9/"), [SECRET])


def test_literal_addresses_are_checked_again(receiver):
    url = receiver.url.replace("http:", "https:")
    with pytest.raises(DeliveryFailed, match="only public"):
        Courier(Targets(), 5).deliver(_envelope(url), [SECRET])


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]])
def test_a_name_that_leads_inside_is_not_called(receiver, monkeypatch, addresses):
    _resolve(monkeypatch, *addresses)
    url = "https://public.example/"
    with pytest.raises(DeliveryFailed, match=r"leads to 127\.0\.0\.1"):
        Courier(Targets(), 5).deliver(_envelope(url), [SECRET])
    assert receiver.deliveries == []


def test_a_name_is_resolved_once(receiver, monkeypatch):
    """What a name resolves to later makes no difference: rebinding gains nothing."""
    asked = []

    def getaddrinfo(host, port, *_, **__):
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    original = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: (
            getaddrinfo(host, *rest) if host == "receiver.test" else original(host, *rest, **more)
        ),
    )
    url = f"http://receiver.test:{receiver.port}/hook"
    Courier(Targets.parse(["receiver.test"]), 5).deliver(_envelope(url), [SECRET])

    assert asked == ["receiver.test"]
    assert receiver.deliveries[0][0]["host"] == f"receiver.test:{receiver.port}"


def test_tls_asks_for_the_name_and_believes_no_stranger(monkeypatch, tmp_path):
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    context.sni_callback = lambda _, name, __: names.append(name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def shake() -> None:
            connection, _ = server.accept()
            with connection, pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=shake)
        thread.start()
        with monkeypatch.context() as patched:
            _resolve(patched, "127.0.0.1")
            courier = Courier(Targets.parse(["receiver.test"]), 5)
            with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
                courier.deliver(_envelope(f"https://receiver.test:{port}/"), [SECRET])
        thread.join(10)
    assert names == ["receiver.test"]


def _self_signed(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file
