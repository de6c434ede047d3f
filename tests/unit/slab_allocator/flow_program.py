"""Runs the slab commands of a probe program (cache, calloc, cfree, cdump, cshrink) and numbers slabs as the recorded cases do."""

from __future__ import annotations

from slab_machine import SlabMachine

from mmlab.model.slabinfo import SLAB_ACCOUNT, SLAB_CACHE_DMA, SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU

FLAGS = {
    "NONE": 0, "NO_MERGE": SLAB_NO_MERGE, "HWCACHE_ALIGN": SLAB_HWCACHE_ALIGN, "RECLAIM": SLAB_RECLAIM_ACCOUNT, "ACCOUNT": SLAB_ACCOUNT,
    "RCU": SLAB_TYPESAFE_BY_RCU, "DMA": SLAB_CACHE_DMA,
}


class FlowProgram:
    """slabs: for each calloc line the slab of each object; states: by name of the dump. A slab that is freed loses its number."""

    def __init__(self, machine: SlabMachine):
        self.machine = machine
        self.objects: dict[int, int] = {}
        self.numbers: dict[int, dict[int, int]] = {}
        self.made: dict[int, int] = {}
        self.slabs: list[list[int]] = []
        self.states: dict[str, dict] = {}

    def run(self, text: str) -> None:
        for line in text.splitlines():
            words = line.split()
            if words:
                getattr(self, words[0])(*words[1:])
                self._forget_freed()

    def cache(self, cache, name, size, align, flags):
        assert self.machine.op("create", int(cache), int(size), int(align), FLAGS[flags]) == 0

    def calloc(self, cache, slot, gfp, *more):
        assert gfp == "KERNEL"
        found = []
        for at in self._slots(slot, more):
            self.objects[at] = self.machine.alloc(int(cache))
            found.append(self._number(int(cache), self.machine.slab_of(self.objects[at])))
        self.slabs.append(found)

    def cfree(self, cache, slot, *more):
        for at in self._slots(slot, more):
            if at in self.objects:  # a program may name a slot that it has freed before
                assert self.machine.free(self.objects.pop(at)) == 0

    def cshrink(self, cache):
        assert self.machine.op("shrink", int(cache)) >= 0

    def cdump(self, cache, name):
        c, machine = int(cache), self.machine
        cpu = [machine.cpu_slab(c)] if machine.cpu_slab(c) >= 0 else []
        node = machine.st.node[c * 4 : c * 4 + 3].tolist()
        self.states[name] = {
            **{key: [[self._number(c, slab), *machine.counts(slab)] for slab in slabs]
               for key, slabs in (("cpu", cpu), ("cpu_partial", machine.cpu_partial(c)), ("node_partial", machine.node_partial(c)))},
            "freelist": [len(machine.private(c))] if cpu else [],
            "nodes": [dict(zip(("nr_partial", "nr_slabs", "total_objects"), node))],
        }

    def _number(self, cache: int, slab: int) -> int:
        numbers = self.numbers.setdefault(cache, {})
        if slab not in numbers:
            numbers[slab] = self.made.get(cache, 0)
            self.made[cache] = numbers[slab] + 1
        return numbers[slab]

    def _forget_freed(self) -> None:
        for numbers in self.numbers.values():
            for slab in [slab for slab in numbers if not self.machine.is_slab(slab)]:
                del numbers[slab]

    @staticmethod
    def _slots(slot: str, more: tuple[str, ...]) -> list[int]:
        options = dict(word.split("=") for word in more if "=" in word)
        slots = [int(slot) + i * int(options.get("step", 1)) for i in range(int(options.get("n", 1)))]
        return slots[::-1] if "rev" in more else slots
