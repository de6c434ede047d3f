"""Draws docs/thp_policies.png from the results of `mmlab run experiments/thp_policies.toml` (needs the extra `figures`).

    python docs/thp_policies.py results/thp_policies
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
policies = list(dict.fromkeys(cell.axes["thp.use"] for cell in result.cells))
figure, axes = plt.subplots(1, len(sources), figsize=(10, 3.6), sharex=True, sharey=True)
figure.suptitle("TLB misses against memory that nobody touches (experiments/thp_policies.toml)")
for axis, source in zip(axes, sources):
    at: dict[tuple[float, float], list[str]] = {}
    for cell in result.cells:
        if cell.axes["workload.source"] == source:
            counters = cell.result.counters
            point = counters["bloat_pages"] / 256, 100 * counters["tlb_misses"] / counters["tlb_accesses"]
            at.setdefault(point, []).append(cell.axes["thp.use"])
    for (bloat, misses), names in at.items():
        axis.scatter(bloat, misses, color=COLOURS[policies.index(names[0])], s=45)
        right = bloat > 100
        axis.annotate(", ".join(names), (bloat, misses), (-6 if right else 6, 4), textcoords="offset points", fontsize=8, ha="right" if right else "left")
    axis.set(title=source, xlabel="bloat (MiB)", xlim=(-8, 230))
    axis.set_yscale("symlog", linthresh=0.1)
    axis.set_ylim(-0.02, 400)
    axis.grid(alpha=0.3)
axes[0].set_ylabel("TLB misses (% of accesses)")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
