"""Draws docs/reclaim_shootout.png from the results of `mmlab run experiments/reclaim_shootout.toml` (needs the extra `figures`).

    python docs/reclaim_shootout.py results/reclaim_shootout
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from mmlab.results.result import Result

grid = Result(Path(sys.argv[1])).grid()
assert grid is not None, "the experiment has several policies and conditions"
above = np.array([[grid.above[name, condition] for condition in grid.conditions] for name in grid.names], dtype=float)
colours = LinearSegmentedColormap.from_list("regret", ["#f3f8f4", "#cfe3d6", "#f0d9a8", "#e09a5f", "#a2432b"])
figure, axis = plt.subplots(figsize=(10, 5.6))
axis.imshow(np.log10(1 + above), cmap=colours, vmin=0, vmax=np.log10(301), aspect="auto")
for (line, column), percent in np.ndenumerate(above):
    text = f"{percent:.0f}" if percent >= 10 else f"{percent:.1f}"
    axis.text(column, line, text, ha="center", va="center", fontsize=7.5, color="white" if percent > 120 else "#2b3442")
sources = [condition.partition(", ")[0] for condition in grid.conditions]
axis.set_xticks(range(len(sources)), [f"{float(condition.partition(', ')[2]):.0%}" for condition in grid.conditions], fontsize=8)
axis.set_yticks(range(len(grid.names)), grid.names)
for column in range(1, len(sources)):
    if sources[column] != sources[column - 1]:
        axis.axvline(column - 0.5, color="white", linewidth=4)
for source in dict.fromkeys(sources):
    at = [column for column, name in enumerate(sources) if name == source]
    axis.text(sum(at) / len(at), -0.75, source, ha="center", fontsize=9)
axis.set_xlabel("cache, of the stream's pages")
axis.tick_params(length=0)
for side in axis.spines.values():
    side.set_visible(False)
figure.suptitle("Misses: percent above Belady's optimum (experiments/reclaim_shootout.toml)")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
