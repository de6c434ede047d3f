"""Badness, the score in /proc, and who is chosen; figures of a recorded Linux 6.12 where a test says so."""

import numpy as np
import pytest
from mmlab_linux.oom_policy.linux import LINUX_OOM
from mmlab_rivals.oom_policy.allocating_task import ALLOCATING_TASK

from mmlab.kernels.pointer import State
from mmlab.model.rows import (
    MM_PGTABLES_BYTES, MM_RSS_ANON, MM_RSS_FILE, MM_RSS_SHMEM, MM_STRIDE, MM_SWAPENTS, NR_SCALARS, SC_NR_SWAP_SLOTS, SC_NR_TASKS,
    SC_TOTALRAM, T_ALIVE, T_FLAGS, T_MM, T_OOM_SCORE_ADJ, TASK_STRIDE, TF_KILLED, TF_OOM_VICTIM,
)
from mmlab.testing.calls import call_op

pytestmark = pytest.mark.nojit
NO_STATE = State("oom_policy.test", {})


def machine(*tasks: dict, ram: int = 10_000, swap: int = 0) -> State:
    """A machine of `ram` + `swap` pages; a task is {rss, swapents, table_kb, adj, alive, flags, mm}."""
    sizes = {"sc": NR_SCALARS, "task": 16 * TASK_STRIDE, "mm": 16 * MM_STRIDE}
    m = State("machine", {name: np.zeros(length, np.int64) for name, length in sizes.items()})
    m.sc[SC_TOTALRAM], m.sc[SC_NR_SWAP_SLOTS], m.sc[SC_NR_TASKS] = ram, swap + 1 if swap else 0, len(tasks)
    for i, task in enumerate(tasks):
        row, mm = i * TASK_STRIDE, i * MM_STRIDE
        m.task[row + T_ALIVE], m.task[row + T_MM] = task.get("alive", 1), task.get("mm", i)
        m.task[row + T_OOM_SCORE_ADJ], m.task[row + T_FLAGS] = task.get("adj", 0), task.get("flags", 0)
        m.mm[mm + MM_RSS_ANON], m.mm[mm + MM_SWAPENTS] = task.get("rss", 0), task.get("swapents", 0)
        m.mm[mm + MM_PGTABLES_BYTES] = task.get("table_kb", 0) * 1024
    return m


# task: VmRSS kB, VmSwap kB, VmPTE kB, oom_score_adj, oom_score, as a guest with 215544 kB of memory and 131068 kB of swap printed them
RECORDED = {
    "T0": (1644, 0, 36, 0, 669), "T1": (9836, 0, 52, 0, 685), "T2": (18028, 0, 68, 0, 701), "T3": (34412, 0, 100, 0, 732),
    "T4": (18028, 0, 68, 300, 899), "T5": (18028, 0, 68, -300, 503), "T6": (18028, 0, 68, 1000, 1362), "T7": (18028, 0, 68, -1000, 0),
    "T8": (1644, 0, 36, 1000, 1331), "T9": (1644, 0, 36, -999, 9), "T10": (9836, 0, 52, -50, 652), "T11": (9836, 0, 52, 50, 718),
    "T12": (1644, 0, 36, 100, 736), "T13": (9836, 0, 52, 999, 1346), "T0 later": (1644, 0, 36, 500, 1000),
    "T2 paged out": (1644, 16384, 68, 0, 701),
}


@pytest.mark.parametrize("task", RECORDED)
def test_score_equals_what_the_kernel_printed(task):
    rss, swapped, tables, adj, score = RECORDED[task]
    m = machine({"rss": rss // 4, "swapents": swapped // 4, "table_kb": tables, "adj": adj}, ram=215544 // 4, swap=131068 // 4)
    assert call_op(LINUX_OOM, "oom_score", m, NO_STATE, 0) == score
    assert call_op(ALLOCATING_TASK, "oom_score", m, NO_STATE, 0) == score


def test_all_kinds_of_resident_pages_count():
    m = machine({"rss": 1000})
    m.mm[MM_RSS_FILE], m.mm[MM_RSS_SHMEM] = 2000, 3000
    assert call_op(LINUX_OOM, "oom_score", m, NO_STATE, 0) == (1000 + 600) * 2 // 3


def test_victim_holds_the_most():
    m = machine({"rss": 500}, {"rss": 900}, {"rss": 700, "swapents": 300}, {"rss": 100})
    assert call_op(LINUX_OOM, "select_victim", m, NO_STATE, 0, 0) == 2


def test_page_tables_decide_between_equal_sizes():
    m = machine({"rss": 500, "table_kb": 8}, {"rss": 500, "table_kb": 4})
    assert call_op(LINUX_OOM, "select_victim", m, NO_STATE, 1, 0) == 0


def test_adj_is_thousandths_of_all_memory_rounded_down_once():
    # 10 999 pages: one thousandth is 10, not 10.999
    m = machine({"rss": 0, "adj": 100}, {"rss": 1001}, ram=10_999)
    assert call_op(LINUX_OOM, "select_victim", m, NO_STATE, 1, 0) == 1
    m = machine({"rss": 0, "adj": 100}, {"rss": 999}, ram=10_999)
    assert call_op(LINUX_OOM, "select_victim", m, NO_STATE, 1, 0) == 0


def test_of_equals_the_younger_dies():
    assert call_op(LINUX_OOM, "select_victim", machine({"rss": 5}, {"rss": 5}, {"rss": 4}), NO_STATE, 0, 0) == 1


def test_negative_badness_can_be_chosen():
    m = machine({"rss": 1, "adj": -900}, {"rss": 1, "adj": -999}, {"rss": 9999, "adj": -1000})
    assert call_op(LINUX_OOM, "select_victim", m, NO_STATE, 2, 0) == 0


@pytest.mark.parametrize("exempt", [{"adj": -1000}, {"alive": 0}, {"mm": -1}, {"flags": TF_KILLED}, {"flags": TF_OOM_VICTIM}])
def test_exempt_tasks_are_never_chosen(exempt):
    m = machine({"rss": 9000, **exempt})
    assert call_op(LINUX_OOM, "select_victim", m, NO_STATE, 0, 0) == -1
    assert call_op(LINUX_OOM, "oom_score", m, NO_STATE, 0) == 0
    assert call_op(ALLOCATING_TASK, "select_victim", m, NO_STATE, 0, 0) == -1


def test_allocating_task_kills_the_caller_though_another_is_larger():
    m = machine({"rss": 9000}, {"rss": 1})
    assert call_op(ALLOCATING_TASK, "select_victim", m, NO_STATE, 1, 0) == 1


def test_allocating_task_falls_back_to_badness():
    m = machine({"rss": 10}, {"rss": 9000}, {"rss": 9500, "adj": -1000})
    assert call_op(ALLOCATING_TASK, "select_victim", m, NO_STATE, 2, 0) == 1
    assert call_op(ALLOCATING_TASK, "select_victim", m, NO_STATE, -1, 0) == 1
