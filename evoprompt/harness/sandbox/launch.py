"""The command that starts a zygote: Python itself, or what locks it in from outside."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

from evoprompt.errors import SandboxError

INSIDE: Final = Path(__file__).resolve().parent.parent / "inside"
_FLAGS: Final = ("-S", "-s", "-P", "-B", "-X", "utf8")  # `-I` would ignore PYTHONHASHSEED
_INSIDE: Final = "/evoprompt"
_SANDBOX_EXEC: Final = "/usr/bin/sandbox-exec"
_MAC_FOLDERS: Final = (
    *("/System/Library", "/System/Cryptexes", "/System/Volumes/Preboot/Cryptexes", "/Library/Apple/System/Library"),
    *("/usr/share/zoneinfo", "/usr/share/locale", "/private/var/db/timezone", "/private/var/db/dyld"),
    *("/opt/homebrew/Cellar", "/opt/homebrew/opt", "/usr/local/Cellar", "/usr/local/opt"),
)
"""What the loader and libraries of macOS read, and where Homebrew keeps those of its Python."""


def command(tier: str, paths: tuple[str, ...]) -> list[str]:
    """Returns the command that starts a zygote, up to the arguments of the zygote.

    Args:
        tier: The tier that it is for.
        paths: Directories of packages that solutions may import.

    Raises:
        SandboxError: What the tier needs is not installed.
    """
    if tier.startswith("bwrap"):
        return [*bubblewrap(paths), _python(), *_FLAGS, f"{_INSIDE}/zygote.py"]
    if tier.startswith("seatbelt"):
        return [_SANDBOX_EXEC, "-p", seatbelt(paths), _python(), *_FLAGS, str(INSIDE / "zygote.py")]
    return [sys.executable, *_FLAGS, str(INSIDE / "zygote.py")]


def bubblewrap(paths: tuple[str, ...]) -> list[str]:
    """Returns the call of bubblewrap: nothing but Python is mounted, nothing can be written.

    Keeps to options of version 0.4, which is what systems without Landlock have. `--die-with-parent` is not among
    those used: it means the thread that started it, and here that is any thread. The zygote ends when its socket does.
    """
    from evoprompt.harness.inside import lockdown  # not at import: it needs POSIX

    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bubblewrap is not installed")
    readable = lockdown.folders(_library(paths))
    options = ["--unshare-all", "--as-pid-1", "--new-session"]
    for path in (*readable, *lockdown.SYSTEM_FOLDERS, *lockdown.SYSTEM_FILES, _python()):
        if Path(path).is_symlink():
            options += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).exists():
            options += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
    for secret in (s for folder in readable for s in lockdown.hidden(folder)):
        mask = ["--tmpfs", secret, "--remount-ro", secret]
        options += mask if Path(secret).is_dir() else ["--ro-bind", "/dev/null", secret]
    for module in _modules():
        options += ["--ro-bind", str(module), f"{_INSIDE}/{module.name}"]
    return [program, *options, "--dir", lockdown.EMPTY, "--remount-ro", "/", "--chdir", lockdown.EMPTY]


def seatbelt(paths: tuple[str, ...]) -> str:
    """Returns the Seatbelt profile for macOS. Untested on a Mac: what it forgets keeps the zygote from coming up.

    The last rule that matches decides. The zygote has to fork; what it forks may not by RLIMIT_NPROC, and may signal
    its own children, of which there are none.
    """
    from evoprompt.harness.inside import lockdown

    python = _python()
    readable = [sys.base_prefix, *lockdown.folders(_library(paths)), *_MAC_FOLDERS]
    files = [python, *lockdown.SYSTEM_FILES, *map(str, _modules())]
    above = {str(p) for path in (*readable, *files) for p in Path(path).parents}
    secrets = [secret for folder in readable for secret in lockdown.hidden(folder)]
    programs = [python, f"{sys.base_prefix}/Resources/Python.app/Contents/MacOS/Python"]
    return "\n".join([
        "(version 1)",
        "(deny default)",
        "(allow process-fork)",
        f"(allow process-exec {_filters('literal', programs)})",
        "(allow signal (target self))",
        "(allow signal (target children))",
        "(allow sysctl-read)",
        f"(allow file-read-metadata {_filters('literal', sorted(above))})",
        f"(allow file-read* file-map-executable {_filters('subpath', readable)})",
        f"(deny file-read* {_filters('subpath', [*secrets, str(INSIDE.parent)])})",
        f"(allow file-read* {_filters('literal', files)})",
        f"(allow file-write-data {_filters('literal', ['/dev/null'])})",
    ])  # fmt: skip


def _filters(kind: str, paths: list[str]) -> str:
    quoted = (path.replace("\\", "\\\\").replace('"', '\\"') for path in paths)
    return " ".join(f'({kind} "{path}")' for path in quoted)


def _modules() -> list[Path]:
    """The only modules of ours that a zygote needs, and is shown."""
    return sorted(path for path in INSIDE.glob("*.py") if path.stem != "__init__")


def _python() -> str:
    """Returns the interpreter itself: a virtual environment is not shown."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _library(paths: tuple[str, ...]) -> list[str]:
    return [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *paths]
