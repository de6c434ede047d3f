"""What `sh COMMAND` may say here: true, echo, cat and ls, `;`, `for NAME in WORDS; do …; done`, `$NAME`, `$(cat PATH)`, `*` and redirections;
`mount -o remount,huge=VALUE /mnt`.

Paths below /out are files of the result folder; all others are the simulated machine's. Everything else a shell can do is not supported.
"""

from __future__ import annotations

import fnmatch
import re
import shlex

from mmlab import procfs
from mmlab._engine.script_state import ScriptState
from mmlab.errors import NotSupported
from mmlab.model import rows as r
from mmlab.procfs.settings import SHMEM_HUGE

MOUNT_HUGE = ("never", "always", "within_size", "advise")
SHELL_FAILED = 256  # wait status of a shell that exits with 1
_CAT = re.compile(r"\$\(\s*cat\s+([^\s()]+)\s*\)")
_INSERTED = "\x01"  # begins a word that stands for a file's text
_PLACE = re.compile(r"/sys/[^*]*/|/proc/[^*]*/")


def run_shell(run: ScriptState, command: str) -> int:
    """Run a command: 0, or SHELL_FAILED where a file was missing or refused what was written. NotSupported for what is not simulated."""
    lexer = shlex.shlex(_CAT.sub(lambda match: _INSERTED + match[1], command), posix=True, punctuation_chars=";>")
    lexer.whitespace_split = True
    try:
        return _Shell(run, command).sequence(list(lexer))
    except FileNotFoundError:
        return SHELL_FAILED
    except (ValueError, NotSupported):
        raise NotSupported(f"sh {command}") from None


class _Shell:
    def __init__(self, run: ScriptState, command: str):
        self.run, self.command, self.variables = run, command, {}  # type: ignore[var-annotated]

    def sequence(self, words: list[str]) -> int:
        """Commands with `;` between them: the answer of the last."""
        answer = 0
        while words:
            if words[0] == "for":
                answer, words = self._loop(words)
            else:
                end = words.index(";") if ";" in words else len(words)
                answer, words = self._simple(words[:end]), words[end + 1 :]
        return answer

    def _loop(self, words: list[str]) -> tuple[int, list[str]]:
        """for NAME in WORDS ; do COMMANDS ; done, and what comes behind it."""
        if words[2:3] != ["in"] or "do" not in words or "done" not in words:
            raise NotSupported(f"sh {self.command}")
        head, done = words.index("do"), words.index("done")
        end = words.index(";", done) if ";" in words[done:] else len(words)
        _, target = self._redirection(words[done + 1 : end])
        text = ""
        for value in self._expanded([word for word in words[3:head] if word != ";"]):
            self.variables[words[1]] = value
            commands = " ".join(words[head + 1 : done]).split(" ; ")
            text += "".join(self._output(part.rstrip(" ;").split()) for part in commands)
        return self._write(target, text), words[end + 1 :]

    def _simple(self, words: list[str]) -> int:
        words, target = self._redirection(words)
        return self._write(target, self._output(words))

    def _redirection(self, words: list[str]) -> tuple[list[str], tuple[str, str] | None]:
        for operator in (">", ">>"):
            if operator in words:
                at = words.index(operator)
                if at + 2 != len(words):
                    raise NotSupported(f"sh {self.command}")
                return words[:at], (operator, words[at + 1])
        return words, None

    def _output(self, words: list[str]) -> str:
        name, *arguments = words
        arguments = self._expanded(arguments)
        if name == "true":
            return ""
        if name == "echo":
            return " ".join(arguments) + "\n"
        if name == "cat":
            return "".join(procfs.read(self.run.sim, path) for path in arguments)
        if name == "ls":
            found = {path.split("/")[0] for folder in arguments for path, _ in procfs.files(self.run.sim, folder)}
            return "".join(f"{entry}\n" for entry in sorted(found))
        if name == "mount":
            return self._remount(arguments)
        raise NotSupported(f"sh {self.command}")

    def _remount(self, arguments: list[str]) -> str:
        option, huge = arguments[1].split(",huge=") if len(arguments) == 3 and ",huge=" in arguments[1] else ("", "")
        if arguments[:1] != ["-o"] or option != "remount" or arguments[2] != "/mnt" or huge not in MOUNT_HUGE or self.run.sim.cfg.disk_bytes:
            raise NotSupported(f"sh {self.command}")
        self.run.sim.machine.sc[r.SC_TMPFS_HUGE] = SHMEM_HUGE[huge]
        return ""

    def _expanded(self, words: list[str]) -> list[str]:
        """Words with variables, files' texts and patterns filled in."""
        found: list[str] = []
        for word in words:
            text = re.sub(r"\$\{?(\w+)\}?", lambda match: self.variables.get(match[1], ""), word)
            if text.startswith(_INSERTED):
                found += procfs.read(self.run.sim, text[1:]).split()
            elif "*" in text and (folder := _PLACE.match(text)):
                paths = [folder[0] + path for path, _ in procfs.files(self.run.sim, folder[0].rstrip("/"))]
                found += sorted(path for path in paths if fnmatch.fnmatchcase(path, text)) or [text]
            else:
                found.append(text)
        return found

    def _write(self, target: tuple[str, str] | None, text: str) -> int:
        if target is None:
            return 0
        operator, path = target
        if path.startswith("/out/"):
            with (self.run.out / path.removeprefix("/out/")).open("a" if operator == ">>" else "w") as file:
                file.write(text)
            return 0
        return SHELL_FAILED if procfs.write(self.run.sim, path, text.rstrip("\n")) else 0
