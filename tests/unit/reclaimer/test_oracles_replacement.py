"""The oracles themselves, on streams small enough to follow by hand."""

from mmlab.testing.oracles.replacement import clock, fifo, lru, opt

# Belady's anomaly: FIFO misses 9 of these 12 with three frames, 10 with four
ANOMALY = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]


def test_fifo_shows_beladys_anomaly():
    assert sum(fifo(ANOMALY, 3)[0]) == 9
    assert sum(fifo(ANOMALY, 4)[0]) == 10


def test_lru_and_opt_on_the_same_stream():
    assert sum(lru(ANOMALY, 3)[0]) == 10
    assert sum(lru(ANOMALY, 4)[0]) == 8
    assert sum(opt(ANOMALY, 3)[0]) == 7
    assert sum(opt(ANOMALY, 4)[0]) == 6


def test_clock_passes_over_the_object_that_was_hit():
    # 1 is hit, so 3 takes the place of 2; then 1's bit is spent and 2 takes the place of 1
    assert clock([1, 2, 1, 3, 2], 2) == ([True, True, False, True, True], {2, 3})
