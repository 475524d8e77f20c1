"""Run a notebook so that nothing of the user's own machine enters: not its temporary folder, its locale, or its start-up files."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Of a socket's name the system reads 107 characters; /kernel.json-1 and the random part of a folder's name take 30 of them.
LONGEST = 77
SHORT = ("/tmp", "/var/tmp", "/dev/shm", "/run/shm")


def execute(notebook: Path, out: Path, parameters: Mapping[str, Any]) -> None:
    """Run a notebook with papermill. The kernel uses Unix sockets in a temporary folder instead of TCP ports.

    A kernel first looks for free TCP ports and takes them later, so two kernels that start together may take the same ports. Other
    users of the machine could also connect to a TCP port.
    """
    import papermill
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="gta-", dir=socket_folder()) as folder:
        kernel = Config(KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"})
        # What a user runs at each start of IPython could change results; a text without an encoding is UTF-8.
        with environment(PYTHONUTF8="1", IPYTHONDIR=f"{folder}/ipython", PYTHONSTARTUP=None):
            papermill.execute_notebook(notebook, out, dict(parameters), progress_bar=False, config=kernel)


def socket_folder(others: Iterable[str] = SHORT) -> str:
    """A folder for temporary files whose path is short enough for sockets in it: the system's own, or another one.

    Raises OSError if there is none.
    """
    own = tempfile.gettempdir()
    for folder in (own, os.environ.get("XDG_RUNTIME_DIR", ""), *others):
        if os.path.isabs(folder) and len(os.fsencode(folder)) <= LONGEST and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise OSError(f"no folder for sockets: {own} has more than {LONGEST} characters; set TMPDIR to a folder with a short path")


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Variables of the environment as long as the block runs; None: unset."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
