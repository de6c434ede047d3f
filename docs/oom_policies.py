"""Draws docs/oom_policies.png from the results of `mmlab run experiments/oom_policies.toml` (needs the extra `figures`).

    python docs/oom_policies.py results/oom_policies
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
rows = {(cell.axes["workload.source"], cell.axes["oom_policy.use"]): [] for cell in result.cells}
for cell in result.cells:
    rows[cell.axes["workload.source"], cell.axes["oom_policy.use"]].append(cell.result.counters)
sources, policies = (list(dict.fromkeys(key[i] for key in rows)) for i in (0, 1))
figure, axes = plt.subplots(1, len(sources), figsize=(10, 3.4), sharex=True, sharey=True)
figure.suptitle("Work lost against waiting for memory (experiments/oom_policies.toml)")
for axis, source in zip(axes, sources):
    for i, policy in enumerate(policies):
        runs = rows[source, policy]
        waited = [run["memory_some_ns"] / 1e6 for run in runs]
        lost = [run["work_lost"] / 1000 + 2 * (i - 3) for run in runs]  # side by side where they are equal
        axis.scatter(waited, lost, color=COLOURS[i], marker="osD^vPX"[i], s=20, alpha=0.8, label=policy)
    axis.set(title=source, xlabel="memory: some (ms)", xlim=(0, None), ylim=(0, None))
    axis.grid(alpha=0.3)
axes[0].set_ylabel("accesses lost (thousands)")
figure.legend(*axes[0].get_legend_handles_labels(), ncol=len(policies), loc="lower center", fontsize=8, frameon=False)
figure.tight_layout(rect=(0, 0.06, 1, 1))
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
