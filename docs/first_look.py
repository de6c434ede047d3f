"""Draws docs/first_look.png from the results of `mmlab run experiments/first_look.toml` (needs the extra `figures`).

    python docs/first_look.py results/first_look
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from mmlab.results.result import Result

PLOTS = {"pgmajfault": "major faults so far", "rss_pages": "resident pages, all tasks"}

result = Result(Path(sys.argv[1]))
figure, axes = plt.subplots(1, len(PLOTS), figsize=(9.5, 3.2))
figure.suptitle("gcc compiles a file in 8 MiB, four reclaimers (experiments/first_look.toml)")
for axis, (column, title) in zip(axes, PLOTS.items()):
    for cell in result.cells:
        axis.plot(cell.result.series["time_ns"] / 1e6, cell.result.series[column], label=cell.axes["reclaimer.use"], linewidth=1.3)
    axis.set(title=title, xlabel="simulated ms (vm_guest)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
