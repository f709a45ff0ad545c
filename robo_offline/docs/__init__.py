"""Documentation: pages of Markdown beside this file, and the `docs` verb that prints them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.resources import files

from rich.console import Console
from rich.markdown import Markdown

from robo_offline.errors import UserError, nearest

INDEX = "index"
WIDE = 100  # characters; longer lines are hard to read
ENTRY = re.compile(r"^## `(\w+)`.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def main(arguments: Sequence[str]) -> int:
    """Print a page, or what its family's page says of one method."""
    parser = argparse.ArgumentParser("robo-offline docs", description=main.__doc__)
    parser.add_argument(
        "page", nargs="?", default=INDEX, help="a page or a method; default: the list of all"
    )
    name = parser.parse_args(list(arguments)).page
    found = pages()
    texts = {entry: text for page in found.values() for entry, text in entries(page).items()}
    texts |= found
    if name not in texts:
        raise UserError(f"there is no page '{name}'", remedy=nearest(name, texts))
    console = Console()
    console.print(Markdown(texts[name]), width=min(console.width, WIDE))
    return 0


def pages() -> dict[str, str]:
    """Return the text of every page by its name."""
    return {
        file.name.removesuffix(".md"): file.read_text(encoding="utf-8")
        for file in files(__name__).iterdir()
        if file.name.endswith(".md")
    }


def entries(page: str) -> dict[str, str]:
    """Return the part of a page about each method: from its heading to the next one."""
    return {found[1]: found[0].rstrip() for found in ENTRY.finditer(page)}
