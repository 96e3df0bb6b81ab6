"""Command line: `python -m models.dimr` trains, compares, exports and measures the small DiMR."""

from __future__ import annotations

from dataclasses import replace

import torch

from models.dimr.compare import compare
from models.dimr.config import DimrConfig, on_gpu
from models.dimr.export import export
from models.dimr.report import report
from models.dimr.training import train
from models.train.steps import chosen_steps, require_device, step_parser

STEPS = {
    "train": "train the network",
    "export": "write the newest weights as a pipeline",
    "compare": "train and measure it again without its parts, at a smaller budget",
    "report": "draw every noun, measure, write the figures into the model card",
}


def main() -> None:
    """Runs the steps that were asked for, in their order."""
    command = step_parser("python -m models.dimr", "Trains the small DiMR.", STEPS)
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    command.add_argument("--minutes", type=float, help="training time of the model that ships")
    arguments = command.parse_args()
    steps = chosen_steps(command, arguments.step, STEPS)
    require_device(command, arguments.device)
    torch.set_num_threads(arguments.threads)
    config = DimrConfig()
    if arguments.device == "cuda":
        config = on_gpu(config)
    if arguments.minutes:
        config = replace(config, stage=replace(config.stage, minutes=arguments.minutes))
    for step in steps:
        run(step, config)


def run(step: str, config: DimrConfig) -> None:
    """Runs one step by name."""
    match step:
        case "train":
            train(config, "dimr", config.stage, config.seed)
        case "export":
            export(config)
        case "compare":
            compare(config)
        case "report":
            report(config)


if __name__ == "__main__":
    main()
