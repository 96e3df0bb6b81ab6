"""Clients that go on asking for pictures whatever happens, and know what was promised to them."""

import io
import random
import threading
import time
import uuid
from collections.abc import Callable

import httpx
from PIL import Image as Pictures

from tests.deploy.pods.pod import Pod

#: Everything that was accepted, on two slow cores.
DONE_SECONDS = 1800.0

#: Of each picture, in pixels.
SIZE = {"width": 256, "height": 256}

#: Answers after which a client asks again.
LATER = {429, 502, 503, 504}


class Clients:
    """Send requests to whichever front end is ready, with a key of idempotency each, and repeat
    what was not answered; as a client of a load balancer should.
    """

    def __init__(self, ready: Callable[[], list[Pod]], pause_seconds: float, several: int) -> None:
        self._ready = ready
        self._pause = pause_seconds
        self._end = threading.Event()
        self.accepted: dict[str, str] = {}
        self.repeated = 0
        self._threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(several)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Send nothing more; what was sent is answered first."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Everything that was accepted is done, whole, and there once.

        Raises:
            AssertionError: Something is missing, failed, or there twice.
        """
        deadline = time.monotonic() + DONE_SECONDS
        for generation_id in self.accepted.values():
            while (record := self._get(f"/v1/generations/{generation_id}"))[
                "status"
            ] != "succeeded":
                assert record["status"] in {"queued", "running"}, record
                assert time.monotonic() < deadline, record
                time.sleep(0.5)
            picture = self._send("GET", f"/v1/generations/{generation_id}/image").content
            assert Pictures.open(io.BytesIO(picture)).convert("RGB").size == tuple(SIZE.values())
        listed = self._listed()
        assert sorted(listed) == sorted(self.accepted.values()), "doubled, or lost from the list"

    def _listed(self) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = self._get(f"/v1/generations?limit=100{cursor}")
            found += [each["id"] for each in page["generations"]]
            if not page.get("next_cursor"):
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def ask(self) -> None:
        """Ask for one more picture."""
        key, seed = str(uuid.uuid4()), random.randrange(2**31)
        request = {"prompt": "a red guitar", "num_inference_steps": 6, "seed": seed} | SIZE
        headers = {"idempotency-key": key}
        answer = self._send("POST", "/v1/generations", json=request, headers=headers)
        self.accepted[key] = answer.json()["id"]

    def _ask_on(self) -> None:
        while not self._end.wait(self._pause):
            self.ask()

    def _get(self, path: str) -> dict[str, object]:
        read: dict[str, object] = self._send("GET", path).json()
        return read

    def _send(self, method: str, path: str, **more: object) -> httpx.Response:
        """Ask until somebody answers; refusals that will pass are repeated."""
        deadline = time.monotonic() + DONE_SECONDS
        while True:
            try:
                pod = random.choice(self._ready())
                url = f"http://{pod.address}:8000{path}"
                answer = httpx.request(method, url, timeout=60, **more)  # type: ignore[arg-type]
                if answer.status_code not in LATER:
                    return answer.raise_for_status()
            except (httpx.TransportError, IndexError, KeyError):
                pass  # nobody was ready, or the one that was asked has gone
            self.repeated += 1
            assert time.monotonic() < deadline, path
            time.sleep(0.5)
