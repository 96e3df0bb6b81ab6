"""The small DiMR's training, on made-up latents and for a moment."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hidiffusion.dimr import DiMRPipeline
from models.dimr.compare import table
from models.dimr.config import DimrConfig
from models.dimr.export import class_names, encoder_hash, export
from models.dimr.networks import NETWORKS, build
from models.dimr.training import add_noise, stage_losses, train
from models.train.config import StageConfig
from models.train.figures.judge import wilson
from models.train.trainings.loop import parameter_groups

MOMENT = StageConfig(0.005, 1e-3, warmup_steps=1)


@pytest.fixture
def config(tmp_path: Path) -> DimrConfig:
    """A run of a moment, on random latents of the bundled model's 24 nouns, 8x8 large."""
    torch.set_num_threads(1)
    config = DimrConfig(
        cache=tmp_path / "cache",
        model=tmp_path / "model",
        batch_size=2,
        variants=1,
        held_out=1,
        stage=MOMENT,
    )
    config.cache.mkdir()
    torch.save(torch.randn(2, len(class_names(config)), 4, 8, 8), config.cache / "latents.pt")
    return config


def test_noise_has_unit_variance_at_every_stage() -> None:
    noise = torch.randn(64, 4, 32, 32)
    silent = (torch.zeros(64, 4, 16, 16), torch.zeros(64, 4, 32, 32))
    for loss in stage_losses(silent, noise):
        assert loss.item() == pytest.approx(1, abs=0.05)


def test_a_stage_that_knows_the_noise_has_no_loss() -> None:
    noise = torch.randn(2, 4, 8, 8)
    low = 2 * torch.nn.functional.avg_pool2d(noise, 2)
    assert all(loss.item() < 1e-12 for loss in stage_losses((low, noise), noise))


def test_noise_grows_with_the_label() -> None:
    clean, noise = torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)
    first, last = add_noise(clean, noise, torch.tensor([1, 1000]))
    assert first.mean().item() == pytest.approx(1, abs=1e-3)
    assert last.mean().item() == pytest.approx(0.068, abs=1e-3)


def test_the_slopes_of_time_are_not_decayed() -> None:
    network = build("dimr", 25)
    decayed, free = parameter_groups(network)
    assert free["weight_decay"] == 0
    count = sum(
        name.endswith(("nodecay_weight", "nodecay_bias")) for name, _ in network.named_parameters()
    )
    assert len(free["params"]) == count > 0
    assert len(decayed["params"]) + count == len(list(network.parameters()))


def test_the_networks_compared_are_of_one_kind() -> None:
    sizes = {}
    for name in NETWORKS:
        network = build(name, 25)
        estimate = network(torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.tensor([3]))
        assert estimate.sample.shape == (1, 4, 8, 8)
        sizes[name] = sum(parameter.numel() for parameter in network.parameters())
    assert 0.8 < sizes["single-resolution"] / sizes["dimr"] < 1.2


def test_training_resumes_and_ships_a_pipeline_that_loads(config: DimrConfig) -> None:
    train(config, "dimr", config.stage, config.seed)
    longer = replace(config, stage=config.stage)
    train(longer, "dimr", longer.stage, longer.seed)  # finished: loads and returns at once
    export(config)
    pipe = DiMRPipeline.from_pretrained(config.model)
    assert pipe.labels["cat"] == 0
    assert pipe.transformer.sample_size == (32, 32)
    weights = sum(file.stat().st_size for file in (config.model / "transformer").iterdir())
    assert weights < 4e6
    assert encoder_hash(config.model / "vae") == encoder_hash(config.data.model / "vae")


def test_the_table_has_intervals() -> None:
    runs = [
        {"parameters": 1.31e6, "steps": 90, "loss": loss, "hits": hits, "drawn": 24}
        for loss, hits in ((0.30, 3), (0.32, 5), (0.31, 4))
    ]
    row = "| dimr | 1.31 M | 90 | 0.3100 ± 0.0248 | 12 of 72 (10% to 27%) |"
    assert row in table({"dimr": runs}).splitlines()


def test_the_interval_of_a_share() -> None:
    low, high = wilson(9, 10)
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
