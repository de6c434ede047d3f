"""What every benchmark shares: one round of mmlab beside one of its reference, on one core's CPU time, and the table at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
from reference import compile_c, have_gcc

ROUNDS = 7


def pytest_configure(config):
    config.addinivalue_line("markers", "bench: measures time")


@pytest.fixture(scope="session")
def c_library(tmp_path_factory):
    """benchmarks/c/NAME.c, compiled with gcc -O3."""
    if not have_gcc():
        pytest.skip("gcc is missing; the reference is C")
    folder = tmp_path_factory.mktemp("c")
    return lambda name: compile_c(name, folder)


@pytest.fixture
def compare(benchmark, record_property):
    """compare(ours, theirs, ops, ...): the medians of ROUNDS rounds, mmlab's and the reference's in turn, and the median of their ratios."""

    def run(
        ours: Callable[[], object], theirs: Callable[[], object] | None, ops: int, *, reset: Callable[[], object] = lambda: None,
        at_most: float | None = None, at_most_ns: float | None = None, at_least_m_per_s: float | None = None, reference: str = "C",
        their_ops: int | None = None,
    ) -> None:  # fmt: skip
        """ours, theirs: one round of ops (their_ops) operations; theirs may return the seconds that count; reset: before each. Goals, all of which must be met: at_most: for the ratio of
        times; at_most_ns: for an operation; at_least_m_per_s: millions of operations a second."""
        their_seconds: list[float] = []

        def before_ours() -> None:
            if theirs is not None:
                reset()
                begin = time.process_time()
                counted = theirs()
                their_seconds.append(counted if isinstance(counted, float) else time.process_time() - begin)
            reset()

        benchmark._timer = time.process_time
        benchmark.pedantic(ours, setup=before_ours, rounds=ROUNDS, warmup_rounds=1)
        if benchmark.disabled:
            return
        seconds = benchmark.stats.stats.data
        ns = statistics.median(seconds) / ops * 1e9
        properties: dict[str, object] = {"mmlab": f"{ns:.1f} ns, {1e3 / ns:.2f} M/s"}
        goals: list[tuple[str, bool]] = []
        if theirs is not None:
            scale = ops / (their_ops or ops)
            ratio = statistics.median(a / b for a, b in zip(seconds, their_seconds[1:])) / scale
            properties |= {"reference": f"{statistics.median(their_seconds[1:]) / (their_ops or ops) * 1e9:.1f} ns, {reference}", "ratio": ratio}
            if at_most is not None:
                goals.append((f"ratio at most {at_most}", ratio <= at_most))
        if at_most_ns is not None:
            goals.append((f"at most {at_most_ns} ns", ns <= at_most_ns))
        if at_least_m_per_s is not None:
            goals.append((f"at least {at_least_m_per_s} M/s", 1e3 / ns >= at_least_m_per_s))
        if goals:
            properties |= {"goal": ", ".join(text for text, _ in goals), "met": all(met for _, met in goals)}
        benchmark.extra_info.update(properties)
        for name, value in properties.items():
            record_property(name, value)

    return run


def table_row(name: str, properties: dict[str, object]) -> list[str]:
    """A line of the table: benchmark, mmlab, reference, ratio, goal, whether it is met."""
    ratio, reference, goal, met = (properties.get(key) for key in ("ratio", "reference", "goal", "met"))
    for key in properties:
        if key.startswith("ratio_to_"):  # how many times the reference's speed
            ratio, reference = properties[key], key.removeprefix("ratio_to_")
            if isinstance(goal, (int, float)):
                met, goal = ratio >= goal, f"ratio at least {goal}"
    own = properties.get("mmlab") or ", ".join(f"{v:.2f} {k}" for k, v in properties.items() if isinstance(v, float) and k != "goal" and not k.startswith("ratio"))
    return [name, str(own), str(reference or ""), "" if ratio is None else f"{ratio:.2f}", str(goal or ""), {True: "yes", False: "no"}.get(met, "")]


def pytest_terminal_summary(terminalreporter):
    """The table of all benchmarks that ran."""
    reports = [r for r in terminalreporter.stats.get("passed", []) if r.when == "call" and r.user_properties]
    if not reports:
        return
    rows = [["benchmark", "mmlab", "reference", "ratio", "goal", "met"]]
    rows += [table_row(r.nodeid.split("::")[-1].removeprefix("test_"), dict(r.user_properties)) for r in reports]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    terminalreporter.write_sep("=", "medians of CPU time; ratio: mmlab's to the reference's where nothing else is said")
    for row in rows:
        terminalreporter.write_line("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
