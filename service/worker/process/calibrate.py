"""Measure what a model takes on this device: `python -m service.worker.process.calibrate MODEL`.

Settings come from the environment, as the worker's do. Each run is a whole one, from the prompt to
the stored result, of two denoising steps: one early and one late, which is all the kinds there are.
An upscaler enlarges noise.
The profile is written to `memory/MODEL.json` beside the catalogue, in place of an older one of the
same kind of device; commit it, or deploy it, with the catalogue.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from ulid import ULID

from service.application.ports import ObjectStore
from service.domain.artifacts import MEDIA_TYPES
from service.domain.generations.events import Event, Failed
from service.domain.generations.generation import Generation, Status
from service.domain.models.catalog import Model
from service.domain.requests.request import ResolvedRequest
from service.settings import Settings, StoreSettings
from service.storage.encode import encode
from service.storage.store import open_store
from service.worker.job.attempt import Attempt
from service.worker.process.libraries import tune_libraries
from service.worker.run.generate import Studio
from service.worker.weights.devices import dtype_for
from service.worker.weights.memory import Measured, Profile, Profiles, dtype_name, profile_path
from service.worker.weights.pipelines import Pipelines

#: Sides to measure, in native sizes of the model.
SIDES = (1.0, 1.5, 2.0, 3.0, 4.0)

_MIB = 1024**2

_PICTURE_KEY = "uploads/calibration.png"


class Meter:
    """Reads how much memory is taken, now and at most: of the CUDA device, or of the process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type != "cuda" and sys.platform != "linux":
            raise RuntimeError(
                f"memory of device {device.type!r} cannot be measured on {sys.platform!r}; "
                "calibrate on Linux or on CUDA"
            )

    def now(self) -> int:
        """Bytes taken now."""
        if self._device.type == "cuda":
            return torch.cuda.memory_reserved(self._device)
        return _status("VmRSS")

    def begin(self) -> None:
        """Forget the peak."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """Most bytes taken since `begin`."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device)
        return _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def calibrate(settings: Settings, name: str, sides: Iterable[float] = SIDES) -> Profile:
    """Measure one model and return its profile on this device.

    Args:
        settings: of the whole service; results go to the store they name.
        name: of the model.
        sides: of the squares to make, in native sizes, ascending.
    """
    pipelines = Pipelines(settings)
    meter = Meter(pipelines.device)
    empty = meter.now()
    warm = pipelines.get(name)
    weights = meter.now() - empty
    store = open_store(settings.store)
    studio = Studio(pipelines, store, settings.worker)
    measured = []
    for side in sides:
        multiple = warm.model.size_multiple
        pixels = round(warm.model.native_size * side / multiple) * multiple
        if pixels > warm.model.max_size:
            break
        usual = warm.model.default_method_at(pixels, pixels)
        for method in dict.fromkeys((usual, "direct")):
            meter.begin()
            _make(studio, _asked(store, warm.model, pixels, method))
            taken = meter.peak() - empty - weights
            measured.append(Measured(pixels=pixels**2, method=method, bytes=max(0, taken)))
            _say(f"{pixels} x {pixels}, {method}: {taken / _MIB:.0f} MiB")
    dtype = dtype_name(dtype_for(warm.model, pipelines.dtype))
    kind = pipelines.device.type
    return Profile.fit(kind, dtype, weights, measured, loading=warm.model.loading)


def _asked(store: ObjectStore, model: Model, side: int, method: str) -> Generation:
    """A square of `side` pixels; an upscaler's picture is put into the store."""
    steps, inputs, enlarged = 2, {}, {}
    if model.kind == "upscaler":
        scale = max(model.scales)
        shape = (side // scale, side // scale, 3)
        small = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        store.put(_PICTURE_KEY, encode(small, "png"), MEDIA_TYPES["png"])
        inputs = {"picture": _PICTURE_KEY}
        steps, enlarged = min(steps, model.default_steps), {"image": "picture", "scale": scale}
    request = ResolvedRequest(
        prompt="calibration",
        negative_prompt="",
        model=model.name,
        width=side,
        height=side,
        num_inference_steps=steps,
        guidance_scale=model.default_guidance_scale,
        seed=0,
        scheduler=model.default_scheduler,
        method=method if method in model.methods else model.default_method_at(side, side),
        output_format="png",
        **enlarged,
    )
    return Generation(
        id=str(ULID()),
        status=Status.RUNNING,
        request=request,
        created_at=datetime.now(UTC),
        inputs=inputs,
    )


def _make(studio: Studio, generation: Generation) -> None:
    told: list[Event] = []
    studio.run([Attempt(generation, told.append, lambda: False)])
    if isinstance(told[-1], Failed):
        request = generation.request
        raise RuntimeError(f"{request.width} x {request.height} pixels: {told[-1].error.detail}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m service.worker.process.calibrate", description=__doc__
    )
    parser.add_argument("model", help="a model of the catalogue")
    options = parser.parse_args(arguments)
    tune_libraries()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(store=StoreSettings(url=Path(folder).as_uri()))
        profile = calibrate(settings, options.model)
    path = profile_path(settings.catalog, options.model)
    path.parent.mkdir(exist_ok=True)
    profiles = Profiles.load(path).replacing(profile)
    path.write_text(profiles.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _say(
        f"weights {profile.weights / _MIB:.0f} MiB; a run {profile.fixed / _MIB:.0f} MiB and "
        f"{profile.per_pixel:g} bytes for each pixel; written to {path}"
    )


if __name__ == "__main__":
    main()
