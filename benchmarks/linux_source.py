"""Linux's sources, where this machine has them: what the references that compile the kernel's own code need of them.

They are looked for in the folder or archive that LINUX_SOURCE names, or in /usr/src, where Debian's package linux-source puts them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tarfile
from pathlib import Path

from reference import SOURCES

HINT = "Linux's sources are not here: install the package linux-source, or set LINUX_SOURCE to a source folder or .tar.xz"
WANTED = ("include/linux/", "lib/", "tools/include/", "tools/lib/", "tools/testing/", "tools/arch/x86/include/")
INCLUDES = ("tools/testing/shared", "tools/include", "", "lib", "tools/lib")


def find() -> Path | None:
    """A source folder, or an archive of one; the newest where /usr/src has several."""
    named = os.environ.get("LINUX_SOURCE")
    candidates = [Path(named)] if named else sorted(Path("/usr/src").glob("linux-source-*"), reverse=True)
    for path in candidates:
        if path.name.endswith(".tar.xz") or (path / "lib/maple_tree.c").is_file():
            return path
        archives = sorted(path.glob("linux-source-*.tar.xz"))
        if archives:
            return archives[-1]
    return None


def _wanted(member: tarfile.TarInfo) -> bool:
    return member.name.partition("/")[2].startswith(WANTED) and (member.isfile() or member.isdir())


def unpack(source: Path, folder: Path) -> Path:
    """The source folder; of an archive, what is WANTED is unpacked into `folder` first."""
    if source.is_dir():
        return source
    with tarfile.open(source) as archive:
        archive.extractall(folder, members=filter(_wanted, archive))
    return next(folder.glob("*/lib/maple_tree.c")).parents[1]


def compile_kernel(name: str, source: Path, folder: Path) -> ctypes.CDLL:
    """benchmarks/c/NAME.c, which includes files of the kernel, as a library, made in folder with gcc -O2, the kernel's own level."""
    root = unpack(source, folder)
    (folder / "generated").mkdir()
    for header in ("urcu.h", "generated/autoconf.h"):
        (folder / header).write_text("")
    (folder / "generated/map-shift.h").write_text("#define XA_CHUNK_SHIFT 6\n")
    includes = [f"-I{folder}", *(f"-I{root / path}" for path in INCLUDES)]
    library = folder / f"{name}.so"
    subprocess.run(["gcc", "-O2", "-w", "-shared", "-fPIC", *includes, "-o", library, SOURCES / f"{name}.c"], check=True)
    return ctypes.CDLL(str(library))
