"""GFP flags as tracepoints print them: names joined by ``|``, or a number.

Names of several kernel versions are known. Numbers are read with the bits of Linux 6.12, which are mmlab's own.
Models: include/trace/events/mmflags.h gfpflag_string.
"""

from __future__ import annotations

from mmlab.errors import did_you_mean
from mmlab.model import gfp

_COMPOUND = {
    "GFP_ATOMIC": gfp.GFP_ATOMIC, "GFP_KERNEL": gfp.GFP_KERNEL, "GFP_KERNEL_ACCOUNT": gfp.GFP_KERNEL_ACCOUNT, "GFP_NOWAIT": gfp.GFP_NOWAIT,
    "GFP_NOIO": gfp.GFP_NOIO, "GFP_NOFS": gfp.GFP_NOFS, "GFP_USER": gfp.GFP_USER, "GFP_DMA": gfp.GFP_DMA, "GFP_DMA32": gfp.GFP_DMA32,
    "GFP_HIGHUSER": gfp.GFP_HIGHUSER, "GFP_HIGHUSER_MOVABLE": gfp.GFP_HIGHUSER_MOVABLE, "GFP_TRANSHUGE_LIGHT": gfp.GFP_TRANSHUGE_LIGHT,
    "GFP_TRANSHUGE": gfp.GFP_TRANSHUGE, "GFP_TEMPORARY": gfp.GFP_KERNEL | gfp.GFP_RECLAIMABLE, "none": 0, "GFP_NOTRACK": 0,
}  # fmt: skip
_SINGLE = {
    "DMA": gfp.GFP_DMA, "HIGHMEM": gfp.GFP_HIGHMEM, "DMA32": gfp.GFP_DMA32, "MOVABLE": gfp.GFP_MOVABLE, "RECLAIMABLE": gfp.GFP_RECLAIMABLE,
    "HIGH": gfp.GFP_HIGH, "IO": gfp.GFP_IO, "FS": gfp.GFP_FS, "ZERO": gfp.GFP_ZERO, "DIRECT_RECLAIM": gfp.GFP_DIRECT_RECLAIM,
    "KSWAPD_RECLAIM": gfp.GFP_KSWAPD_RECLAIM, "RECLAIM": gfp.GFP_RECLAIM, "WAIT": gfp.GFP_RECLAIM, "WRITE": gfp.GFP_WRITE,
    "NOWARN": gfp.GFP_NOWARN, "RETRY_MAYFAIL": gfp.GFP_RETRY_MAYFAIL, "REPEAT": gfp.GFP_RETRY_MAYFAIL, "NOFAIL": gfp.GFP_NOFAIL,
    "NORETRY": gfp.GFP_NORETRY, "MEMALLOC": gfp.GFP_MEMALLOC, "COMP": gfp.GFP_COMP, "NOMEMALLOC": gfp.GFP_NOMEMALLOC,
    "HARDWALL": gfp.GFP_HARDWALL, "THISNODE": gfp.GFP_THISNODE, "ACCOUNT": gfp.GFP_ACCOUNT,
}  # fmt: skip
#: flags of some kernel version that change nothing here
_WITHOUT_EFFECT = ("ATOMIC", "COLD", "NOTRACK", "OTHER_NODE", "NO_KSWAPD", "ZEROTAGS", "SKIP_ZERO", "SKIP_KASAN", "SKIP_KASAN_POISON",
                   "SKIP_KASAN_UNPOISON", "NOLOCKDEP", "NO_OBJ_EXT")  # fmt: skip
GFP_NAMES: dict[str, int] = {
    **_COMPOUND, **{f"__GFP_{name}": bits for name, bits in _SINGLE.items()}, **{f"__GFP_{name}": 0 for name in _WITHOUT_EFFECT},
}  # fmt: skip
_ALL = (1 << 23) - 1


def gfp_flags(text: str) -> int:
    """mmlab's GFP bits of a text such as ``GFP_KERNEL|__GFP_ZERO`` or ``0xcc0``. Raises ValueError for a name that is not known."""
    flags = 0
    for name in text.split("|"):
        if name in GFP_NAMES:
            flags |= GFP_NAMES[name]
            continue
        try:
            flags |= int(name, 0) & _ALL
        except ValueError:
            raise ValueError(f"no GFP flag named {name!r}{did_you_mean(name, GFP_NAMES)}") from None
    return flags


def gfp_text(flags: int) -> str:
    """The flags as tracepoints print them: the largest compound that is contained in them, then single flags; ``0`` for none."""
    found = []
    rest = flags
    for names in (_COMPOUND, {f"__GFP_{name}": bits for name, bits in _SINGLE.items()}):
        for name, bits in sorted(names.items(), key=lambda item: -item[1].bit_count()):
            if bits and bits & ~rest == 0 and name != "GFP_TEMPORARY":  # 6.12 has none
                found.append(name)
                rest &= ~bits
    return "|".join(found) or "0"
