"""A tiny model in the forms that people have models in."""

from pathlib import Path

import pytest
import torch

from tests.hidiffusion.tiny import models as tiny_models
from tests.service.catalog.ldm_layout import write_single_file


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny` (a folder), `half` (fp16 alone) and `single.safetensors`."""
    folder = tmp_path_factory.mktemp("forms")
    pipe = tiny_models.sd_pipeline()
    pipe.save_pretrained(folder / "tiny")
    pipe.to(dtype=torch.float16).save_pretrained(folder / "half", variant="fp16")
    write_single_file(pipe, folder / "single.safetensors")
    return folder
