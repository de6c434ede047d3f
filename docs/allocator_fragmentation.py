"""Draws docs/allocator_fragmentation.png from the results of `mmlab run experiments/allocator_fragmentation.toml` (needs the extra `figures`).

    python docs/allocator_fragmentation.py results/allocator_fragmentation
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from mmlab.results.result import Result

PUBLISHED = {"buddy": 5107 / 33_914, "llfree": 31_967 / 33_914}

result = Result(Path(sys.argv[1]))
runs = {cell.axes["page_allocator.use"]: cell.result.series for cell in result.cells}
# pages that wait on per-CPU lists are free, but not on buddy's lists: LLFree, which has none, shows how much is free in all
possible = sum(column[-1] for name, column in runs["llfree"].items() if name.startswith("nr_free:")) // 512
figure, axis = plt.subplots(figsize=(7.5, 3.4))
for name, series in runs.items():
    rounds = series["free_huge_frames"][2:]  # after boot and after filling
    (line,) = axis.plot(100 * rounds / possible, label=name, linewidth=1.5)
    axis.plot([len(rounds) - 1], [100 * PUBLISHED[name]], "o", color=line.get_color(), fillstyle="none")
axis.plot([], [], "o", color="grey", fillstyle="none", label="published, 128 GiB")
axis.set(title="Huge frames that are free (experiments/allocator_fragmentation.toml)", xlabel="rounds", ylabel="% of what free memory would make",
         ylim=(0, 102))  # fmt: skip
axis.grid(alpha=0.3)
axis.legend(frameon=False, loc="center left")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
