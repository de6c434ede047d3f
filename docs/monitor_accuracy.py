"""Draws docs/monitor_accuracy.png from the results of `mmlab run experiments/monitor_accuracy.toml` (needs the extra `figures`).

    python docs/monitor_accuracy.py results/monitor_accuracy
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
monitors = list(dict.fromkeys(cell.axes["monitor.use"] for cell in result.cells))
figure, axes = plt.subplots(1, len(sources), figsize=(13, 3.3), sharey=True)
figure.suptitle("Hot bytes found against what finding them costs (experiments/monitor_accuracy.toml)")
for axis, source in zip(axes, sources):
    for cell in result.cells:
        if cell.axes["workload.source"] == source and cell.axes["monitor.use"] != "oracle":
            name, counters = cell.axes["monitor.use"], cell.result.counters
            axis.scatter(counters.get("monitor_cpu_percent", 0), counters["monitor_f1"], color=COLOURS[monitors.index(name)], label=name, s=45)
    axis.set(title=source, xlabel="share of a CPU (%)", ylim=(0, 1.05), xlim=(0, None))
    axis.grid(alpha=0.3)
axes[0].set_ylabel("F1 of hot bytes")
handles, labels = axes[0].get_legend_handles_labels()
figure.tight_layout(rect=(0, 0.09, 1, 1))
figure.legend(handles, labels, frameon=False, loc="lower center", ncols=len(labels))
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
