"""A small classifier of nouns: tells what a picture shows, and gives features to compare sets by.

It measures pictures; it is no part of the text-to-image model.
"""

from __future__ import annotations

import io
import itertools
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.augment import Motion, disturb, move
from models.train.blocks import write_figures
from models.train.config import ClassifierConfig, Paths, TrainConfig
from models.train.data.dataset import load_nouns, pack_pictures, to_tensor
from models.train.data.fetch import NAMES, NOTO_DRAWINGS
from models.train.trainings.loop import Trainer

#: Side of the pictures it looks at; larger ones are averaged down to it.
SIDE = 64
#: Side of the pictures that training moves about.
SOURCE_SIDE = 96
MOTION = Motion(smallest=0.45, largest=1.15, shift=0.15, degrees=12, mirror=True)


class Classifier(nn.Module):
    """Four convolutions of stride 2, a mean over the picture, and two linear layers.

    Args:
        classes: Number of nouns.
        width: Channels of the first convolution.
        features: Width of the last layer but one.
    """

    def __init__(self, classes: int, width: int = 24, features: int = 32) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 5 * width]
        self.blocks = nn.Sequential(*(_block(*pair) for pair in itertools.pairwise(widths)))
        self.squeeze = nn.Linear(widths[-1], features)
        self.head = nn.Linear(features, classes)

    def features(self, pictures: Tensor) -> Tensor:
        """Returns features (n, f) of (n, 3, 64, 64) pictures in -1..1."""
        squeezed: Tensor = self.squeeze(self.blocks(pictures).mean((2, 3)))
        return squeezed

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns logits (n, classes) of (n, 3, 64, 64) pictures in -1..1."""
        logits: Tensor = self.head(F.gelu(self.features(pictures)))
        return logits


def _block(into: int, out: int) -> nn.Sequential:
    convolution = nn.Conv2d(into, out, 3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(8, out), nn.GELU())


def load_classifier(folder: Path = Paths.classifier) -> tuple[Classifier, list[str]]:
    """Reads the shipped classifier.

    Args:
        folder: Holds `model.safetensors` and `classes.json`.

    Returns:
        The classifier in float32, ready for use, and its nouns in the order of the logits.
    """
    names: list[str] = json.loads((folder / "classes.json").read_text())
    classifier = Classifier(len(names))
    weights = load_file(folder / "model.safetensors")
    classifier.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return classifier.eval(), names


def train_classifier(config: TrainConfig) -> dict[str, Any]:
    """Trains the classifier on the nouns of its own list, measures it and writes it.

    Args:
        config: The run's configuration; `config.paths.classifier` is written.

    Returns:
        The figures, which the card has too.
    """
    torch.manual_seed(config.seed)
    paths, settings = config.paths.with_nouns(config.classifier.nouns), config.classifier
    names = [noun.name for noun in load_nouns(paths)]
    pictures = small_pictures(paths, config.size).to(config.device)
    classifier = Classifier(len(names)).to(config.device)

    def loss() -> Tensor:
        chosen = torch.randint(len(pictures), (settings.batch_size,), device=config.device)
        seen = disturb(move(pictures[chosen], MOTION, SIDE))
        return F.cross_entropy(classifier(seen), chosen, label_smoothing=0.05)

    trainer = Trainer(
        "classifier", classifier, loss, settings.stage, paths.checkpoints, time.process_time
    )
    trained = trainer.run().eval()
    write(trained, names, paths.classifier)
    figures = measure(load_classifier(paths.classifier)[0], paths, pictures.cpu(), settings)
    figures["steps"] = trainer.step
    write_figures(paths.classifier / "README.md", table(figures))
    return figures


def table(figures: dict[str, Any]) -> str:
    """Lays the figures of `measure` out for the card."""
    return "\n".join(
        [
            "| pictures | number | right at once | among the first five |",
            "| --- | --- | --- | --- |",
            f"| training pictures, moved and disturbed anew | {figures['moved_pictures']} "
            f"| {figures['moved_accuracy']:.1%} | |",
            f"| Noto's drawings of the same nouns | {figures['noto_pictures']} "
            f"| {figures['noto_top1']:.1%} | {figures['noto_top5']:.1%} |",
        ]
    )


def write(classifier: nn.Module, names: list[str], folder: Path) -> None:
    """Writes weights in half precision, and the nouns in the order of the logits."""
    folder.mkdir(parents=True, exist_ok=True)
    state = classifier.state_dict().items()
    weights = {name: tensor.half().cpu().contiguous() for name, tensor in state}
    save_file(weights, folder / "model.safetensors")
    (folder / "classes.json").write_text(json.dumps(names) + "\n")


def small_pictures(paths: Paths, size: int) -> Tensor:
    """Returns the nouns' pictures in order, averaged down, shape (nouns, 3, 96, 96), in -1..1."""
    packed, codes = pack_pictures(paths, size)
    chosen = to_tensor(packed[[codes.index(noun.code) for noun in load_nouns(paths)]])
    return F.interpolate(chosen, (SOURCE_SIDE, SOURCE_SIDE), mode="area")


@torch.no_grad()
def measure(
    classifier: Classifier, paths: Paths, pictures: Tensor, settings: ClassifierConfig
) -> dict[str, Any]:
    """Measures how often the classifier is right on pictures it was not trained on.

    Args:
        classifier: Trained.
        paths: Folders; the noun list must be the classifier's.
        pictures: What `small_pictures` returns.
        settings: Says how many moved pictures to try.

    Returns:
        Accuracy on fresh random changes of the training pictures, and on another artist's pictures
        of the same emoji, for which nothing was trained.
    """
    torch.manual_seed(2**31)
    rounds = [disturb(move(pictures, MOTION, SIDE)) for _ in range(settings.rounds)]
    wanted = torch.arange(len(pictures))
    moved = torch.stack([classifier(seen).argmax(1) == wanted for seen in rounds])
    foreign, known = foreign_pictures(paths)
    ranked = classifier(foreign).argsort(1, descending=True)
    hits = ranked == known[:, None]
    return {
        "nouns": len(pictures),
        "moved_pictures": moved.numel(),
        "moved_accuracy": round(float(moved.float().mean()), 4),
        "noto_pictures": len(known),
        "noto_top1": round(float(hits[:, :1].any(1).float().mean()), 4),
        "noto_top5": round(float(hits[:, :5].any(1).float().mean()), 4),
    }


def foreign_pictures(paths: Paths) -> tuple[Tensor, Tensor]:
    """Returns Google's Noto pictures of the nouns, (n, 3, 64, 64), and the number of each noun."""
    archive = paths.cache / NAMES.archive
    found: list[Tensor] = []
    known: list[int] = []
    with tarfile.open(archive) as tar:
        members = {Path(m.name).stem: m for m in tar if m.name.startswith(NOTO_DRAWINGS)}
        for number, noun in enumerate(load_nouns(paths)):
            member = members.get(noun.code)
            if member is not None and (file := tar.extractfile(member)) is not None:
                found.append(_on_white(file.read()))
                known.append(number)
    return torch.cat(found), torch.tensor(known)


def _on_white(data: bytes) -> Tensor:
    picture = Image.open(io.BytesIO(data)).convert("RGBA").resize((SIDE, SIDE))
    ground = Image.new("RGBA", picture.size, "white")
    pixels = torch.frombuffer(
        bytearray(Image.alpha_composite(ground, picture).convert("RGB").tobytes()),
        dtype=torch.uint8,
    )
    return to_tensor(pixels.view(1, SIDE, SIDE, 3).numpy())
