"""Turn a checkpoint that is one file into a folder of diffusers' layout, once.

`hidiffusion models add` runs it: `python -m service.worker.process.convert FILE FOLDER KIND`, for
the command itself never loads torch.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch

#: Pipelines by the structure that `service.catalog.inspect` finds.
KINDS = {
    "sd": diffusers.StableDiffusionPipeline,
    "sdxl": diffusers.StableDiffusionXLPipeline,
}


def convert(file: Path, folder: Path, kind: str, config: str | None) -> None:
    """Write the model in `file` to `folder`, which appears when it is whole.

    Args:
        file: a `.safetensors` file in the original layout.
        folder: where to write; it must not exist.
        kind: one of `KINDS`.
        config: folder or hub id of a model of the same kind, for tokenizers and configurations;
            None: the one that diffusers knows for such a file.

    Raises:
        Exception: whatever diffusers says of a file that it cannot read.
    """
    loader: Any = KINDS[kind]
    offline = config is not None and Path(config).is_dir()
    pipe = loader.from_single_file(
        str(file), config=config, local_files_only=offline, torch_dtype=torch.float16
    )
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    pipe.save_pretrained(unfinished, safe_serialization=True)
    unfinished.rename(folder)


def main() -> None:
    """Entry point; whatever goes wrong is one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--config")
    options = parser.parse_args()
    try:
        convert(options.file, options.folder, options.kind, options.config)
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
