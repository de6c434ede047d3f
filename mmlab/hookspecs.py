"""The hooks of mmlab's plugins (entry-point group ``mmlab``). A plugin registers records; the experiment chooses among them by name."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from mmlab.policies import Policy

hookspec = pluggy.HookspecMarker("mmlab")
hookimpl = pluggy.HookimplMarker("mmlab")


@hookspec
def mmlab_policies() -> Iterable[Policy]:
    """The policies that this plugin offers.

    Called once, when plugins are loaded. Return an iterable of records (:mod:`mmlab.policies`), any slots, any number. Example::

        from mmlab.hookspecs import hookimpl

        @hookimpl
        def mmlab_policies():
            return [MY_RECLAIMER]
    """
    raise NotImplementedError
