"""The picture that a report begins with."""

from mmlab.results.overview import grid, overview
from mmlab.results.report import BLOCKS, _left_out, _policy_table
from mmlab.results.stats import compare
from mmlab.results.summary import REGRET, columns_for, rows, table_columns


def pictured(cells):
    columns = table_columns(columns_for(cells, ()), cells)
    found = grid(rows(cells, columns), columns, cells)
    return columns, found and overview(found)


def test_policies_by_how_far_they_are_above_the_best_of_each_condition(finished):
    figures = {("clock", "1G"): 30, ("lru", "1G"): 20, ("clock", "2G"): 10, ("lru", "2G"): 10}
    cells = [finished(name, seed, major, memory) for (name, memory), major in figures.items() for seed in (0, 1)]
    _, plot = pictured(cells)
    heat = plot["data"][0]
    assert heat["y"] == ["lru", "clock"] and heat["x"] == ["1G", "2G"]  # the best on average first
    assert heat["text"] == [["0.0", "0.0"], ["50", "0.0"]]  # 30 are half as many again as 20
    assert plot["layout"]["title"]["text"] == "Major faults: percent above the best under the same conditions"
    columns = columns_for(cells, ())
    assert grid(rows(cells, columns), columns, cells).table() == (["%", "1G", "2G"], [["lru", "0.0", "0.0"], ["clock", "50", "0.0"]])
    assert heat["customdata"][1][0] == "30 major faults, +50.0 %" and plot["layout"]["xaxis"]["title"]["text"] == "memory"


def test_where_the_optimum_is_known_it_is_the_regret(finished):
    cells = []
    for name, misses in (("opt", (10, 40)), ("fifo", (25, 44))):
        for memory, count in zip(("1G", "2G"), misses):
            cell = finished(name, 0, 0, memory)
            cell.result.counters.clear()
            cell.result.counters.update({"requests": 100, "misses": count})
            cells.append(cell)
    columns, plot = pictured(cells)
    assert REGRET in columns and plot["data"][0]["y"] == ["opt", "fifo"] and plot["data"][0]["text"] == [["0.0", "0.0"], ["150", "10"]]
    assert "optimum (regret)" in plot["layout"]["title"]["text"]


def test_the_figure_can_be_chosen(finished):
    """Two policies that lose 30 and 20 accesses on one machine, and 10 both on another, whatever their major faults."""
    cells = []
    for name, memory, lost in (("clock", "1G", 30), ("lru", "1G", 20), ("clock", "2G", 10), ("lru", "2G", 10)):
        cells.append(finished(name, 0, 7 if name == "lru" else 3, memory))
        cells[-1].result.counters["work_lost"] = lost
    columns = columns_for(cells, ("kills", "work_lost"))
    found = grid(rows(cells, columns), columns, cells, "work_lost")
    assert found.title.startswith("Work_lost: ") and found.table()[1] == [["lru", "0.0", "0.0"], ["clock", "50", "0.0"]]
    assert grid(rows(cells, columns), columns, cells).names == ["clock", "lru"]  # by major faults


def test_one_condition_or_one_policy_is_no_picture(finished):
    assert pictured([finished("clock", 0, 3), finished("lru", 0, 4)])[1] is None
    assert pictured([finished("clock", 0, 3, "1G"), finished("clock", 0, 4, "2G")])[1] is None


def test_the_page_says_how_many_plots_it_leaves_out(finished):
    cells = [finished(name, 0, 3, f"{number}G") for name in ("clock", "lru") for number in range(BLOCKS + 4)]
    assert f"The first {BLOCKS} of {BLOCKS + 4} choices" in _left_out(cells) and _left_out(cells[:BLOCKS]) == ""


def test_monitors_are_judged_by_what_they_found(finished):
    """F1 of 0.4 is 50 % below 0.8; more is better here, in the picture, in the table's bold and in the signs of differences."""
    cells = []
    for name, scores in (("damon", (0.8, 0.4)), ("pebs", (0.4, 0.5))):
        for memory, f1 in zip(("1G", "2G"), scores):
            cell = finished(name, 0, 0, memory)
            cell.axes["monitor.use"] = cell.axes.pop("reclaimer.use")
            cell.result.counters["monitor_f1"] = f1
            cells.append(cell)
    columns, plot = pictured(cells)
    assert plot["data"][0]["y"] == ["damon", "pebs"] and plot["data"][0]["text"] == [["0.0", "20"], ["50", "0.0"]]
    assert plot["layout"]["title"]["text"] == "F1 of hot bytes: percent below the best under the same conditions"
    assert plot["data"][0]["customdata"][1][0] == "0.40 F1 of hot bytes, -50.0 %"
    table = _policy_table(rows(cells, columns), columns, ["monitor.use", "machine.memory"], ["monitor.use"], "free")
    assert [part.split("</span>")[0].split("<span>")[1] for part in table.split("<td class=best")[1:]] == ["0.80", "0.50"]  # of 1G, and of 2G
    assert [d.better for d in compare(cells, "damon", columns) if d.column == "F1 of hot bytes"] == [False]


def test_what_is_0_everywhere_is_no_column(finished):
    titles = [column.title for column in columns_for([finished("clock", 0, 0), finished("lru", 0, 0)], ())]
    assert "major faults" in titles and "swap in" not in titles  # policies are judged by the one, not by the other
