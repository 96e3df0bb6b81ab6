"""One resumable training loop for every stage."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from models.train.config import StageConfig
from models.train.trainings.together import average, rank

LOG_EVERY = 20


def mixed_precision(device: str) -> torch.autocast:
    """Returns the context in which networks compute in bfloat16 on a device."""
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@dataclass
class Trainer:
    """Trains a module for a time budget and survives being stopped.

    Args:
        name: Names the checkpoint and the loss log.
        module: Holds every trained parameter.
        loss: Returns the loss of one fresh batch, a scalar.
        config: Budget and optimizer settings.
        folder: Where checkpoint and log go.
        clock: Tells the seconds that the budget is counted in.
    """

    name: str
    module: nn.Module
    loss: Callable[[], Tensor]
    config: StageConfig
    folder: Path
    clock: Callable[[], float] = time.monotonic
    step: int = 0
    elapsed: float = 0.0
    average: AveragedModel = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        """Sets up optimizer and weight average, and resumes from a checkpoint if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.module),
            lr=self.config.learning_rate,
            weight_decay=1e-3,
            fused=True,
        )
        self.average = AveragedModel(self.module, multi_avg_fn=self._update_average)
        # It is asked for in each step, and a GPU would have to be waited for.
        self.average.n_averaged = self.average.n_averaged.cpu()
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        """Returns the checkpoint's path."""
        return self.folder / f"{self.name}.pt"

    @property
    def progress(self) -> float:
        """Returns the share of the time budget that is used, 0..1."""
        return min(1.0, self.elapsed / (60 * self.config.minutes))

    def run(self) -> nn.Module:
        """Trains until the budget is used.

        Returns:
            The module with averaged weights.
        """
        budget = 60 * self.config.minutes
        saved = self.clock()
        with tqdm(
            total=round(budget), initial=round(self.elapsed), unit="s", desc=self.name
        ) as bar:
            recent: list[Tensor] = []
            while self.progress < 1:
                recent.append(self._train_step())
                bar.update(round(self.elapsed) - bar.n)
                if self.step % LOG_EVERY == 0:
                    bar.set_postfix(step=self.step, loss=f"{self._log(recent):.4f}")
                    recent.clear()
                if self.clock() - saved > self.config.checkpoint_seconds:
                    self._save()
                    saved = self.clock()
            if recent:
                self._log(recent)
        self._save()
        return self.average.module

    def _train_step(self) -> Tensor:
        started = self.clock()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._rate()
        loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average([one.grad for one in self.module.parameters() if one.grad is not None])
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.step += 1
        self.average.update_parameters(self.module)
        self.elapsed += self._agreed(self.clock() - started)
        return loss.detach()

    def _agreed(self, seconds: float) -> float:
        """Returns the mean of what all processes counted, so that they end at the same step."""
        counted = torch.tensor([seconds], dtype=torch.float64)
        average([counted])
        return float(counted)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        return warm * max(0.02, 0.5 * (1 + math.cos(math.pi * self.progress)))

    def _update_average(
        self, averages: Iterable[Tensor], current: Iterable[Tensor], _count: Tensor | int
    ) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(averages), list(current), 1 - decay)

    def _log(self, recent: list[Tensor]) -> float:
        # Read here and not in each step, so that a GPU need not be waited for.
        mean = float(torch.stack(recent).mean())
        if rank():
            return mean
        entry = {"step": self.step, "seconds": round(self.elapsed, 1), "loss": round(mean, 5)}
        with (self.folder / f"{self.name}-loss.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        return mean

    def _save(self) -> None:
        if rank():
            return
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "module": self.module.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "elapsed": self.elapsed,
            },
            partial,
        )
        partial.replace(self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Returns the optimizer's groups: parameters named `nodecay` are free of weight decay."""
    free = [parameter for name, parameter in module.named_parameters() if "nodecay" in name]
    known = {id(parameter) for parameter in free}
    groups: list[dict[str, Any]] = [
        {"params": [one for one in module.parameters() if id(one) not in known]}
    ]
    return [*groups, {"params": free, "weight_decay": 0.0}] if free else groups


def averaged_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Returns the averaged weights of a trainer's checkpoint, by parameter name."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["average"]
    return {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}
