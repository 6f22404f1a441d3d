"""Write the index of the methods into docs/methods.md, from the facts that every class states.

    python scripts/write_method_index.py

A test compares the page with the classes and names this command if they differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tsgb import Method
from tsgb.index import methods

PAGE = Path(__file__).resolve().parent.parent / "docs" / "methods.md"
START, END = "<!-- written by scripts/write_method_index.py -->\n", "<!-- end -->\n"
HEADER = ("class", "paper", "read-out", "cost", "signed", "several layers", "networks", "page")


def main() -> int:
    """Replace the table between the two comments of the page."""
    PAGE.write_text(with_index(PAGE.read_text()))
    sys.stdout.write(f"{PAGE}: {len(methods())} methods\n")
    return 0


def with_index(page: str) -> str:
    """The text of the page with the table as it should be."""
    before, _, rest = page.partition(START)
    return f"{before}{START}{table()}{END}{rest.partition(END)[2]}"


def table() -> str:
    """One row for each method, sorted by the name of the class."""
    found = sorted(methods().values(), key=lambda method: method.__name__.casefold())
    rows = [HEADER, ("---",) * len(HEADER), *map(row, found)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(method: type[Method]) -> tuple[str, ...]:
    """The cells of a method."""
    facts = method.facts
    signed = {True: "yes", False: "no", None: "its base's"}[facts.signed]
    several = "yes" if hasattr(method, "attribute_layers") else "no"
    page = f"[page](methods/{method.__module__.rpartition('.')[2]}.md)"
    name = f"`{method.__name__}`"
    return (name, facts.paper, facts.read_out, facts.cost, signed, several, facts.networks, page)


if __name__ == "__main__":
    sys.exit(main())
