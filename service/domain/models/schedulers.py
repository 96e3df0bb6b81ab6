"""Names of schedulers: diffusers' classes, variants of them, and what people call them elsewhere.

A scheduler is named by its diffusers class; `+karras`, `+exponential` and `+sde` after it choose
its sigmas and its solver: `DPMSolverMultistepScheduler+sde+karras`.
"""

import re
from collections.abc import Iterator, Sequence

from service.domain.errors import FieldViolation

#: The settings of diffusers' schedulers that a variant stands for.
VARIANTS: dict[str, dict[str, bool | str]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "sde": {"algorithm_type": "sde-dpmsolver++"},
}

_WITH_SIGMAS = (
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "UniPCMultistepScheduler",
)
#: Classes that have each variant; a test compares them with diffusers.
HAVING: dict[str, tuple[str, ...]] = {
    "karras": _WITH_SIGMAS,
    "exponential": _WITH_SIGMAS,
    "sde": ("DPMSolverMultistepScheduler",),
}

#: What A1111, ComfyUI, Stability and Replicate call them, in small letters and without `k_`.
_KNOWN_AS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm_2": "KDPM2DiscreteScheduler",
    "dpm2_a": "KDPM2AncestralDiscreteScheduler",
    "dpm_2_ancestral": "KDPM2AncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "dpmpp_2m_sde": "DPMSolverMultistepScheduler+sde",
    "dpmpp_sde": "DPMSolverSinglestepScheduler",
    "dpmsolver": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "karrasdpm": "DPMSolverMultistepScheduler+karras",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "plms": "PNDMScheduler",
    "pndm": "PNDMScheduler",
    "uni_pc": "UniPCMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}

#: One name of A1111's for each class and variant, for clients that list them.
A1111_NAMES = {
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "KDPM2DiscreteScheduler": "DPM2",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "DPMSolverSinglestepScheduler": "DPM++ SDE",
    "DDIMScheduler": "DDIM",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
    "LCMScheduler": "LCM",
}


def scheduler_named(name: str) -> str:
    """The class and variants that people mean by `name`; what nobody calls one stays as it is."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower().replace("++", "pp"))
    plain = plain.removeprefix("k_").removesuffix("_simple").removesuffix("_normal")
    variant = next((each for each in ("karras", "exponential") if plain.endswith("_" + each)), "")
    known = _KNOWN_AS.get(plain.removesuffix("_" + variant) if variant else plain)
    if known is not None:
        return f"{known}+{variant}" if variant else known
    class_name, plus, variants = name.partition("+")
    if class_name and not class_name.endswith("Scheduler") and class_name[0].isupper():
        return f"{class_name}Scheduler{plus}{variants}"
    return name


def class_of(scheduler: str) -> str:
    """The diffusers class of a scheduler with or without variants."""
    return scheduler.partition("+")[0]


def settings_of(scheduler: str) -> dict[str, bool | str]:
    """What the variants of a scheduler change in its class's configuration."""
    _, *variants = scheduler.split("+")
    return {name: value for each in variants for name, value in VARIANTS[each].items()}


def scheduler_violations(scheduler: str, offered: Sequence[str]) -> Iterator[FieldViolation]:
    """Refuse a scheduler that is not offered, or a variant that it does not have."""
    class_name, *variants = scheduler.split("+")
    if class_name not in {class_of(each) for each in offered}:
        rule = "allowed are " + ", ".join(offered)
        yield FieldViolation("scheduler", repr(scheduler), rule)
        return
    for variant in variants:
        if variant not in VARIANTS:
            rule = "what can be added to a scheduler is +" + ", +".join(VARIANTS)
            yield FieldViolation("scheduler", repr(scheduler), rule)
        elif class_name not in HAVING[variant]:
            able = [each for each in offered if class_of(each) in HAVING[variant]]
            rule = f"+{variant} goes with " + (", ".join(able) or "none of this model's")
            yield FieldViolation("scheduler", repr(scheduler), rule)
