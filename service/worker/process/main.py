"""The pipeline process: `python -m service.worker.process.main --channel-fd N`.

It connects the channel that its supervisor passed down, loads and warms the models, says so, and
then serves one run at a time until it is told to stop or the supervisor is gone. Settings come
from the environment, as everywhere.
"""

import argparse
import os
import signal

from service.channel import Channel
from service.settings import Settings
from service.telemetry import configure_logging
from service.tracing import configure_tracing


def main(arguments: list[str] | None = None) -> None:
    """Run the pipeline process."""
    parser = argparse.ArgumentParser(
        prog="python -m service.worker.process.main", description=__doc__
    )
    parser.add_argument("--channel-fd", type=int, required=True, help="socket to the supervisor")
    options = parser.parse_args(arguments)
    settings = Settings()
    if settings.store.url.startswith("memory:"):
        raise ValueError(
            f"store {settings.store.url!r} is private to each process, so nobody could read what "
            "this one writes; set HIDIFFUSION_STORE__URL to file:// or s3://"
        )
    configure_logging(settings.log_level, settings.log_format, prompts=settings.log_prompts)
    configure_tracing("pipeline", settings.tracing_endpoint)
    # Signals to the whole group are the supervisor's business: it drains, then says Stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # OpenMP's threads spin while they wait. On processors that others use as well, a spinning
    # thread keeps the one it waits for from running: a step took over four times as long.
    # OpenMP reads this when torch is first imported, hence the import below.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from service.worker.process.server import serve

    serve(Channel.from_fd(options.channel_fd), settings)


if __name__ == "__main__":
    main()
