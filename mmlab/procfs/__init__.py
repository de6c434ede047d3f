"""The simulated machine's /proc and /sys: text as Linux 6.12 prints it, and what writing to a file does.

``read(sim, path)``, ``write(sim, path, text)`` and ``files(sim, folder)`` work on anything with the attributes of ``mmlab.Simulation``;
``pagemap`` and ``mincore`` look at a range of a task's pages.
"""

from mmlab.procfs.mincore import mincore
from mmlab.procfs.pagemap import pagemap
from mmlab.procfs.registry import TASK_FILES, files, read, write

__all__ = ["TASK_FILES", "files", "mincore", "pagemap", "read", "write"]
