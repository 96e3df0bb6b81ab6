"""Everything that would fail later in a generation, said before its first pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

from hidiffusion.decode.autoencoder import decoder_network, encoder_network
from hidiffusion.errors import InvalidConfigError, UnsupportedModelError, UnsupportedPipelineError
from hidiffusion.methods.generation.call import Call
from hidiffusion.methods.generation.generation import image_to_image, parameters
from hidiffusion.methods.generation.passes import SIZE_MULTIPLE, Pass, schedule_of
from hidiffusion.methods.noise import prediction
from hidiffusion.options import nearest
from hidiffusion.transformer.families import FAMILIES, family_of, find_transformer, is_transformer
from hidiffusion.transformer.latents import token_pixels
from hidiffusion.unet.families import resolve
from hidiffusion.unet.sites import find_unet, structure


class Method(Protocol):
    """What is asked of a row of the registry."""

    @property
    def name(self) -> str: ...
    @property
    def one_pass(self) -> bool: ...
    @property
    def models(self) -> str: ...
    @property
    def option_names(self) -> list[str]: ...
    def configure(self, *, seed: int | tuple[int, ...] | None = None, **options: Any) -> Any: ...
    def planned(self, pipe: Any, call: Call, config: Any) -> list[Pass]: ...
    @property
    def check(self) -> Callable[[Any, Call, Any], None]: ...


_OUTPUT_TYPES = ("pil", "np", "pt", "latent")
#: Arguments by which a caller cuts the schedule, as methods of several passes do themselves.
_CUTS = ("denoising_start", "denoising_end")


def check(pipe: Any, method: Method, call: Call) -> list[Pass]:
    """Say all that is wrong with a generation before anything of it is run.

    Args:
        pipe: a diffusers pipeline.
        method: a row of the registry.
        call: what is asked for.

    Returns:
        The passes that it will have.

    Raises:
        InvalidConfigError: an argument, an option or the size is unknown or not allowed.
        UnsupportedModelError: the method does not know the model.
        UnsupportedPipelineError: the method cannot run this kind of pipeline.
        UnsupportedAutoencoderError: it goes through pictures, and these cannot be tiled exactly.
    """
    _check_model(pipe, method)
    config = method.configure(seed=call.seed, **call.options)
    _check_arguments(pipe, method, call)
    passes = method.planned(pipe, call, config)
    multiple = token_pixels(pipe) if is_transformer(pipe) else SIZE_MULTIPLE
    if call.width % multiple or call.height % multiple:
        raise InvalidConfigError(
            f"the size is {call.width}x{call.height}; both must be multiples of {multiple}"
        )
    if method.name == "direct" and is_transformer(pipe):
        _check_table(pipe, call)
    method.check(pipe, call, config)
    return passes


def _check_model(pipe: Any, method: Method) -> None:
    if method.models == "unet" and is_transformer(pipe):
        family = family_of(find_transformer(pipe)).name
        raise UnsupportedModelError(
            f"{method.name} is made for U-Nets, and this is {family}; use refine, which draws a "
            "native picture first, or token-windows or positions"
        )
    if method.models == "transformer":
        require_transformer(method.name, pipe)


def _check_arguments(pipe: Any, method: Method, call: Call) -> None:
    known = parameters(pipe)
    if not method.one_pass:
        known |= _siblings_parameters(pipe)
    for name in call.arguments:
        if name not in known:
            raise InvalidConfigError(
                f"{name!r} is no argument of {type(pipe).__name__} and no option of the method "
                f"{method.name}; {nearest(name, sorted(known.union(method.option_names)))}"
            )
    if call.arguments.get("generator") is not None:
        raise InvalidConfigError(
            f"generator is {call.arguments['generator']!r}; generators are made from the seed: "
            "give seed= alone"
        )
    output = call.arguments.get("output_type", "pil")
    if output not in _OUTPUT_TYPES:
        raise InvalidConfigError(
            f"output_type is {output!r}; it must be one of {', '.join(_OUTPUT_TYPES)}"
        )
    for name in _CUTS:
        if not method.one_pass and call.arguments.get(name) is not None:
            raise InvalidConfigError(
                f"{name} is {call.arguments[name]!r}; the method {method.name} cuts the schedule "
                "itself: leave it out, or use a method of one pass"
            )


def _siblings_parameters(pipe: Any) -> frozenset[str]:
    try:
        return parameters(image_to_image(pipe))
    except UnsupportedPipelineError:
        return frozenset()


def _check_table(pipe: Any, call: Call) -> None:
    """Refuse a picture that reaches beyond a transformer's own positions."""
    model = find_transformer(pipe)
    longest = max(call.width, call.height) // token_pixels(pipe)
    most = {
        "learned": lambda: model.config.pos_embed_max_size,
        "tables": lambda: min(model.config.axes_lens[1:]),
    }.get(family_of(model).positions, lambda: longest)()
    if longest > most:
        raise InvalidConfigError(
            f"{call.width}x{call.height} reaches beyond this model's own positions, which end at "
            f"{most * token_pixels(pipe)} pixels a side; use refine, token-windows or positions"
        )


def require_transformer(method: str, pipe: Any) -> None:
    """Refuse a pipeline whose model is no transformer of a known family.

    Raises:
        UnsupportedModelError: it is none.
    """
    if not is_transformer(pipe):
        known = ", ".join(row.name for row in FAMILIES)
        raise UnsupportedModelError(
            f"{type(pipe).__name__} has no diffusion transformer of a known family, for which "
            f"{method} is made ({known}); with a U-Net use hidiffusion, hidiffusion-guided or "
            "hidiffusion-refresh"
        )


def require_denoiser(pipe: Any, config: Any) -> None:
    """Refuse a model that HiDiffusion does not know, where it is to draw."""
    if config.denoiser != "direct":
        resolve(config.hidiffusion(), structure(find_unet(pipe)))


def require_x0(pipe: Any, call: Call) -> None:
    """Refuse a scheduler of which the predicted x0 cannot be told at every timestep."""
    trial = copy.deepcopy(pipe.scheduler)
    given = {name: call.arguments.get(name) for name in ("timesteps", "sigmas")}
    custom = {name: each for name, each in given.items() if each is not None}
    dynamic = getattr(trial.config, "use_dynamic_shifting", False)
    plain = {"num_inference_steps": schedule_of(pipe, call).steps} | (
        {"mu": 1.0} if dynamic else {}
    )
    trial.set_timesteps(**(custom or plain))
    prediction(trial, trial.timesteps[0])


def require_stages(pipe: Any, call: Call, config: Any, *, interrupted: bool = False) -> None:
    """Refuse what cannot be enlarged as a picture and drawn again, stage by stage.

    Args:
        pipe: a diffusers pipeline.
        call: what is asked for.
        config: a `DenoiserConfig`.
        interrupted: see `require_image_to_image`.
    """
    require_image_to_image(pipe, call, interrupted=interrupted)
    require_denoiser(pipe, config)
    require_x0(pipe, call)
    require_autoencoder(pipe)


def require_image_to_image(pipe: Any, call: Call, *, interrupted: bool = False) -> None:
    """Refuse a pipeline, or its scheduler, that cannot draw the last steps from a picture.

    Args:
        pipe: a diffusers pipeline.
        call: what is asked for.
        interrupted: whether it must also stop before the end of its schedule.
    """
    sibling = image_to_image(pipe)
    for each in (pipe, sibling) if interrupted else ():
        if not hasattr(type(each), "interrupt"):
            raise UnsupportedPipelineError(
                f"{type(each).__name__} cannot be interrupted at a step, which a refresh needs; "
                "use hidiffusion-guided with this pipeline"
            )
    if not any(hasattr(pipe.scheduler, name) for name in ("add_noise", "scale_noise")):
        raise UnsupportedPipelineError(
            f"{type(pipe.scheduler).__name__} cannot add noise to a picture, which the last steps "
            "start from; use another scheduler, such as DDIMScheduler"
        )
    for name in ("timesteps", "sigmas"):
        if call.arguments.get(name) is None:
            continue
        if name not in parameters(sibling):
            raise UnsupportedPipelineError(
                f"{type(sibling).__name__} takes no {name}=; give num_inference_steps"
            )
        if pipe.scheduler.order > 1:
            raise InvalidConfigError(
                f"{name} are given to {type(pipe.scheduler).__name__}, whose last steps diffusers "
                "cannot count then; give num_inference_steps"
            )


def require_autoencoder(pipe: Any) -> None:
    """Refuse an autoencoder that cannot be tiled exactly."""
    decoder_network(pipe.vae)
    encoder_network(pipe.vae)


def nothing_more(pipe: Any, call: Call, config: Any) -> None:
    """The check of a method that asks nothing of the pipeline but what its plan needs."""
    del pipe, call, config
