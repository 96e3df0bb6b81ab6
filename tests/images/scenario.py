"""What is proven of the images, one function a claim."""

import io
import json
import socket
import time

import grpc
import httpx
from PIL import Image as Pictures

from hidiffusion_api.v1 import generation_service_pb2 as rpc
from hidiffusion_api.v1 import generation_service_pb2_grpc as stubs
from tests.images.build import Image
from tests.images.compose import Compose
from tests.images.container import Container

#: A picture of the bundled model on two slow cores.
PICTURE_SECONDS = 900.0

#: Processor time that one health check may take; ten times that is a fault, not a slow machine.
CHECK_SECONDS = 0.1

#: Discovery every 15 s, then a scrape every 10 s.
SCRAPE_SECONDS = 300.0

_OCI = "org.opencontainers.image."


def play(compose: Compose, images: dict[str, Image]) -> None:
    """Start everything, use it, stop it, and do so again on the same volumes."""
    for name, image in images.items():
        looks_as_it_should(name, image)
    loopback_only(compose)
    compose.up()
    told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in compose.seconds.items())
    print(f"  up; healthy after: {told}")
    http = _http(compose)
    nothing_but_s3_answers(compose)
    nobody_writes_but_where_they_may(compose)
    health_is_cheap(compose)
    uploads_fit_without_a_writable_root(http)
    made = picture_over_http(http)
    picture_over_grpc(compose.network.address("api"))
    prometheus_reads_both(compose)
    waiting = drains_with_a_job_under_way(compose, http)
    http.close()
    compose.down()
    print("  down")
    compose.up()
    http = _http(compose)
    was_kept(http, made, waiting)
    http.close()
    compose.down()
    print(
        "  up again on the same volumes: pictures are there, and the job that was drained is done"
    )


def play_shared(compose: Compose) -> None:
    """Three API processes behind the proxy, for clients with keys, on the volumes there are."""
    key = compose.run("api-1", "keys", "create", "somebody").splitlines()[-1]
    compose.up()
    address = compose.network.address("proxy")
    with httpx.Client(base_url=f"http://{address}:8000", timeout=60) as http:
        assert http.get("/v1/models").status_code == 401
        http.headers["authorization"] = f"Bearer {key}"
        picture_over_http(http)
        picture_over_grpc(address, key)
        for gone in ("api-1", "api-2"):
            status, _ = compose.containers.pop(gone).stop(30)
            assert status == 0
            answered = [http.get("/v1/models").status_code for _ in range(20)]
            assert set(answered) == {200}, answered
        picture_over_grpc(address, key)
    compose.down()
    calibrates(compose)
    print("  keys, and three API processes behind the proxy, of which two may go")


def calibrates(compose: Compose) -> None:
    """An operator who has the catalogue on its volume measures a model with `run --rm`."""
    catalog = compose.volume("models") / "catalog.json"
    models = json.loads(catalog.read_text())
    name, models["models"][0]["max_size"] = models["models"][0]["name"], 256
    catalog.write_text(json.dumps(models))
    command = ("-m", "service.worker.process.calibrate", name)
    assert f"written to /models/memory/{name}.json" in compose.run(
        "worker", *command, entrypoint="python3"
    )


def looks_as_it_should(name: str, image: Image) -> None:
    """A numeric user, labels, a health check, nothing twice."""
    user, _, group = image.user.partition(":")
    assert int(user) > 0, image.user
    assert int(group) > 0, image.user
    assert image.labels[f"{_OCI}title"] == name
    assert image.labels[f"{_OCI}licenses"] == "Apache-2.0"
    assert image.healthcheck
    copies = list(image.root.glob("**/service/bootstrap.py"))
    assert len(copies) == 1, copies
    assert name.endswith("worker") == any(image.root.glob("opt/*/lib/python*/site-packages/torch"))
    print(f"  {name}: {image.megabytes} MB with its base, user {image.user}")


def loopback_only(compose: Compose) -> None:
    """Without keys, nobody but this machine reaches a port."""
    services = compose.config["services"].values()
    ports = [port for service in services for port in service.get("ports", ())]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}, ports
    assert {port["target"] for port in ports} == {8000, 50051}


def nothing_but_s3_answers(compose: Compose) -> None:
    """The store's master, volumes and filer, which ask for no key, cannot be reached."""
    store = compose.network.address("store")
    for port in (9333, 19333, 8080, 18080, 8888, 18888, 8181, 9101):
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((store, port)) != 0, f"port {port} of the store is open"
    refused = httpx.get(f"http://{store}:8333/hidiffusion?list-type=2")
    assert refused.status_code == 403, refused.text


def nobody_writes_but_where_they_may(compose: Compose) -> None:
    """The root is read-only, the process is nobody special."""
    for name in ("api", "worker"):
        container = compose.containers[name]
        assert "Read-only" in container.execute(["touch", "/opt/x"]).stderr
        assert container.execute(["id", "-u"]).stdout.strip() == "10001"
        assert container.execute(["touch", "/tmp/x"]).returncode == 0
    assert "make keys" in compose.containers["api"].log.read_text()


def health_is_cheap(compose: Compose) -> None:
    """The check asks the process itself, and takes little of the processor."""
    for name in ("api", "worker"):
        container = compose.containers[name]
        seconds = min(container.check_seconds() for _ in range(3))
        assert seconds < 10 * CHECK_SECONDS
        print(f"  {name}: a health check takes {1000 * seconds:.0f} ms of processor time")


def uploads_fit_without_a_writable_root(http: httpx.Client) -> None:
    """A file that does not fit in memory's share goes to /tmp."""
    noise = io.BytesIO()
    Pictures.effect_noise((2048, 2048), 120).save(noise, "PNG")
    assert len(noise.getvalue()) > 3_000_000
    answer = http.post("/v1/uploads", files={"file": ("noise.png", noise.getvalue())})
    assert answer.is_success, answer.text


def picture_over_http(http: httpx.Client) -> str:
    """A picture, asked for and fetched over HTTP; returns its id."""
    started = time.monotonic()
    asked = http.post("/v1/generations", json=_request("a red guitar"))
    assert asked.status_code == 202, asked.text
    record = _finished(http, asked.json()["id"])
    picture = Pictures.open(io.BytesIO(http.get(f"/v1/generations/{record['id']}/image").content))
    assert picture.size == (256, 256)
    print(f"  a picture over HTTP in {time.monotonic() - started:.1f} s")
    generation_id: str = record["id"]
    return generation_id


def picture_over_grpc(address: str, key: str = "") -> None:
    """A picture, asked for and watched over gRPC, drawn and enlarged, its tiles streamed."""
    metadata = [("authorization", f"Bearer {key}")] if key else []
    with grpc.insecure_channel(f"{address}:50051") as channel:
        stub = stubs.GenerationServiceStub(channel)
        request = rpc.CreateGenerationRequest(
            prompt="a panda",
            width=256,
            height=256,
            num_inference_steps=4,
            upscale={"model": "fluent-emoji-x4", "scale": 2},
        )
        made = stub.CreateGeneration(request, timeout=30, metadata=metadata).generation
        watch = rpc.StreamTilesRequest(id=made.id)
        tiles = list(stub.StreamTiles(watch, timeout=PICTURE_SECONDS, metadata=metadata))
    assert tiles
    print(f"  a picture over gRPC, in {len(tiles)} messages of tiles")


def prometheus_reads_both(compose: Compose) -> None:
    """Prometheus finds the front ends and the workers by name, and reads what they measure."""
    address = f"http://{compose.network.address('prometheus')}:9090/api/v1/query"
    deadline = time.monotonic() + SCRAPE_SECONDS
    while True:
        answer = httpx.get(address, params={"query": "up"}, timeout=60).json()
        up = {each["metric"]["job"]: each["value"][1] for each in answer["data"]["result"]}
        if up == {"api": "1", "worker": "1"}:
            break
        assert time.monotonic() < deadline, up
        time.sleep(1)
    print("  Prometheus reads the API and the worker")


def drains_with_a_job_under_way(compose: Compose, http: httpx.Client) -> str:
    """SIGTERM: the worker is gone in time and its job is handed back; returns the job's id."""
    asked = http.post(
        "/v1/generations", json=_request("a castle", num_inference_steps=150, width=512)
    )
    generation_id: str = asked.json()["id"]
    _until(http, generation_id, "running")
    worker = compose.containers["worker"]
    status, seconds = worker.stop(45)
    assert status == 0, worker.tail()
    state = http.get(f"/v1/generations/{generation_id}").json()["status"]
    assert state in {"queued", "succeeded"}, state
    status, api_seconds = _stop_api(compose)
    assert status == 0
    print(f"  SIGTERM: the worker left after {seconds:.1f} s, its job {state}")
    print(f"  SIGTERM: the API left after {api_seconds:.1f} s")
    return generation_id


def _stop_api(compose: Compose) -> tuple[int, float]:
    api: Container = compose.containers["api"]
    return api.stop(30)


def was_kept(http: httpx.Client, made: str, waiting: str) -> None:
    """What was accepted and made before the restart is there after it."""
    assert http.get(f"/v1/generations/{made}/image").is_success
    assert http.get("/readyz").status_code == 200
    _finished(http, waiting)


def _http(compose: Compose) -> httpx.Client:
    return httpx.Client(base_url=f"http://{compose.network.address('api')}:8000", timeout=60)


def _request(prompt: str, **more: int) -> dict[str, object]:
    size = {"width": 256, "height": 256, "num_inference_steps": 6, "seed": 1}
    return {"prompt": prompt, **size, **more}


def _finished(http: httpx.Client, generation_id: str) -> dict[str, str]:
    return _until(http, generation_id, "succeeded")


def _until(http: httpx.Client, generation_id: str, status: str) -> dict[str, str]:
    deadline = time.monotonic() + PICTURE_SECONDS
    while True:
        record: dict[str, str] = http.get(f"/v1/generations/{generation_id}").json()
        if record["status"] in {status, "succeeded"}:
            return record
        assert record["status"] != "failed", record
        assert time.monotonic() < deadline, record
        time.sleep(0.1)
