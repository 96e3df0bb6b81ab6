"""What fields of a request are called elsewhere, to say what was meant."""

from collections.abc import Iterable
from difflib import get_close_matches

#: By the names of A1111, ComfyUI, InvokeAI, OpenAI, Stability, Replicate and fal.
_MEANT = {
    "num_inference_steps": ("steps", "num_steps", "sampling_steps", "inference_steps", "n_steps"),
    "guidance_scale": ("cfg_scale", "cfg", "guidance", "scale", "cfgscale"),
    "scheduler": ("sampler", "sampler_name", "sampler_index", "use_karras_sigmas"),
    "negative_prompt": ("negative", "uc", "negativeprompt"),
    "model": ("model_name", "model_id", "checkpoint", "ckpt_name", "sd_model_checkpoint"),
    "image": ("init_image", "init_images", "image_url", "input_image", "images"),
    "mask": ("mask_image", "mask_url"),
    "strength": ("denoising_strength", "prompt_strength", "image_strength", "denoise"),
    "output_format": ("format", "file_format"),
    "quality": ("output_quality", "output_compression"),
    "width and height": ("size", "image_size", "resolution", "dimensions"),
    "loras": ("lora", "lora_weights", "lora_scale", "hf_lora"),
    "controls": ("controlnet", "controlnets", "control_image", "control", "alwayson_scripts"),
    "image_prompt": ("ip_adapter", "ip_adapter_image"),
    "client_metadata": ("metadata_fields", "tags"),
    "webhook": ("webhook_url", "callback_url", "callback"),
    "method": ("hires", "enable_hr", "hr_upscaler"),
}
_BY_NAME = {name: ours for ours, names in _MEANT.items() for name in names}

#: Names that stand for something else than one field.
_ADVICE = {
    **dict.fromkeys(
        ("n", "num_images", "num_outputs", "batch_size", "n_iter", "num_images_per_prompt"),
        "for several pictures POST to /v1/generations/batch with n",
    ),
    **dict.fromkeys(
        ("preprocessor", "processor", "processor_res", "control_preprocessor", "detect_resolution"),
        "maps come ready: the service draws no edges and no depth from a photograph",
    ),
    "use_karras_sigmas": "write it into scheduler: DPMSolverMultistepScheduler+karras",
    "stream": "follow GET /v1/generations/{id}/events",
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question or advice that helps whoever wrote an unknown field; empty where none does."""
    plain = name.lower().replace("-", "_")
    if plain in _ADVICE:
        return _ADVICE[plain]
    fields = [*known]
    snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in name).strip("_")
    meant = _BY_NAME.get(plain) or (snake if snake in fields else None)
    near = [meant] if meant else get_close_matches(plain, fields, 1)
    return f"did you mean {near[0]}?" if near else ""
