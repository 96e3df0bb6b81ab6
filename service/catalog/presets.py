"""Values that suit known models, by their structure or by name; each says where it is from."""

from dataclasses import dataclass, field, replace
from typing import Any

from service.catalog.inspect import PIPELINES, Found
from service.domain.models.methods import METHODS, OptionValue, draws_with

#: Largest side offered, in pixels: what the methods are measured up to.
MAX_SIZE = 4096

_SCHEDULERS = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DDIMScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
)


@dataclass(frozen=True)
class Preset:
    """What an entry of the catalogue is filled with; sizes in pixels.

    Attributes:
        name: what `--preset` takes.
        title: for people.
        structure: of `Found`.
        native_size: side of its training pictures.
        default_size: side of a picture when a request does not say.
        words: parts of a source's name that tell it from others of its structure.
        scheduler_config: changes to the configuration of its schedulers.
        method_options: defaults of options, where a method's own do not suit it.
    """

    name: str
    title: str
    structure: str
    native_size: int
    default_size: int
    steps: int
    guidance_scale: float
    scheduler: str
    schedulers: tuple[str, ...] = _SCHEDULERS
    words: tuple[str, ...] = ()
    scheduler_config: dict[str, str] = field(default_factory=dict)
    method_options: dict[str, dict[str, OptionValue]] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """What estimates the noise: "unet" or "transformer"."""
        return "unet" if self.structure in PIPELINES.values() else "transformer"

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that draw with its network in so few steps."""
        able = [m for m in METHODS.values() if draws_with(m.name, self.network)]
        return tuple(m.name for m in able if m.min_steps <= self.steps)

    @property
    def default_method(self) -> str:
        """The best there is for its network."""
        return "hidiffusion" if self.network == "unet" else "refine"


_TRAILING = {"timestep_spacing": "trailing"}

_FLOW = "FlowMatchEulerDiscreteScheduler"


def _flow(
    name: str, title: str, structure: str, steps: int, guidance_scale: float, **more: Any
) -> Preset:
    """A diffusion transformer, to be drawn at twice its native size."""
    native = more.pop("native_size", 1024)
    return Preset(
        name, title, structure, native, 2 * native, steps, guidance_scale, _FLOW,
        schedulers=(_FLOW,), **more,
    )  # fmt: skip


#: Of four steps: two at full size, where a third would be one.
_HALF_LARGE: dict[str, dict[str, OptionValue]] = {"refine": {"strength": 0.5}}


# Steps, guidance and schedulers of Stable Diffusion are the defaults of diffusers' pipelines with
# the scheduler that the model's card shows.
_SD15 = Preset(
    "sd15", "Stable Diffusion 1.5", "sd", 512, 1024, 30, 7.5, "DPMSolverMultistepScheduler"
)
_SDXL = Preset("sdxl", "Stable Diffusion XL", "sdxl", 1024, 1024, 30, 5.0, "EulerDiscreteScheduler")

#: The more particular first; the last of a structure is its plain model.
PRESETS: tuple[Preset, ...] = (
    # Card of stabilityai/sdxl-turbo: 512 pixels, 1 to 4 steps, guidance 0, trailing.
    Preset(
        "sdxl-turbo", "SDXL-Turbo", "sdxl", 512, 512, 4, 0.0, "EulerAncestralDiscreteScheduler",
        words=("turbo",), scheduler_config=_TRAILING,
    ),
    # Card of ByteDance/SDXL-Lightning: Euler, trailing, guidance 0, the steps it was distilled to.
    Preset(
        "sdxl-lightning", "SDXL-Lightning", "sdxl", 1024, 1024, 4, 0.0, "EulerDiscreteScheduler",
        words=("lightning",), scheduler_config=_TRAILING,
    ),
    # Card of playgroundai/playground-v2.5-1024px-aesthetic: 50 steps, guidance 3, EDM.
    Preset(
        "playground-v2.5", "Playground v2.5", "sdxl", 1024, 1024, 50, 3.0,
        "EDMDPMSolverMultistepScheduler",
        schedulers=("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler"),
        words=("playground-v2-5",),
    ),
    # Card of playgroundai/playground-v2-1024px-aesthetic: guidance 3.
    Preset(
        "playground-v2", "Playground v2", "sdxl", 1024, 1024, 50, 3.0, "EulerDiscreteScheduler",
        words=("playground-v2",),
    ),
    # Card of segmind/SSD-1B: guidance 9 with a negative prompt.
    replace(_SDXL, name="ssd-1b", title="SSD-1B", guidance_scale=9.0, words=("ssd-1b",)),
    _SDXL,
    # Card of stabilityai/stable-diffusion-2-1: 768 pixels, v-prediction.
    replace(
        _SD15, name="sd21", title="Stable Diffusion 2.1, 768 pixels", native_size=768,
        default_size=1536, scheduler_config={"prediction_type": "v_prediction"},
    ),
    replace(_SD15, name="sd21-base", title="Stable Diffusion 2.1, 512 pixels"),
    _SD15,
    # Steps and guidance of transformers are those of the models' cards.
    # black-forest-labs/FLUX.1-schnell: it is told no guidance.
    _flow("flux-schnell", "FLUX.1 schnell", "flux", 4, 0.0, method_options=_HALF_LARGE),
    # black-forest-labs/FLUX.1-Krea-dev.
    _flow("flux-krea", "FLUX.1 Krea", "flux", 28, 4.5, words=("krea",)),
    # black-forest-labs/FLUX.1-dev; the card takes 50 steps, diffusers' pipeline 28.
    _flow("flux-dev", "FLUX.1 dev", "flux", 28, 3.5),
    # lodestones/Chroma1-HD.
    _flow("chroma", "Chroma", "chroma", 40, 3.0),
    # black-forest-labs/FLUX.2-klein-4B: distilled to four steps, without a second prediction.
    _flow("flux2-klein", "FLUX.2 klein", "flux2", 4, 1.0, method_options=_HALF_LARGE),
    # black-forest-labs/FLUX.2-klein-base-4B.
    _flow("flux2-klein-base", "FLUX.2 klein base", "flux2", 50, 4.0),
    # black-forest-labs/FLUX.2-dev; the card calls 28 of 50 steps a good trade.
    _flow("flux2-dev", "FLUX.2 dev", "flux2", 28, 4.0),
    # Tongyi-MAI/Z-Image-Turbo: nine steps are eight of the network, without guidance.
    _flow("z-image-turbo", "Z-Image-Turbo", "z-image", 9, 0.0, words=("turbo",)),
    # Tongyi-MAI/Z-Image.
    _flow("z-image", "Z-Image", "z-image", 50, 4.0),
    # stabilityai/stable-diffusion-3.5-large-turbo.
    _flow(
        "sd35-large-turbo", "Stable Diffusion 3.5 Large Turbo", "sd3", 4, 0.0, words=("turbo",),
        method_options=_HALF_LARGE,
    ),
    # stabilityai/stable-diffusion-3.5-medium.
    _flow("sd35-medium", "Stable Diffusion 3.5 Medium", "sd3", 40, 4.5),
    # stabilityai/stable-diffusion-3.5-large.
    _flow("sd35-large", "Stable Diffusion 3.5 Large", "sd3", 28, 3.5),
    # stabilityai/stable-diffusion-3-medium-diffusers.
    _flow("sd3-medium", "Stable Diffusion 3 Medium", "sd3", 28, 7.0),
)  # fmt: skip

PRESETS_BY_NAME = {preset.name: preset for preset in PRESETS}

_SD2_CONTEXT = 1024
_SD2_NATIVE = 768
_TURBO_NATIVE = 512


def preset_for(found: Found, name: str) -> Preset:
    """What suits a model by what its files say and, where they leave it open, by its name."""
    if found.network == "transformer":
        return _named(found, name) or PRESETS_BY_NAME[found.preset]
    if found.structure == "sd":
        return PRESETS_BY_NAME[_generation(found, name)]
    if found.edm:
        return PRESETS_BY_NAME["playground-v2.5"]
    if found.native_size == _TURBO_NATIVE:
        return PRESETS_BY_NAME["sdxl-turbo"]
    if found.small:
        return PRESETS_BY_NAME["ssd-1b"]
    return _named(found, name) or PRESETS_BY_NAME["sdxl"]


def _generation(found: Found, name: str) -> str:
    """Which of the first two generations of Stable Diffusion a model is."""
    if found.context != _SD2_CONTEXT:
        return "sd15"
    large = found.native_size == _SD2_NATIVE or found.prediction_type == "v_prediction"
    return "sd21" if large or _unsaid(found, name) else "sd21-base"


def _named(found: Found, name: str) -> Preset | None:
    """The preset of this structure of which a model's name has a word."""
    plain = name.lower().replace(".", "-").replace("_", "-")
    mates = (each for each in PRESETS if each.structure == found.structure)
    return next((each for each in mates if any(word in plain for word in each.words)), None)


def _unsaid(found: Found, name: str) -> bool:
    """Whether a single file of the second generation is the larger one, for all that is known."""
    return found.native_size is None and "base" not in name.lower()
