"""Python's collector of cycles: it passes over what is loaded.

torch, diffusers, transformers and a pipeline are half a million objects. To walk through them takes
a tenth of a second and more, as long as a step of a small picture, and finds nothing: what is
loaded stays. So it is set aside, and what a run left behind is found among the run's own objects.
"""

import gc

import torch


def set_loaded_aside() -> None:
    """Leave what there is now out of every later collection; call it when something was loaded."""
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Give back what nothing refers to any more, so that the next run starts as the first."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def release_loaded() -> None:
    """The same when something that was loaded is dropped: it may have been set aside."""
    aside = gc.get_freeze_count() > 0
    gc.unfreeze()
    release_memory()
    if aside:
        gc.freeze()
