"""Cost models name costs that exist, are whole numbers of ns, and follow their params."""

import pytest
from mmlab_linux.cost_model.free import FREE
from mmlab_linux.cost_model.icount_guest import ICOUNT_GUEST
from mmlab_linux.cost_model.nvme_desktop import NVME_DESKTOP
from mmlab_linux.cost_model.skylake import SKYLAKE
from mmlab_linux.cost_model.tcg_guest import TCG_GUEST
from mmlab_linux.cost_model.vm_guest import VM_GUEST
from mmlab_linux.cost_model.zen import ZEN

from mmlab.model.rows import COST_NAMES


@pytest.mark.parametrize("model", [VM_GUEST, NVME_DESKTOP, SKYLAKE, ZEN, TCG_GUEST, ICOUNT_GUEST], ids=lambda model: model.name)
def test_every_cost_has_a_figure(model):
    costs = model.costs(model.params())
    assert set(costs) == set(COST_NAMES)
    assert all(isinstance(ns, int) and ns >= 0 for ns in costs.values())


def test_free_costs_nothing():
    assert FREE.costs(None) == {}


def test_parts_of_a_guests_fault_add_up_to_what_was_measured():
    costs = VM_GUEST.costs(VM_GUEST.params())
    assert costs["fault"] + costs["zero_page"] == 1539  # anonymous write fault
    assert costs["fault"] + costs["copy_page"] == 2770  # copy on write after fork


def test_a_desktop_is_nowhere_slower_than_the_guest():
    guest, desktop = VM_GUEST.costs(VM_GUEST.params()), NVME_DESKTOP.costs(NVME_DESKTOP.params())
    assert [name for name in COST_NAMES if desktop[name] > guest[name]] == []


@pytest.mark.parametrize("model", [VM_GUEST, NVME_DESKTOP, TCG_GUEST, ICOUNT_GUEST], ids=lambda model: model.name)
def test_params_set_the_devices_times(model):
    costs = model.costs(model.params(device_read_ns=7, device_write_ns=9))
    assert (costs["device_read"], costs["device_write"]) == (7, 9)
    with pytest.raises(ValueError, match="device_read_ns"):
        model.params(device_read_ns=-1)


def test_a_counted_guest_takes_what_was_recorded():
    costs = ICOUNT_GUEST.costs(ICOUNT_GUEST.params())
    assert costs["fault"] + costs["zero_page"] == 60_250  # the first touch of a page
    assert costs["fault"] + costs["copy_page"] == 97_050  # copy on write after fork
    assert costs["migrate_folio"] + costs["migrate_page"] == 113_000  # mbind() with MPOL_MF_MOVE, a page
    assert costs["migrate_folio"] + 512 * costs["migrate_page"] == pytest.approx(34_500_000, rel=0.01)  # a huge page
    assert costs["damos_page"] + costs["lru_move"] + costs["submit_page"] == 61_500  # pageout, a page


def test_an_emulated_guest_takes_what_was_recorded():
    costs = TCG_GUEST.costs(TCG_GUEST.params())
    assert costs["fault"] + costs["zero_page"] == 8_850  # the first touch of a page
    assert costs["fault"] + costs["zero_page"] + costs["host_fault"] == 18_850  # in a frame that was never used
    assert costs["fault"] + costs["copy_page"] + costs["host_fault"] == 26_350  # copy on write after fork
    assert costs["scan_page"] + costs["reclaim_page"] == 1_700  # a clean page that reclaim finds at the tail
    # kswapd's CPU time: 75,300 pages scanned, 33,300 written in 350 requests and 28,400 freed in 469 ms, traced
    kswapd = 75_300 * costs["scan_page"] + 33_300 * costs["submit_page"] + 350 * costs["submit_request"] + 28_400 * costs["reclaim_page"]
    assert 0.85 * 469_000_000 < kswapd < 469_000_000
