"""Values that suit known models, by their structure or by name; each says where it is from."""

from dataclasses import dataclass, field, replace

from service.catalog.inspect import Found
from service.domain.models.methods import METHODS

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

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that draw in so few steps."""
        return tuple(m.name for m in METHODS.values() if m.min_steps <= self.steps)

    @property
    def default_method(self) -> str:
        """HiDiffusion, where it can draw in so few steps."""
        return "hidiffusion" if "hidiffusion" in self.methods else "direct"


_TRAILING = {"timestep_spacing": "trailing"}

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
)  # fmt: skip

PRESETS_BY_NAME = {preset.name: preset for preset in PRESETS}

_SD2_CONTEXT = 1024
_SD2_NATIVE = 768
_TURBO_NATIVE = 512


def preset_for(found: Found, name: str) -> Preset:
    """What suits a model by what its files say and, where they leave it open, by its name."""
    if found.structure == "sd":
        if found.context != _SD2_CONTEXT:
            return PRESETS_BY_NAME["sd15"]
        large = found.native_size == _SD2_NATIVE or found.prediction_type == "v_prediction"
        return PRESETS_BY_NAME["sd21" if large or _unsaid(found, name) else "sd21-base"]
    if found.edm:
        return PRESETS_BY_NAME["playground-v2.5"]
    if found.native_size == _TURBO_NATIVE:
        return PRESETS_BY_NAME["sdxl-turbo"]
    if found.small:
        return PRESETS_BY_NAME["ssd-1b"]
    plain = name.lower().replace(".", "-").replace("_", "-")
    return next(
        (each for each in PRESETS if any(word in plain for word in each.words)),
        PRESETS_BY_NAME["sdxl"],
    )


def _unsaid(found: Found, name: str) -> bool:
    """Whether a single file of the second generation is the larger one, for all that is known."""
    return found.native_size is None and "base" not in name.lower()
