"""Generated blocks of hand-written documents."""

from __future__ import annotations

import re
from pathlib import Path


def fill_block(file: Path, name: str, body: str) -> None:
    """Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` in a document.

    Args:
        file: The document.
        name: The block's name.
        body: Its new lines.

    Raises:
        ValueError: The document has no such block, or more than one.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text, count = pattern.subn(lambda _: f"{begin}\n{body}\n{end}", file.read_text())
    if count != 1:
        raise ValueError(f"{file} has {count} blocks {name!r}; write {begin} and {end} once")
    file.write_text(text)


def write_figures(card: Path, body: str) -> None:
    """Renews the block `figures` of a card, at its end where it has no place for them yet.

    Args:
        card: The card; the prose around the figures is written by hand.
        body: The figures, as tables.
    """
    text = card.read_text() if card.exists() else f"# {card.parent.name}\n"
    if "<!-- begin figures -->" not in text:
        block = "<!-- begin figures -->\n<!-- end figures -->\n"
        card.write_text(f"{text}\n## Figures of this training\n\n{block}")
    fill_block(card, "figures", body)
