"""Lets torchvision be imported beside a torch of another build.

The registries' torchvision is built for CUDA. Beside a torch for CPUs its operators cannot be
loaded, and the import then fails, because it describes two that torch has not heard of. Now torch
has; nothing calls them.
"""

import torch

for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        torch.library.define(
            f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
