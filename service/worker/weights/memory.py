"""How much memory a run takes, from measurements, and how much there is.

What a run of a model takes beside its weights grows with the pixels of all its pictures together:
attention is computed without its matrix, and what the decoder holds is bounded. So two numbers for
each kind of device are enough. `python -m service.worker.process.calibrate` measures them; they lie
in `memory/<model>.json` beside the catalogue.
"""

import math
import os
import resource
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from service.domain.models.catalog import Catalog
from service.worker.weights.devices import dtype_for


class Measured(BaseModel):
    """One measurement: the most that a run held beyond the loaded weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixels: int
    method: str
    bytes: int


class Profile(BaseModel):
    """What one model takes on one kind of device, in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    dtype: str
    #: As `Model.loading`: quantized, offloaded, or "" for neither.
    loading: str = ""
    weights: int
    fixed: int
    per_pixel: float
    measured: tuple[Measured, ...] = ()

    @classmethod
    def fit(
        cls,
        device: str,
        dtype: str,
        weights: int,
        measured: Iterable[Measured],
        *,
        loading: str = "",
    ) -> "Profile":
        """The lowest line with the slope of least squares that no measurement lies above."""
        points = tuple(measured)
        mean_pixels = sum(point.pixels for point in points) / len(points)
        mean_bytes = sum(point.bytes for point in points) / len(points)
        spread = sum((point.pixels - mean_pixels) ** 2 for point in points)
        rise = sum((p.pixels - mean_pixels) * (p.bytes - mean_bytes) for p in points)
        per_pixel = round(max(0.0, rise / spread), 1) if spread else 0.0
        fixed = max(point.bytes - per_pixel * point.pixels for point in points)
        return cls(
            device=device,
            dtype=dtype,
            loading=loading,
            weights=weights,
            fixed=max(0, math.ceil(fixed)),
            per_pixel=per_pixel,
            measured=points,
        )

    def run(self, pixels: int) -> int:
        """What a run of `pixels`, of all its pictures together, takes beside the weights."""
        return self.fixed + math.ceil(self.per_pixel * pixels)


class Profiles(BaseModel):
    """The file of one model: a profile for each kind of device it was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: tuple[Profile, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Profiles":
        """The profiles in a file, none when there is no such file."""
        return cls.model_validate_json(path.read_text()) if path.is_file() else cls()

    def find(self, device: str, dtype: str, loading: str = "") -> Profile | None:
        """The profile of this kind of device, for a model that is loaded so, or None."""
        kind = (device, dtype, loading)
        return next((p for p in self.profiles if (p.device, p.dtype, p.loading) == kind), None)

    def replacing(self, profile: Profile) -> "Profiles":
        """These with `profile` in place of the one of the same kind of device."""
        kind = (profile.device, profile.dtype, profile.loading)
        others = tuple(p for p in self.profiles if (p.device, p.dtype, p.loading) != kind)
        return Profiles(profiles=(*others, profile))


class MemoryModel:
    """What fits into one device's memory.

    A model without a profile is taken to fit: nothing is known against it.

    Attributes:
        budget: bytes for weights and runs together.
        profiles: what each model takes.
    """

    def __init__(self, budget: int, profiles: Mapping[str, Profile]) -> None:
        self.budget = budget
        self.profiles = profiles

    def run(self, model: str, pixels: int) -> int:
        """What a run of `pixels` takes beside the weights; 0 when unknown."""
        profile = self.profiles.get(model)
        return profile.run(pixels) if profile else 0

    def weights(self, model: str) -> int:
        """What the loaded model takes; 0 when unknown."""
        profile = self.profiles.get(model)
        return profile.weights if profile else 0

    def capacity(self, model: str) -> int | None:
        """Most pixels a run can have when nothing else is loaded; None when unknown."""
        profile = self.profiles.get(model)
        if profile is None or not profile.per_pixel:
            return None
        return max(0, int((self.budget - profile.weights - profile.fixed) / profile.per_pixel))

    def fits_now(self, model: str, free: int) -> int | None:
        """Most pixels a run can have in `free` bytes, the model being loaded; None if unknown."""
        profile = self.profiles.get(model)
        if profile is None or not profile.per_pixel:
            return None
        return max(0, int((free - profile.fixed) / profile.per_pixel))

    @property
    def capacities(self) -> dict[str, int]:
        """`capacity` of every model for which it is known."""
        known = {name: self.capacity(name) for name in self.profiles}
        return {name: pixels for name, pixels in known.items() if pixels is not None}


def profile_path(catalog: Path, model: str) -> Path:
    """Where the profiles of a model lie."""
    return catalog.parent / "memory" / f"{model}.json"


def load_profiles(
    path: Path, catalog: Catalog, device: torch.device, dtype: torch.dtype
) -> dict[str, Profile]:
    """The profile of each model of the catalogue at `path` that was measured on such a device."""
    found = {
        model.name: Profiles.load(profile_path(path, model.name)).find(
            device.type, dtype_name(dtype_for(model, dtype)), model.loading
        )
        for model in catalog.models
    }
    return {model: profile for model, profile in found.items() if profile is not None}


def dtype_name(dtype: torch.dtype) -> str:
    """As profiles and settings call it, such as float16."""
    return str(dtype).removeprefix("torch.")


def free_memory(device: torch.device) -> int:
    """Bytes this process could still take: of the device, else of the machine or its cgroup."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    free = _machine_memory() - (peak if sys.platform == "darwin" else peak * 1024)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return free if limit == resource.RLIM_INFINITY else min(free, limit - _address_space())


def _address_space() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _machine_memory() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return total if text == "max" else min(total, int(text))
