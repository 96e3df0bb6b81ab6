"""From the last denoising step to the stored result, beside decode-everything-then-save.

    python -m benchmarks.decoding.latency           table and one JSON document as the last line
    python -m benchmarks.decoding.latency --size 2048 another size
    python -m benchmarks.decoding.latency --write   also renew results/decode-latency.json
    python -m benchmarks.decoding.latency --device cuda   in bfloat16 on the SDXL decoder's shape

Ours is what the worker runs, into a folder: the last preview, tiles of all levels while the picture
is decoded, the full PNG, the thumbnail, the manifest. The rival decodes in one piece, converts as
diffusers does, and saves one PNG with Pillow; nothing can be seen before that. Both take turns.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor

from benchmarks.decoding.costs import counted, drain, narrow_vae, sd_decoder
from hidiffusion.decode import PreviewFactors, unscale
from service.domain.generations.events import Event
from service.domain.generations.generation import Generation, Status
from service.domain.requests.request import ResolvedRequest
from service.settings import StoreSettings, WorkerSettings
from service.storage.store import open_store
from service.worker.engines.decoding import decoded
from service.worker.job.attempt import Attempt
from service.worker.job.stopwatch import Stopwatch
from service.worker.result.preview import Previews
from service.worker.result.render import Rendering

RESULTS = Path(__file__).parents[1] / "results"
GIB = 2**30

#: What is timed, in the order it happens; the first four are ours.
MARKS = {
    "preview": "last preview (approximate)",
    "first_tile": "first exact tile",
    "last_tile": "last exact tile",
    "result": "PNG, thumbnail, manifest",
    "decoded": "undivided: decoded",
    "saved": "undivided: PNG saved",
}


class Marks:
    """Seconds since the last step, on the clock and of the processor."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}

    def set(self, name: str) -> None:
        """Note the time; a mark that is set again keeps its first time."""
        if name not in self.seconds:
            self.seconds[name] = time.perf_counter() - self._begin[0]
            self.processor[name] = time.process_time() - self._begin[1]


def generation_of(size: int) -> Generation:
    """A record of a running generation; only its size and formats matter here."""
    request = ResolvedRequest(
        prompt="benchmark",
        negative_prompt="",
        model="benchmark",
        width=size,
        height=size,
        num_inference_steps=1,
        guidance_scale=1.0,
        seed=0,
        scheduler="DDIMScheduler",
        method="direct",
        output_format="png",
    )
    now = datetime.now(UTC)
    return Generation(
        id="benchmark", status=Status.RUNNING, request=request, attempt=1, created_at=now
    )


def ours(vae: AutoencoderKL, latents: Tensor, size: int, folder: Path) -> Marks:
    """Preview, decode and store as the worker does."""
    store = open_store(StoreSettings(url=folder.as_uri()))
    channels = latents.shape[1]
    factors = PreviewFactors(((0.1, 0.2, 0.3),) * channels, (0.0, 0.0, 0.0))
    marks = Marks()

    def hear(event: Event) -> None:
        if event.type == "preview":
            marks.set("preview")
        if event.type == "tile":
            marks.set("first_tile")
            if event.done == event.total:
                marks.set("last_tile")

    attempt = Attempt(generation_of(size), hear, lambda: False)
    with Previews(attempt, store, factors).running() as previews:
        previews.show_last(1, latents)
    settings, clock = WorkerSettings(), Stopwatch()
    with Rendering(
        attempt, store=store, settings=settings, recipe=_RECIPE, stopwatch=clock
    ) as rendering:
        rendering.draw(
            lambda missing: decoded(vae, latents, attempt, missing=missing, stopwatch=clock)
        )
        rendering.finish()
    marks.set("result")
    return marks


_RECIPE: dict[str, Any] = {"request": generation_of(8).request.model_dump()}


@torch.no_grad()
def rival(vae: AutoencoderKL, latents: Tensor, folder: Path) -> Marks:
    """Decode in one piece, then save with Pillow as it comes."""
    marks = Marks()
    decoded = vae.decode(unscale(vae, latents)).sample
    if decoded.is_cuda:
        torch.cuda.synchronize()
    marks.set("decoded")
    image = VaeImageProcessor().postprocess(decoded, output_type="pil")[0]
    image.save(folder / "picture.png")
    marks.set("saved")
    return marks


def peaks(vae: AutoencoderKL, latents: Tensor, device: str) -> dict[str, float]:
    """Give the peak memory of both decodes in GiB: the GPU allocator's, or counted tensors."""
    runs: dict[str, Callable[[AutoencoderKL, Tensor], object]] = {
        "ours": drain,
        "undivided": lambda coder, values: coder.decode(values),
    }
    if device == "cpu":
        vae, latents = copy.deepcopy(vae).to("meta"), latents.to("meta")
        counts = {name: counted(partial(run, vae, latents)).peak for name, run in runs.items()}
        return {name: round(peak / GIB, 2) for name, peak in counts.items()}
    found = {}
    for name, run in runs.items():
        torch.cuda.reset_peak_memory_stats()
        run(vae, latents)
        found[name] = round(torch.cuda.max_memory_allocated() / GIB, 2)
    return found


@torch.no_grad()
def measure(size: int, device: str, rounds: int) -> dict[str, Any]:
    """Take turns, and give the median of each mark."""
    vae = narrow_vae() if device == "cpu" else sd_decoder(device, torch.bfloat16)
    shape = (1, vae.config.latent_channels, size // 8, size // 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, vae.dtype)
    taken: list[Marks] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours(vae, latents[:, :, :32, :32], 256, folder)
        for _ in range(rounds):
            taken.append(ours(vae, latents, size, folder))
            taken.append(rival(vae, latents, folder))
    return {
        "size": size,
        "device": device,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "channels": vae.config.block_out_channels,
        "seconds": _medians([marks.seconds for marks in taken]),
        "cpu_seconds": _medians([marks.processor for marks in taken]),
        "decode_peak_gib": peaks(vae, latents, device),
    }


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(statistics.median(times[name] for times in rounds if name in times), 3)
        for name in MARKS
    }


def table(result: dict[str, Any]) -> str:
    """Lay the times out for people, with the share of the rival's whole time."""
    lines = [
        "| after the last step | seconds | of the rival's | CPU seconds | of the rival's |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, title in MARKS.items():
        cells = []
        for times in (result["seconds"], result["cpu_seconds"]):
            cells += [f"{times[name]:.2f}", f"{times[name] / times['saved']:.3f}"]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    memory = result["decode_peak_gib"]
    lines.append(f"\npeak of the decode: {memory['ours']} GiB, undivided {memory['undivided']} GiB")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096, help="side of the picture in pixels")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side")
    parser.add_argument("--write", action="store_true", help="renew results/decode-latency*.json")
    options = parser.parse_args()
    result = measure(options.size, options.device, options.rounds)
    print(table(result))
    if options.write:
        name = f"decode-latency{'-cuda' if options.device == 'cuda' else ''}.json"
        (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
