"""Settings of the libraries that hold for the whole process."""

import logging
from typing import Any

import diffusers
import pyvips
import transformers


def tune_libraries() -> None:
    """No bars and chatter; pictures are encoded side by side, one thread each, and not cached."""
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    logging.getLogger("pyvips").setLevel(logging.WARNING)
    for library in (diffusers, transformers):
        chatter: Any = library.utils.logging
        chatter.disable_progress_bar()
        chatter.set_verbosity_error()
