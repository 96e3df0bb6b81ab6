"""Checkers that a test names in the settings."""

from service.worker.job.checking import Block, Pass, Picture

NOT_CALLABLE = 7


class ByPrompt:
    """Blocks what was asked for by the word `blocked`, as no good checker would."""

    def __call__(self, picture: Picture) -> Pass | Block:
        return Block("a test wants it blocked") if "blocked" in picture.prompt else Pass()
