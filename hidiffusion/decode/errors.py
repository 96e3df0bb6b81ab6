"""What can go wrong with an autoencoder or with what it is given."""

from hidiffusion.errors import HiDiffusionError


class UnsupportedAutoencoderError(HiDiffusionError, ValueError):
    """The autoencoder has a part whose tiled form is not known here."""


class NonFiniteError(HiDiffusionError, ArithmeticError):
    """Latents or activations hold NaN or infinity: the picture would be black or noise.

    Attributes:
        where: the tensor or layer in which it was seen first.
    """

    def __init__(self, where: str, remedy: str) -> None:
        super().__init__(f"{where} hold NaN or infinity; {remedy}")
        self.where = where
