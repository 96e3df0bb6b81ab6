"""What A1111's clients send, and what it is in this service's own terms."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.domain.errors import FieldViolation, InvalidRequest
from service.domain.models.catalog import Model
from service.domain.models.schedulers import scheduler_named
from service.domain.requests.request import MAX_BATCH

#: Marks the generations of this interface, so that its clients can interrupt them.
MARK = {"client": "sdapi"}

#: Schedules of A1111 that are no variant here: each sampler's own is meant.
_USUAL = ("", "automatic", "uniform", "normal", "simple", "use same scheduler")

#: Sizes are multiples of this here; A1111's are too, unless they come from a factor.
_MULTIPLE = 8


class Settings(BaseModel):
    """Settings that a request changes for itself."""

    model_config = ConfigDict(extra="ignore")

    sd_model_checkpoint: str | None = None


class TextToImage(BaseModel):
    """`txt2img`: what this service can do of it.

    A1111's clients send every field that there is. Those that would change the picture and are
    not here are refused where they are switched on (`_refused`); all others say nothing here.
    """

    model_config = ConfigDict(extra="ignore")

    prompt: str = ""
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    seed: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: Annotated[int, Field(ge=1)] = 1
    n_iter: Annotated[int, Field(ge=1)] = 1
    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    override_settings: Settings = Settings()

    restore_faces: bool | None = False
    tiling: bool | None = False
    subseed_strength: float | None = 0
    script_name: str | None = None
    refiner_checkpoint: str | None = None
    alwayson_scripts: dict[str, Any] = Field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many pictures are asked for."""
        return self.batch_size * self.n_iter

    @property
    def sampler(self) -> str:
        """The sampler's name with its schedule, as A1111 used to write both."""
        name = self.sampler_name or self.sampler_index or ""
        schedule = (self.scheduler or "").lower()
        if not name or name.lower() == "automatic":
            return ""
        return name if schedule in _USUAL else f"{name} {schedule}"

    def fields(self, chosen: str | None) -> dict[str, Any]:
        """The fields of a `GenerationRequest`; those left out take the model's defaults.

        Args:
            chosen: the model that the client chose before, where the request names none.
        """
        width, height = self._size()
        fields: dict[str, Any] = {
            "prompt": self.prompt or " ",
            "negative_prompt": self.negative_prompt,
            "model": self.override_settings.sd_model_checkpoint or chosen,
            "width": width,
            "height": height,
            "num_inference_steps": self.steps,
            "guidance_scale": self.cfg_scale,
            "seed": self.seed,
            "scheduler": scheduler_named(self.sampler) if self.sampler else None,
            "client_metadata": MARK,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def violations(self) -> Iterator[FieldViolation]:
        """Name what would change the picture and cannot be done here."""
        if self.count > MAX_BATCH:
            rule = f"n_iter times batch_size may be up to {MAX_BATCH}"
            yield FieldViolation("n_iter", repr(self.n_iter), rule)
        for name, value in self._refused().items():
            if value:
                yield FieldViolation(name, repr(value)[:80], "this service does not do it")

    def _size(self) -> tuple[int | None, int | None]:
        """Of the picture: with `enable_hr`, of the enlarged one, which a method draws at once."""
        if not self.enable_hr:
            return self.width, self.height
        across, down = self.width or 512, self.height or 512
        if self.hr_resize_x and self.hr_resize_y:
            return _near(self.hr_resize_x), _near(self.hr_resize_y)
        if self.hr_resize_x:
            return _near(self.hr_resize_x), _near(self.hr_resize_x * down / across)
        if self.hr_resize_y:
            return _near(self.hr_resize_y * across / down), _near(self.hr_resize_y)
        return _near(across * self.hr_scale), _near(down * self.hr_scale)

    def _refused(self) -> dict[str, Any]:
        active = {name: args for name, args in self.alwayson_scripts.items() if _acts(args)}
        return {
            "restore_faces": self.restore_faces,
            "tiling": self.tiling,
            "subseed_strength": self.subseed_strength,
            "script_name": self.script_name,
            "refiner_checkpoint": self.refiner_checkpoint,
            "alwayson_scripts": ", ".join(active),
        }


class ImageToImage(TextToImage):
    """`img2img`: what this service can do of it."""

    init_images: Annotated[list[str], Field(min_length=1, max_length=1)]
    mask: str | None = None
    denoising_strength: float = 0.75
    inpainting_mask_invert: int = 0

    def fields(self, chosen: str | None) -> dict[str, Any]:
        """The fields of a `GenerationRequest`, the pictures as data URLs."""
        pictures = {"image": data_url(self.init_images[0]), "strength": self.denoising_strength}
        if self.mask:
            pictures["mask"] = data_url(self.mask)
        return super().fields(chosen) | pictures

    def _refused(self) -> dict[str, Any]:
        return super()._refused() | {"inpainting_mask_invert": self.inpainting_mask_invert}


class ExtraSingleImage(BaseModel):
    """`extra-single-image`: a picture enlarged by a factor, by an upscaler of the catalogue."""

    model_config = ConfigDict(extra="ignore")

    image: str
    resize_mode: Literal[0, 1] = 0
    upscaling_resize: float = 2
    upscaler_1: str = "None"
    gfpgan_visibility: float = 0
    codeformer_visibility: float = 0
    extras_upscaler_2_visibility: float = 0

    def fields(self, upscalers: Sequence[Model]) -> dict[str, Any]:
        """The fields of a `GenerationRequest`; "None" leaves the choice to this service.

        Raises:
            InvalidRequest: no upscaler can do it, or it asks for what this service does not do.
        """
        named = [
            each for each in upscalers if self.upscaler_1 in ("None", each.name, *each.aliases)
        ]
        able = [each for each in named if self.upscaling_resize in each.scales]
        if violations := [*self._violations(upscalers, named, able)]:
            raise InvalidRequest(violations)
        return {
            "model": able[0].name,
            "image": data_url(self.image),
            "scale": int(self.upscaling_resize),
            "client_metadata": MARK,
        }

    def _violations(
        self, upscalers: Sequence[Model], named: Sequence[Model], able: Sequence[Model]
    ) -> Iterator[FieldViolation]:
        if not named:
            names = ", ".join(each.name for each in upscalers)
            rule = f"upscalers here are {names}" if names else "there is no upscaler here"
            yield FieldViolation("upscaler_1", repr(self.upscaler_1), rule)
        elif not able:
            factors = sorted({scale for each in named for scale in each.scales})
            rule = f"the upscaler enlarges by {', '.join(map(str, factors))}"
            yield FieldViolation("upscaling_resize", repr(self.upscaling_resize), rule)
        if self.resize_mode:
            rule = "pictures are enlarged by a factor; send resize_mode 0 and upscaling_resize"
            yield FieldViolation("resize_mode", repr(self.resize_mode), rule)
        for name in ("gfpgan_visibility", "codeformer_visibility", "extras_upscaler_2_visibility"):
            if value := getattr(self, name):
                yield FieldViolation(name, repr(value), "this service does not do it")


def data_url(picture: str) -> str:
    """A picture in base64, with or without a data URL around it, as a data URL."""
    return picture if picture.startswith("data:") else f"data:image/png;base64,{picture}"


def _near(pixels: float) -> int:
    return max(1, round(pixels / _MULTIPLE)) * _MULTIPLE


def _acts(script: Any) -> bool:
    """Whether an extension's arguments switch it on; clients send them switched off too."""
    args = script.get("args") if isinstance(script, dict) else script
    if isinstance(args, list):
        return any(
            each.get("enabled", True) if isinstance(each, dict) else bool(each) for each in args
        )
    return bool(args)
