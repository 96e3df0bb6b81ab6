"""`python -m service.cli`, the same as the `hidiffusion` command."""

from service.cli import main

main()
