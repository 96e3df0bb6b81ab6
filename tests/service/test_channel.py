"""The messages between supervisor and pipeline process: their wire form, and how the line ends."""

import json
import select
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from service.channel import (
    Alive,
    Cancel,
    Channel,
    ChannelClosed,
    DeviceFree,
    Happened,
    Message,
    Run,
    Stop,
    Warm,
    pair,
)
from service.domain.generations.events import Stepped
from service.domain.generations.generation import Generation

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)

REQUEST = {
    "prompt": "a fox 🦊",
    "negative_prompt": "",
    "model": "fluent-emoji-256",
    "width": 512,
    "height": 768,
    "num_inference_steps": 25,
    "guidance_scale": 5.0,
    "seed": 9007199254740991,
    "scheduler": "DDIMScheduler",
    "method": "hidiffusion",
    "output_format": "png",
}

#: What this leaves out has defaults, so that either side may know more fields than the other.
GENERATION = Generation.model_validate(
    {
        "id": "01J",
        "status": "running",
        "request": REQUEST,
        "priority": "high",
        "attempt": 2,
        "progress": {"phase": "waiting", "step": 0, "total": 0},
        "cancel_requested": False,
        "created_at": "2026-01-02T03:04:05.678900Z",
        "started_at": "2026-01-02T03:04:05.678900Z",
        "finished_at": None,
        "result": None,
        "error": None,
    }
).model_dump(mode="json")

#: Each message and the line it is on the wire: what two versions of the service must agree on.
MESSAGES: list[tuple[Message, dict]] = [
    (
        Run(generation=Generation.model_validate(GENERATION)),
        {"type": "run", "generation": GENERATION, "mates": []},
    ),
    (
        Cancel(generation_id="01J", attempt=2),
        {"type": "cancel", "generation_id": "01J", "attempt": 2, "resumable": False},
    ),
    (Stop(), {"type": "stop"}),
    (
        Warm(models=("fox",), loads=3, evictions=2, capacities={"fox": 4096}),
        {
            "type": "warm",
            "models": ["fox"],
            "loads": 3,
            "evictions": 2,
            "capacities": {"fox": 4096},
        },
    ),
    (
        Happened(
            generation_id="01J",
            event=Stepped(attempt=2, at=WHEN, step=7, total=25, eta_seconds=1.5),
        ),
        {
            "type": "happened",
            "generation_id": "01J",
            "event": {
                "attempt": 2,
                "at": "2026-01-02T03:04:05.678900Z",
                "type": "step",
                "step": 7,
                "total": 25,
                "eta_seconds": 1.5,
            },
        },
    ),
    (Alive(), {"type": "alive"}),
    (
        DeviceFree(generation_id="01J", attempt=2),
        {"type": "device_free", "generation_id": "01J", "attempt": 2},
    ),
]


@pytest.fixture
def ends():
    """A channel, and the bare socket at its other end."""
    channel, wire = pair()
    yield channel, wire
    channel.close()
    wire.close()


def test_every_message_has_the_wire_form_agreed_on(ends):
    channel, wire = ends
    for message, document in MESSAGES:
        channel.send(message)
        line = wire.recv(65536)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert json.loads(line) == document


def test_the_list_of_messages_is_complete():
    listed = {document["type"] for _, document in MESSAGES}
    assert set(TypeAdapter(Message).json_schema()["discriminator"]["mapping"]) == listed


def test_messages_arrive_as_they_were_sent_however_they_are_cut(ends):
    channel, wire = ends
    for message, document in MESSAGES:
        line = json.dumps(document).encode() + b"\n"
        wire.sendall(line[:5])
        assert channel.receive(timeout=0.01) is None
        wire.sendall(line[5:] + line)
        assert channel.receive() == message
        assert channel.receive() == message


def test_two_channels_understand_each_other(ends):
    channel, wire = ends
    other = Channel(wire)
    for message, _ in MESSAGES:
        channel.send(message)
        assert other.receive() == message
    assert other.receive(timeout=0) is None


def test_what_was_sent_before_closing_is_received_before_the_end(ends):
    channel, wire = ends
    wire.sendall(b'{"type": "stop"}\n{"type": "st')
    wire.close()
    assert channel.receive() == Stop()
    with pytest.raises(ChannelClosed, match="end of file"):
        channel.receive()
    with pytest.raises(ChannelClosed):
        channel.send(Stop())


@pytest.mark.parametrize("line", [b"Loading weights...\n", b'{"type": "unknown"}\n', b"\xff\n"])
def test_nonsense_ends_the_channel(ends, line):
    channel, wire = ends
    wire.sendall(line)
    with pytest.raises(ChannelClosed, match="unreadable message"):
        channel.receive()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_deaf_child_dies_with_its_parent():
    child = (
        "import time; from service.channel import die_with_parent; die_with_parent();"
        "print('alive', flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", parent, child], stdout=subprocess.PIPE, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"alive\n"
        process.send_signal(signal.SIGKILL)
        # The child holds the other end of this pipe for as long as it lives.
        ended, _, _ = select.select([process.stdout], [], [], 10)
        assert ended
        assert process.stdout.read() == b""
