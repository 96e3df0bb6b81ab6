"""What is wrong with the entries of the catalogue, before a request finds out."""

import importlib.util
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from service.catalog.inspect import Found, UnknownWeights, inspect_model, read_config, read_header
from service.catalog.transformers import TOKEN_PIXELS
from service.domain.models.adapters import Weights
from service.domain.models.catalog import Model
from service.domain.models.low_memory import package_trouble
from service.domain.models.methods import METHODS, draws_with
from service.domain.models.schedulers import class_of

#: Where a source lies that is neither a folder nor a file here: in the hub, perhaps.
_HUB_ID_PARTS = 2


def troubles(model: Model, schedulers: frozenset[str]) -> Iterator[str]:
    """What is wrong with one model, a sentence each; nothing where all is well.

    Args:
        model: its entry, with its sources located.
        schedulers: classes that the installed diffusers has; empty: it is not installed.
    """
    found = None
    try:
        found = _inspected(model.source) if model.kind == "text-to-image" else None
    except UnknownWeights as error:
        yield str(error)
    if found is not None and found.native_size not in (None, model.native_size):
        network = "U-Net" if found.network == "unet" else "transformer"
        yield (
            f"native_size is {model.native_size}, and its {network} was trained at "
            f"{found.native_size}"
        )
    if found is not None:
        yield from _unfit(model, found)
    if schedulers and model.quantization is not None:
        missing = package_trouble(model.quantization)
        yield from [missing] if missing else []
    if model.engine == "spandrel":
        yield from _missing_file(Path(model.source))
    for name in model.schedulers if model.kind == "text-to-image" else ():
        if schedulers and class_of(name) not in schedulers:
            near = get_close_matches(name, schedulers, 1) or ["EulerDiscreteScheduler"]
            yield f"diffusers has no scheduler {name!r}; did you mean {near[0]}?"
    if model.vae is not None and Path(model.vae).is_dir():
        yield from _missing(Path(model.vae) / "config.json")
    for part in (*model.loras, *model.embeddings):
        yield from _weights(part)
    for net in model.controls:
        if not _is_hub_id(net.source):
            yield from _missing(Path(net.source) / "config.json")
    if model.ip_adapter is not None and not _is_hub_id(model.ip_adapter.source):
        adapter = model.ip_adapter
        yield from _missing_file(Path(adapter.source) / adapter.subfolder / adapter.file)


def _unfit(model: Model, found: Found) -> Iterator[str]:
    """What is not for the network that the model has."""
    if found.network == "transformer":
        if model.size_multiple % TOKEN_PIXELS:
            multiple = model.size_multiple
            yield f"size_multiple is {multiple}; sides are multiples of {TOKEN_PIXELS} here"
        for kind in ("controls", "ip_adapter"):
            if getattr(model, kind):
                yield f"{kind}: the service has these for U-Nets alone; leave {kind} out"
    for method in model.methods:
        if not draws_with(method, found.network):
            able = ", ".join(name for name in METHODS if draws_with(name, found.network))
            other = "U-Nets" if found.network == "transformer" else "diffusion transformers"
            yield f"method {method!r} is made for {other}; use {able}"


def checker_troubles(source: str) -> Iterator[str]:
    """What is wrong with the safety checker of the catalogue, a sentence each."""
    if not _is_hub_id(source):
        for name in ("config.json", "preprocessor_config.json"):
            yield from _missing(Path(source) / name)


def installed_schedulers() -> frozenset[str]:
    """Scheduler classes of the diffusers that is installed, read from its source; none without it.

    Importing diffusers would load torch, which takes seconds and need not be installed.
    """
    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        return frozenset()
    files = (Path(spec.origin).parent / "schedulers").glob("scheduling_*.py")
    classes = re.compile(r"^class (\w+Scheduler)\(", re.MULTILINE)
    return frozenset(name for file in files for name in classes.findall(file.read_text("utf-8")))


def is_hub_id(source: str) -> bool:
    """Whether a source that is not here can be a hub's: OWNER/NAME."""
    parts = source.split("/")
    return len(parts) == _HUB_ID_PARTS and all(parts) and not source.startswith((".", "~"))


def _is_hub_id(source: str) -> bool:
    return not Path(source).exists() and is_hub_id(source)


def _inspected(source: str) -> Found | None:
    if Path(source).is_dir():
        return inspect_model(Path(source))
    if Path(source).is_file():
        raise UnknownWeights(
            f"source {source!r} is a file; a model is a folder: `hidiffusion models add` makes one"
        )
    if is_hub_id(source):
        return None
    raise UnknownWeights(f"source {source!r} is not there, and no hub's OWNER/NAME")


def _weights(part: Weights) -> Iterator[str]:
    path = Path(part.source)
    if _is_hub_id(part.source):
        return
    path = path / part.file if part.file else path
    yield from _missing_file(path)
    if path.is_file() and path.suffix == ".safetensors":
        try:
            read_header(path)
        except UnknownWeights as error:
            yield str(error)


def _missing_file(path: Path) -> Iterator[str]:
    if not path.exists():
        yield f"{str(path)!r} is missing"


def _missing(config: Path) -> Iterator[str]:
    try:
        read_config(config)
    except UnknownWeights as error:
        yield str(error)
