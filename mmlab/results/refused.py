"""What a script asked for and the kernel refused: an errno is an answer like any other there, but whoever wrote the script should see it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from mmlab.results.cell_result import CellResult


def refused(results: list[CellResult]) -> Iterator[str]:
    """A line for each operation that was refused in some of the cells: its line in the script, its words, the errno's name."""
    found: dict[tuple[int, str, int], int] = {}
    for result in results:
        for row in result.tables.get("refused", []):
            key = (row["line"], row["op"], row["errno"])
            found[key] = found.get(key, 0) + 1
    for (line, text, number), cells in sorted(found.items()):
        where = "" if cells == len(results) else f" in {cells} of {len(results)} cells"
        yield f"refused{where}: line {line}: {text}: {errno.errorcode.get(number, number)}"
