"""The models a deployment offers, as clients see them, and the limits each one has."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.domain.models.adapters import Embedding, Lora
from service.domain.models.controls import ControlNet
from service.domain.models.image_prompts import IpAdapter
from service.domain.models.low_memory import Offload, Quantization
from service.domain.models.methods import METHODS, Method, OptionValue, option_violations
from service.domain.models.schedulers import scheduler_violations

_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"

#: What a model makes pictures from.
Kind = Literal["text-to-image", "class-to-image", "upscaler"]

#: What runs it: a file in `service/worker/engines/`.
EngineName = Literal["latent-diffusion", "dimr", "inf-dit", "spandrel"]

#: Those that enlarge pictures.
UPSCALERS = ("inf-dit", "spandrel")


class Model(BaseModel):
    """One model: where its weights lie and what may be asked of it. Sizes in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    #: Other names that requests may use, such as those that an app is tied to.
    aliases: tuple[Annotated[str, Field(pattern=_NAME)], ...] = ()
    title: str
    #: Folder (relative to the catalogue file) or hub id for `DiffusionPipeline.from_pretrained`; of
    #: the engine spandrel, a file.
    source: str
    kind: Kind = "text-to-image"
    engine: EngineName = "latent-diffusion"
    #: Of an upscaler: how many times larger it makes a picture.
    scales: tuple[int, ...] = ()
    #: What kind of model it is, as `hidiffusion models add` found; for people.
    family: str = ""
    #: Of the hub id: a branch, tag or commit.
    revision: str | None = None
    #: Of the weights' files, such as fp16; found by itself where a folder has no other.
    variant: str | None = None
    #: Folder or hub id of an autoencoder in place of its own.
    vae: str | None = None
    #: It overflows float16, so workers that compute in half precision take bfloat16 for it.
    bfloat16: bool = False
    #: Stores the weights of its large networks in fewer bits: less memory, slightly other pictures.
    quantization: Quantization | None = None
    #: Keeps parts that do not compute at the moment in the machine's memory: for GPUs.
    offload: Offload | None = None
    #: Changes to the configuration of its schedulers, by diffusers' names.
    scheduler_config: dict[str, str | bool | int | float] = Field(default_factory=dict)
    #: Of a class-to-image model: the names of each class, several divided by commas, in order.
    classes: tuple[str, ...] = ()
    native_size: int
    min_size: int = 64
    max_size: int = 4096
    #: Sides are multiples of this many pixels: 8 of U-Nets, 16 of transformers.
    size_multiple: int = 8
    default_size: int
    default_steps: int = 25
    default_guidance_scale: float = 5.0
    default_scheduler: str
    default_method: str = "hidiffusion"
    schedulers: tuple[str, ...]
    methods: tuple[str, ...]
    #: Defaults of options, by method, where the method's own do not suit the model.
    method_options: dict[str, dict[str, OptionValue]] = Field(default_factory=dict)
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    controls: tuple[ControlNet, ...] = ()
    ip_adapter: IpAdapter | None = None
    #: Whether requests may have their prompts read with weights: compel knows CLIP text encoders.
    prompt_weighting: bool = True

    @property
    def loading(self) -> str:
        """How it is loaded where that is not plain, for what was measured of it."""
        return " ".join(filter(None, (self.quantization, self.offload)))

    @property
    def class_names(self) -> tuple[tuple[str, ...], ...]:
        """The names of each class."""
        return tuple(tuple(name.strip() for name in each.split(",")) for each in self.classes)

    @property
    def image_prompt(self) -> bool:
        """Whether requests may have a picture as a prompt."""
        return self.ip_adapter is not None

    @property
    def method_details(self) -> tuple[Method, ...]:
        """Limits and options of its methods."""
        return tuple(self.method(name) for name in self.methods)

    def method(self, name: str) -> Method:
        """One of its methods, with the defaults that suit the model."""
        return METHODS[name].with_defaults(self.method_options.get(name, {}))

    def default_method_at(self, width: int, height: int) -> str:
        """`default_method`, or `direct` for a picture that is too small for it."""
        scale = math.sqrt(max(0, width * height)) / self.native_size
        return self.default_method if METHODS[self.default_method].draws(scale) else "direct"

    @model_validator(mode="after")
    def _upscalers_are_whole(self) -> "Model":
        upscales = self.kind == "upscaler"
        if upscales != bool(self.scales) or upscales != (self.engine in UPSCALERS):
            raise ValueError(
                f"model {self.name!r} is of kind {self.kind!r}, with engine {self.engine!r} and "
                f"scales {self.scales}: an upscaler has engine {' or '.join(map(repr, UPSCALERS))} "
                "and scales, and no other kind has"
            )
        if self.engine == "spandrel" and self.default_steps != 1:
            raise ValueError(f"model {self.name!r} enlarges in one pass: set default_steps to 1")
        return self

    @model_validator(mode="after")
    def _can_be_loaded_so(self) -> "Model":
        if self.loading and self.engine != "latent-diffusion":
            raise ValueError(
                f"model {self.name!r} has engine {self.engine!r}, whose weights are loaded as they "
                "are: leave quantization and offload out"
            )
        if self.quantization is not None and self.offload == "group":
            raise ValueError(
                f"offload is {self.offload!r}, which takes layers apart that quantization "
                f"{self.quantization!r} packs: use offload 'model', or one of the two"
            )
        return self

    @model_validator(mode="after")
    def _classes_are_whole(self) -> "Model":
        draws_classes = self.kind == "class-to-image"
        if draws_classes != bool(self.classes) or draws_classes != (self.engine == "dimr"):
            raise ValueError(
                f"model {self.name!r} is of kind {self.kind!r}, with engine {self.engine!r} and "
                f"{len(self.classes)} classes: a class-to-image model has engine 'dimr' and "
                "classes, and no other kind has"
            )
        if draws_classes and (self.methods != ("direct",) or self.prompt_weighting):
            raise ValueError(
                f"model {self.name!r} draws classes: its methods are ['direct'], and "
                "prompt_weighting is false"
            )
        return self

    @model_validator(mode="after")
    def _defaults_are_allowed(self) -> "Model":
        for wrong in scheduler_violations(self.default_scheduler, self.schedulers):
            raise ValueError(f"default_{wrong.field} {wrong.value}: {wrong.description}")
        if self.default_method not in self.methods:
            raise ValueError(
                f"default_method {self.default_method!r} of model {self.name!r} is not in "
                f"{self.methods}"
            )
        for name in self.methods:
            if name not in METHODS:
                known = ", ".join(METHODS)
                raise ValueError(f"method {name!r} of model {self.name!r} is unknown: use {known}")
        for name, options in self.method_options.items():
            if name not in self.methods:
                raise ValueError(f"method_options of model {self.name!r} name no method: {name!r}")
            for wrong in option_violations(METHODS[name], options):
                raise ValueError(f"{wrong.field} {wrong.value} of {name!r}: {wrong.description}")
        for kind, names in (
            ("loras", [lora.name for lora in self.loras]),
            ("controls", [net.name for net in self.controls]),
            ("embeddings", [embedding.token for embedding in self.embeddings]),
        ):
            if len({*names}) < len(names):
                raise ValueError(f"two {kind} of model {self.name!r} have one name: {names}")
        if METHODS[self.default_method].min_scale and "direct" not in self.methods:
            raise ValueError(
                f"default_method {self.default_method!r} of model {self.name!r} cannot draw small "
                "pictures: add 'direct' to its methods"
            )
        return self


class Catalog(BaseModel):
    """All models of a deployment; the first is the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Model, ...] = Field(min_length=1)
    #: Folder or hub id of Stable Diffusion's safety checker, which then looks at every picture.
    safety_checker: str | None = None

    @model_validator(mode="after")
    def _names_are_single(self) -> "Catalog":
        names = [name for model in self.models for name in (model.name, *model.aliases)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names and aliases must differ; twice there are {', '.join(twice)}")
        return self

    def find(self, name: str) -> Model | None:
        """The model called `name`, or that has it as an alias, or None."""
        return next((each for each in self.models if name in (each.name, *each.aliases)), None)

    @property
    def default(self) -> Model:
        """The model used when a request names none."""
        return self.models[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Every model's name, in the catalogue's order."""
        return tuple(model.name for model in self.models)
