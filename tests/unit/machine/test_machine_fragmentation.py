"""The two fragmentation indices, against what the kernel printed for these free blocks."""

import pytest

from mmlab.machine.fragmentation import extfrag_index, format_index, unusable_index

DMA = [1792, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
DMA32 = [19092, 118, 4, 5, 2, 2, 6, 5, 2, 2, 0]


@pytest.mark.parametrize(
    ("blocks", "index", "unusable"),
    [
        (DMA, ["-1.000"] * 8 + ["0.996", "0.998", "0.999"], "0.000 0.888 0.888 0.888 0.888 0.888 0.904 0.936 1.000 1.000 1.000"),
        (DMA32, ["-1.000"] * 10 + ["0.999"], "0.000 0.866 0.876 0.877 0.879 0.880 0.883 0.901 0.930 0.953 1.000"),
        ([0] * 11, ["0.000"] * 11, " ".join(["1.000"] * 11)),
    ],
)
def test_indices(blocks, index, unusable):
    assert [format_index(extfrag_index(blocks, o)) for o in range(11)] == index
    assert [format_index(unusable_index(blocks, o)) for o in range(11)] == unusable.split()
