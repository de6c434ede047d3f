"""Draws docs/tiering.png from the results of `mmlab run experiments/tiering.toml` (needs the extra `figures`).

    python docs/tiering.py results/tiering
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from mmlab.results.plotting import COLOURS
from mmlab.results.result import Result

result = Result(Path(sys.argv[1]))
sources = list(dict.fromkeys(cell.axes["workload.source"] for cell in result.cells))
policies = list(dict.fromkeys(cell.axes["tiering.use"] for cell in result.cells))
figure, axes = plt.subplots(1, len(sources), figsize=(10, 3.2), sharey=True)
figure.suptitle("Accesses to slow memory on a machine with two kinds of it, and how long the run took (experiments/tiering.toml)", fontsize=11)
for axis, source in zip(axes, sources):
    for i, policy in enumerate(policies):
        (counters,) = [c.result.counters for c in result.cells if (c.axes["workload.source"], c.axes["tiering.use"]) == (source, policy)]
        share = 100 * counters["accesses_slow"] / (counters["accesses_slow"] + counters["accesses_fast"])
        axis.bar(i, share, color=COLOURS[i])
        axis.text(i, share + 1, f"{counters['sim_time_ns'] / 1e9:.2f} s", ha="center", fontsize=7.5)
    axis.set_xticks(range(len(policies)), policies, rotation=45, ha="right")
    axis.set(title=source)
    axis.margins(y=0.12)
    axis.grid(alpha=0.3, axis="y")
axes[0].set_ylabel("% of all accesses")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
