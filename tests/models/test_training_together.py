"""Training by two processes: they agree on every weight, and on when to end."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = """
import sys
from pathlib import Path
import torch
from torch import nn
from models.train.config import StageConfig
from models.train.trainings import together
from models.train.trainings.loop import Trainer

together.join()
folder = Path(sys.argv[1])
torch.manual_seed(0)
module = nn.Linear(2, 1)
inputs = torch.randn(8, 2)
# The processes see different samples, and their clocks differ by three.
mine = inputs[together.rank() :: 2]
ticks = iter(range(10**6))
trainer = Trainer(
    "toy",
    module,
    lambda: (module(mine) - mine.sum(1, keepdim=True)).square().mean(),
    StageConfig(1, 0.05),
    folder,
    lambda: next(ticks) * (0.125 + 0.25 * together.rank()),
)
trainer.run()
torch.save((trainer.step, module.state_dict()), folder / f"{together.rank()}.pt")
"""

PREPARE = """
import sys
import time
from pathlib import Path
from models.train.trainings import together

together.join()
file = Path(sys.argv[1]) / "made.txt"
with together.first_alone():
    if not file.exists():
        time.sleep(0.5)
        file.write_text(str(together.rank()))
(file.parent / f"{together.rank()}.txt").write_text(file.read_text())
"""


def launch(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*LAUNCH, *command], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )


def test_two_processes_end_at_one_step_with_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    assert (done := launch(str(script), str(tmp_path))).returncode == 0, done.stderr
    steps, weights = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)), strict=True)
    assert steps == (240, 240)  # a minute of 0.25 s, the mean of what both clocks say
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.allclose(weights[0]["weight"], torch.ones(1, 2), atol=0.05)
    assert len((tmp_path / "toy-loss.jsonl").read_text().splitlines()) == 240 // 20


def test_what_the_first_process_prepares_the_others_find(tmp_path: Path) -> None:
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    assert (done := launch(str(script), str(tmp_path))).returncode == 0, done.stderr
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["0", "0"]


def test_a_step_that_only_one_process_can_do_is_refused() -> None:
    done = launch("-m", "models.train", "sheet")
    assert done.returncode != 0
    assert "run sheet without it" in done.stderr
