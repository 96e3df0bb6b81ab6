"""Command line: `python -m models.train` trains, exports and measures the bundled model."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import torch

from models.train.blocks import write_figures
from models.train.config import TrainConfig
from models.train.data.dataset import pack_pictures
from models.train.figures.card import tables
from models.train.figures.export import export
from models.train.figures.report import report
from models.train.figures.samples import contact_sheet
from models.train.profiles import PROFILES, profile, within
from models.train.steps import chosen_steps, require_device, step_parser
from models.train.trainings.classifier import train_classifier
from models.train.trainings.together import join, several
from models.train.trainings.unet import finished_vae, train_unet
from models.train.trainings.upscaler import export_upscaler, train_upscaler
from models.train.trainings.vae import train_decoder

STEPS = {
    "data": "fetch the npm packages, check their hashes, pack the pictures",
    "vae": "train the autoencoder",
    "decoder": "train the decoder further; may run beside unet",
    "unet": "train U-Net and text encoder",
    "classifier": "train and measure the classifier of nouns",
    "upscaler": "train the upscaler and write it as a pipeline",
    "export": "write the newest weights as a pipeline",
    "sheet": "sample every noun from the exported pipeline",
    "report": "plot the losses, measure, write the figures into the model card",
}


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    result = step_parser("python -m models.train", "Trains the bundled model.", STEPS)
    result.add_argument(
        "--profile", choices=PROFILES, default="cpu", help="size of the model and of the run"
    )
    result.add_argument("--device", help="cpu or cuda; the profile's by default")
    result.add_argument("--threads", type=int, default=TrainConfig().threads)
    result.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="training time of all stages together; each keeps its share of it",
    )
    result.add_argument("--vae-minutes", type=float, help="training time of the autoencoder")
    result.add_argument("--decoder-minutes", type=float, help="further training of the decoder")
    result.add_argument("--unet-minutes", type=float, help="training time of the U-Net")
    result.add_argument("--upscaler-minutes", type=float, help="training time of the upscaler")
    return result


def configure(arguments: argparse.Namespace) -> TrainConfig:
    """Returns the configuration with the command line's changes."""
    config = replace(profile(arguments.profile, arguments.device), threads=arguments.threads)
    if arguments.budget is not None:
        config = within(config, arguments.budget)
    vae, unet, upscaler = config.vae, config.unet, config.upscaler
    if arguments.vae_minutes:
        vae = replace(vae, stage=replace(vae.stage, minutes=arguments.vae_minutes))
    if arguments.decoder_minutes:
        stage = replace(vae.decoder_stage, minutes=arguments.decoder_minutes)
        vae = replace(vae, decoder_stage=stage)
    if arguments.unet_minutes:
        unet = replace(unet, stage=replace(unet.stage, minutes=arguments.unet_minutes))
    if arguments.upscaler_minutes:
        stage = replace(upscaler.stage, minutes=arguments.upscaler_minutes)
        upscaler = replace(upscaler, stage=stage)
    return replace(config, vae=vae, unet=unet, upscaler=upscaler)


def run(step: str, config: TrainConfig) -> None:
    """Runs one step by name."""
    match step:
        case "data":
            pack_pictures(config.paths, config.size)
        case "vae":
            finished_vae(config)
        case "decoder":
            train_decoder(config, finished_vae(config))
        case "unet":
            train_unet(config)
        case "classifier":
            print(json.dumps(train_classifier(config), indent=2))
        case "upscaler":
            train_upscaler(config)
            export_upscaler(config)
        case "export":
            export(config)
        case "sheet":
            contact_sheet(config, config.paths.images / "model-contact-sheet.webp")
        case "report":
            figures = report(config)
            write_figures(config.paths.model / "README.md", tables(figures))
            print(json.dumps(figures, indent=2))


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
    join()
    if several() and steps != ["unet"]:
        command.error(f"torchrun is for the step unet alone; run {', '.join(steps)} without it")
    torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high")  # TF32, where a GPU has it
    for step in steps:
        run(step, config)


if __name__ == "__main__":
    main()
