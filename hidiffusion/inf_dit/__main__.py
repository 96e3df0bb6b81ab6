"""Command line of the converter: `python -m hidiffusion.inf_dit CHECKPOINT FOLDER`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hidiffusion.inf_dit.convert import RELEASED, from_original, load_checkpoint
from hidiffusion.inf_dit.pipeline import InfDiTUpscalePipeline


def main(arguments: list[str] | None = None) -> None:
    """Convert the authors' checkpoint into a pipeline folder, without an image encoder."""
    parser = argparse.ArgumentParser(
        prog="python -m hidiffusion.inf_dit",
        description="Turns the authors' mp_rank_00_model_states.pt into a folder of safetensors.",
    )
    parser.add_argument("checkpoint", type=Path, help="the authors' .pt file")
    parser.add_argument("folder", type=Path, help="where the pipeline goes")
    options = parser.parse_args(arguments)
    transformer = from_original(load_checkpoint(options.checkpoint), RELEASED)
    InfDiTUpscalePipeline(transformer.bfloat16()).save_pretrained(options.folder)


if __name__ == "__main__":
    main()
