"""Notebooks run the same whatever the machine brings along; the demo on five machines that people have."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gta.batch.kernels import LONGEST, environment, execute, socket_folder
from small import latin_1

CODE = """
import ipykernel, os, sys
transport = ipykernel.get_connection_info(unpack=True)["transport"]
print(transport, "leaked" in globals(), sys.flags.utf8_mode, os.environ["CUDA_VISIBLE_DEVICES"])
"""


def test_a_long_temporary_folder_and_start_up_files_of_a_user_do_not_enter(tmp_path, monkeypatch):
    """A TMPDIR of 83 characters, as Slurm makes them, ended every run with a path that is too long for a socket."""
    long = tmp_path / ("t" * 120)
    startup = tmp_path / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("leaked = 1", encoding="utf-8")
    (tmp_path / "start.py").write_text("leaked = 2", encoding="utf-8")
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)], metadata=kernel), tmp_path / "a.ipynb")
    given = {"TMPDIR": str(long), "IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONSTARTUP": str(tmp_path / "start.py"), "PYTHONUTF8": "0"}
    with environment(**given, CUDA_VISIBLE_DEVICES="7"):
        execute(tmp_path / "a.ipynb", tmp_path / "b.ipynb", {})
        assert os.environ["PYTHONUTF8"] == "0", "it is put back"
    cells = nbformat.read(tmp_path / "b.ipynb", as_version=4).cells
    assert [output.text for cell in cells for output in cell.get("outputs", [])] == ["ipc False 1 7\n"]


def test_a_short_temporary_folder_is_used_and_of_long_ones_the_next(tmp_path, monkeypatch):
    (short := Path("/tmp") / f"gta-{os.getpid()}").mkdir()
    (long := tmp_path / ("é" * 60)).mkdir()
    try:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(short))
        assert socket_folder() == str(short)
        monkeypatch.setattr("tempfile.tempdir", str(long))
        assert socket_folder(["/gone", str(short)]) == str(short)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
        assert socket_folder([]) == str(short)
        monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
        with pytest.raises(OSError) as caught:
            socket_folder([])
        message = f"no folder for sockets: {long} has more than {LONGEST} characters; set TMPDIR to a folder with a short path"
        assert str(caught.value) == message
    finally:
        short.rmdir()


MACHINES = {
    "a proxy that is dead": lambda _: {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")},
    "a SOCKS proxy": lambda _: {"ALL_PROXY": "socks5://127.0.0.1:1080", "all_proxy": "socks5://127.0.0.1:1080"},
    "a long TMPDIR": lambda folder: {"TMPDIR": str(folder / ("t" * (119 - len(str(folder)))))},
    "ASCII": lambda _: {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    "Latin-1": latin_1,
}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_the_demo_runs_on_machines_as_people_have_them(copy, tmp_path_factory, machine):
    given = MACHINES[machine](tmp_path_factory.mktemp("m"))
    if "TMPDIR" in given:
        Path(given["TMPDIR"]).mkdir()
        assert len(given["TMPDIR"]) == 120
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Without what would spare the demo the trouble, and what an outer make passes on.
    spared = ("no_proxy", "pythonioencoding", "makeflags", "mflags", "makelevel")
    own = {name: value for name, value in os.environ.items() if name.casefold() not in spared}
    own |= {"PATH": path, "PYTHONPATH": str(copy), **given}
    # -e: PYTHONUTF8 as it is given, which the Makefile sets otherwise; -o: the packages are those of this test.
    demo = ["make", "-e", "-o", f"{sys.prefix}/.ready", "demo", "SMOKE=1", f"VENV={sys.prefix}"]
    done = subprocess.run(demo, cwd=copy, env=own, capture_output=True)
    told = (done.stdout + done.stderr).decode(errors="backslashreplace")
    assert done.returncode == 0, told
    assert (copy / "runs/smoke/tables/zero_shot.csv").exists() and (copy / "runs/smoke/quickstart.html").exists()
