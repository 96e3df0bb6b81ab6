"""A checker that breaks the CUDA context of its process when a prompt asks for it."""

import torch

from service.worker.job.checking import Pass, Picture


class Checker:
    """Reads behind the end of a tensor on the device where the prompt says `illegal`."""

    def __call__(self, picture: Picture) -> Pass:
        if "illegal" in picture.prompt:
            values = torch.zeros(4, device="cuda")
            values[torch.tensor([1 << 40], device="cuda")].sum().item()
        return Pass()
