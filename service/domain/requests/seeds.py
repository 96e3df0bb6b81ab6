"""Seeds: what is drawn where none is asked for, and those of a batch."""

import secrets

#: Seeds stay below 2**53 so that every JSON reader, JavaScript included, keeps them exact.
MAX_SEED = 2**53 - 1


def derived_seed(first: int, index: int) -> int:
    """Seed of picture `index` of a batch: the first one's plus the index, modulo 2**53."""
    return (first + index) % (MAX_SEED + 1)


def drawn_seed(asked: int | None) -> int:
    """The seed asked for; a random one where it is left out, or -1."""
    return secrets.randbelow(MAX_SEED + 1) if asked in (None, -1) else asked
