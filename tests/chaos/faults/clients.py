"""Clients that do not read, and receivers of webhooks that do not answer."""

import random
import socket
import time

import httpx

from service.domain.generations.generation import Generation, Status
from tests.chaos.process import Process
from tests.chaos.stack import Stack

#: Streams of events, and pictures, that are asked for and not read.
SLOW_CLIENTS = 40

#: Longest that a stream takes from now to its generation's final event.
STREAM_SECONDS = 240.0

#: Longest that others wait for an answer while clients are slow.
OTHERS_SECONDS = 10.0


def slow_clients(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """Many ask for events and pictures and do not read; some go, some read in the end."""
    done = stack.records.list(status=Status.SUCCEEDED, cursor=None, limit=1).generations[0]
    here = stack.records.get(generation_id)
    watchers = [_ask(stack, here, "events") for _ in range(SLOW_CLIENTS)]
    others = [_ask(stack, done, "image") for _ in range(SLOW_CLIENTS)]
    time.sleep(chance.uniform(1, 4))
    httpx.get(f"{stack.url}/healthz", timeout=OTHERS_SECONDS).raise_for_status()
    for each in (*watchers[2:], *others):
        each.close()
    for each in watchers[:2]:
        with each, each.makefile("rb") as answer:
            told = answer.read()
        assert told.count(b"event: succeeded") == 1, told[-2000:]


def hang_receivers(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """Receivers of webhooks take what is sent and do not answer, until the generation has ended."""
    stack.receiver.hold.clear()
    deadline = time.monotonic() + STREAM_SECONDS
    while not stack.records.get(generation_id).status.final:
        assert time.monotonic() < deadline, f"{generation_id} waits for a webhook"
        time.sleep(0.1)
    time.sleep(chance.uniform(1, 6))
    stack.receiver.hold.set()


def kill_deliverer(stack: Stack, generation_id: str, chance: random.Random) -> None:
    """kill -9 what delivers webhooks, with one under way as often as not; another is started."""
    if chance.random() < 0.5:
        stack.receiver.hold.clear()
        while not stack.records.get(generation_id).status.final:
            time.sleep(0.1)
        time.sleep(1.0)
    stack.deliverer.kill()
    stack.receiver.hold.set()
    stack.deliverer = Process(stack, "webhooks", "deliver")


def _ask(stack: Stack, generation: Generation, what: str) -> socket.socket:
    """A request whose answer waits to be read, with little room for it on the way."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    end.settimeout(STREAM_SECONDS)
    end.connect(("127.0.0.1", stack.http_port))
    headers = {"host": "127.0.0.1", "connection": "close"} | stack.headers(generation.tenant)
    lines = [f"GET /v1/generations/{generation.id}/{what} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    end.sendall("\r\n".join([*lines, "", ""]).encode())
    return end
