"""Command line: `python -m models.sd3` trains, exports and measures the small transformer."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from models.sd3.config import Sd3Config, configured, within
from models.sd3.data import pictures
from models.sd3.export import export
from models.sd3.report import beyond, report
from models.sd3.training import train
from models.train.steps import chosen_steps, require_device, step_parser

STEPS = {
    "data": "fetch the pictures, and pack those of the nouns into one small file",
    "train": "train the transformer and its text encoder",
    "export": "write the newest weights as a pipeline",
    "report": "draw every noun, measure, write the figures into the model card",
    "beyond": "the same beyond native size, by each method",
}


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    result = step_parser("python -m models.sd3", "Trains the small transformer.", STEPS)
    result.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    result.add_argument("--threads", type=int, default=1)
    length = result.add_mutually_exclusive_group()
    length.add_argument("--budget", type=float, metavar="SECONDS", help="training time")
    length.add_argument("--minutes", type=float, help="the same in minutes")
    result.add_argument("--batch-size", type=int, help="latents per optimizer step")
    result.add_argument("--variants", type=int, help="latents of each noun to learn from")
    result.add_argument("--cache", type=Path, help="folder of pictures, latents and checkpoints")
    result.add_argument("--model", type=Path, help="folder that export writes")
    result.add_argument(
        "--bundled", type=Path, help="pipeline that lends autoencoder and tokenizer"
    )
    result.add_argument("--pictures", type=Path, help="folder that holds the npm packages")
    return result


def configure(arguments: argparse.Namespace) -> Sd3Config:
    """Returns the configuration with the command line's changes."""
    config = configured(arguments.device)
    for name in ("batch_size", "variants", "cache", "model"):
        value = getattr(arguments, name)
        if value is not None:
            config = replace(config, **{name: value})
    if arguments.bundled is not None:
        config = replace(config, data=replace(config.data, model=arguments.bundled))
    if arguments.pictures is not None:
        config = replace(config, data=replace(config.data, cache=arguments.pictures))
    if arguments.minutes is not None:
        return within(config, 60 * arguments.minutes)
    return config if arguments.budget is None else within(config, arguments.budget)


def main() -> None:
    """Runs the steps that were asked for, in their order."""
    command = parser()
    arguments = command.parse_args()
    steps = chosen_steps(command, arguments.step, STEPS)
    try:
        config = configure(arguments)
    except ValueError as error:
        command.error(str(error))
    require_device(command, config.device)
    torch.set_num_threads(arguments.threads)
    for step in steps:
        run(step, config)


def run(step: str, config: Sd3Config) -> None:
    """Runs one step by name."""
    match step:
        case "data":
            pictures(config)
        case "train":
            train(config)
        case "export":
            export(config)
        case "report":
            report(config)
        case "beyond":
            beyond(config)


if __name__ == "__main__":
    main()
