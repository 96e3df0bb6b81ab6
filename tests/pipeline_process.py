"""The process of an embedded service that computes, for tests that hold or end it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from service.cli.embedded import Embedded


def pipeline_of(service: Embedded) -> psutil.Process:
    """The one process that computes for `service`, which this process started."""
    here = psutil.Process(os.getpid())
    (pipeline,) = (
        process
        for process in here.children(recursive=True)
        if "service.worker.process.main" in process.cmdline()
        and str(service.data) in process.environ()["HIDIFFUSION_STORE__URL"]
    )
    return pipeline


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """`process` stands still; its supervisor may replace it when that lasts a minute."""
    process.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
