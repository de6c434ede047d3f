"""The errors a user can meet, each with the exit code the command line ends with.

0 done, 1 the run failed, 2 bad input, 3 a plugin's fault. Messages say where, which key, which value and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MmlabError(Exception):
    """A run that failed for a reason of its own (exit code 1)."""

    exit_code = 1


class InputError(MmlabError):
    """Something the user wrote is wrong; carries every message found in that input, not just the first (exit code 2)."""

    exit_code = 2

    def __init__(self, messages: str | Iterable[str]):
        self.messages = [messages] if isinstance(messages, str) else list(messages)
        super().__init__("\n".join(self.messages))


class PluginError(MmlabError):
    """A plugin broke its contract; the message names the plugin and its distribution (exit code 3)."""

    exit_code = 3


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'mglru'?`` for a near miss, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


class NotSupported(MmlabError):
    """A mechanism that mmlab does not simulate yet, by name."""
