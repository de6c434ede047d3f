"""The plots of gain against cost that a report begins with."""

from mmlab.results.summary import arm_axes, rows, varying
from mmlab.results.trade_off import FIELDS, trade_offs


def plots(cells):
    return trade_offs(rows(cells), arm_axes(cells), varying(cells))


def test_a_point_a_policy_and_a_field_a_condition(finished):
    """Two policies, two sizes of memory and two seeds, whose mean is drawn; the time waited is a counter of ns, shown in ms."""
    cells = []
    for name, waited in (("clock", 4_000_000), ("lru", 2_000_000)):
        for memory, lost in (("1G", 10), ("2G", 30)):
            for seed in (0, 1):
                cells.append(finished(name, seed, 3, memory))
                cells[-1].result.counters.update({"memory_some_ns": waited + 2_000_000 * seed, "work_lost": lost + 10 * seed})
    (plot,) = plots(cells)
    points = [(point["name"], point["xaxis"], point["x"], point["y"]) for point in plot["data"]]
    assert points == [("clock", "x", [5], [15]), ("lru", "x", [3], [15]), ("clock", "x2", [5], [35]), ("lru", "x2", [3], [35])]
    assert [note["text"] for note in plot["layout"]["annotations"]] == ["memory=1G", "memory=2G"]
    assert [point["showlegend"] for point in plot["data"]] == [True, True, False, False]
    assert plot["layout"]["xaxis2"]["domain"][0] > plot["layout"]["xaxis"]["domain"][1]  # side by side, and one scale
    assert plot["layout"]["yaxis2"]["matches"] == "y"


def test_what_tells_nothing_apart_is_no_plot(finished):
    cells = [finished("clock", 0, 3), finished("lru", 0, 4)]
    assert plots(cells) == []  # no such counters
    for number, cell in enumerate(cells):
        cell.result.counters.update({"pgmigrate_success": number, "accesses_slow": 0})
    assert plots(cells) == []  # nobody had anything to gain
    for cell in cells:
        cell.result.counters.update({"pgmigrate_success": 3, "accesses_slow": 7})
    assert plots(cells) == []
    cells[1].result.counters["pgmigrate_success"] = 4  # the same gain at another price
    assert len(plots(cells)) == 1


def test_a_monitor_that_costs_nothing_is_at_0_and_fields_are_limited(finished):
    cells = []
    for number in range(FIELDS + 2):
        for name, f1 in (("oracle", 1.0), ("damon", 0.5)):
            cell = finished(name, 0, 0, f"{number}G")
            cell.axes["monitor.use"] = cell.axes.pop("reclaimer.use")
            cell.result.counters.update({"monitor_f1": f1} | ({"monitor_cpu_percent": 2.0} if name == "damon" else {}))
            cells.append(cell)
    (plot,) = plots(cells)
    assert [(point["x"], point["y"]) for point in plot["data"][:2]] == [([0], [1]), ([2], [0.5])]
    assert len(plot["layout"]["annotations"]) == FIELDS
    domains = [plot["layout"][f"yaxis{number or ''}"]["domain"] for number in (0, 6, 11)]  # three lines of five, none over another
    assert domains[0][0] > domains[1][1] > domains[1][0] > domains[2][1] > domains[2][0] >= 0
