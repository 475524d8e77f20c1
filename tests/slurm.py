"""A Slurm of one machine, for the slow test of `profiles/slurm`: munge, a controller and two nodes, all of them in one folder.

    python tests/slurm.py up FOLDER      # prints the line that a shell needs; Debian: apt install slurm-wlm munge
    python tests/slurm.py down FOLDER

It runs as whoever starts it, needs neither systemd nor a database, and listens on this machine alone. Node `two` has a GPU that is none:
jobs are scheduled by it and are told its number. Without cgroups Slurm measures memory every five seconds and ends what has too much.
There is no accounting: `sacct` is played by `squeue`, which knows jobs for an hour after their end.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NODES = ("one", "two")
# As the plugin asks: for the states of the jobs of a name, its last word. All else is answered by nothing.
SACCT = """#!/bin/sh
for last; do :; done
case "$*" in *--name*) exec squeue --states=all --noheader --format='%i|%T' --name "$last" ;; esac
"""
MEMORY = 4000  # MB of each node, as they are told


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if _program(name) is None]


def up(folder: Path) -> Path:
    """Start all and wait until both nodes are idle. Returns the folder of Slurm's commands, to be the first of PATH.

    Raises FileNotFoundError if a program is missing, and RuntimeError, with the end of each log, if something does not start.
    """
    if lacking := missing():
        raise FileNotFoundError(f"{', '.join(lacking)} not installed; Debian: apt install slurm-wlm munge")
    for name in ("state", "munge", "bin", *NODES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "slurm.conf").write_text(_configuration(folder), encoding="utf-8")
    (folder / "gres.conf").write_text("AutoDetect=off\nNodeName=two Name=gpu File=/dev/null\n", encoding="utf-8")
    for name in PROGRAMS[3:]:
        _put_command(folder, name, f'#!/bin/sh\nSLURM_CONF="{folder}/slurm.conf" exec {_program(name)} "$@"\n')
    _put_command(folder, "sacct", SACCT)
    _munged(folder)
    controller(folder)
    within(30, lambda: bool(ask(folder, "sinfo", "-h")))  # a node that finds no controller asks again late
    for node in NODES:
        _start(folder, node, "slurmd", "-D", "-N", node)
    if not within(60, lambda: ask(folder, "sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES)):
        logs = "\n".join(file.read_text(encoding="utf-8", errors="replace")[-2000:] for file in sorted(folder.glob("*.log")))
        down(folder)
        raise RuntimeError(f"Slurm did not start in {folder}:\n{logs}")
    return folder / "bin"


def controller(folder: Path) -> None:
    """Start the controller, or start it again after it was killed."""
    _start(folder, "slurmctld", "slurmctld", "-D")


def kill(folder: Path, name: str, sign: int = signal.SIGKILL) -> None:
    """End a program: slurmctld, munged, or a node by its name."""
    file = folder / f"{name}.number"
    if file.exists():
        number = int(file.read_text(encoding="utf-8"))
        if _lives(number):
            os.kill(number, sign)
        within(20, lambda: not _lives(number))
        file.unlink()


def down(folder: Path) -> None:
    """End all jobs, then all programs."""
    ask(folder, "scancel", "--user", getpass.getuser())
    within(30, lambda: not ask(folder, "squeue", "-h"))
    for name in (*NODES, "slurmctld", "munged"):
        kill(folder, name, signal.SIGTERM)


def ask(folder: Path, command: str, *options: str) -> str:
    """What one of Slurm's commands prints; nothing if it fails."""
    return subprocess.run([folder / "bin" / command, *options], capture_output=True, encoding="utf-8", timeout=60).stdout.strip()


def within(seconds: float, there: Callable[[], bool]) -> bool:
    """Wait until something is there; false if it does not come."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _configuration(folder: Path) -> str:
    """Without a cgroup, a database or a second user; jobs that ended are remembered for an hour, since `squeue` is asked."""
    user, host, ports = getpass.getuser(), socket.gethostname(), free_ports(1 + len(NODES))
    lines = [
        "ClusterName=one_machine",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "CredType=cred/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/%n.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=5",
        "JobAcctGatherParams=OverMemoryKill",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
        "ReturnToService=2",
        "MinJobAge=3600",
        "KillWait=5",
    ]
    for name, port in zip(NODES, ports[1:], strict=True):
        gpu = " Gres=gpu:1" if name == "two" else ""
        lines.append(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory={MEMORY}{gpu}")
    lines.append(f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=600 State=UP")
    return "\n".join(lines) + "\n"


def _put_command(folder: Path, name: str, script: str) -> None:
    """One of Slurm's commands with its configuration: the variable SLURM_CONF does not reach what a job of Snakemake starts."""
    (folder / "bin" / name).write_text(script, encoding="utf-8")
    (folder / "bin" / name).chmod(0o755)


def _munged(folder: Path) -> None:
    at, key = folder / "munge", folder / "munge.key"
    key.unlink(missing_ok=True)
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    files = {"key-file": key, "socket": at / "socket", "pid-file": at / "pid", "log-file": at / "log", "seed-file": at / "seed"}
    # By force: a folder of tests may lie below one that others can write to.
    _start(folder, "munged", "munged", "--foreground", "--force", *(f"--{name}={file}" for name, file in files.items()))
    within(5, (at / "socket").exists)


def _start(folder: Path, name: str, program: str, *options: str) -> None:
    """Start a program that outlives this one; its number stands in `NAME.number`, what it says in `NAME.log`."""
    with open(folder / f"{name}.log", "ab") as log:
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        started = subprocess.Popen([str(_program(program)), *options], env=environment, start_new_session=True, **quiet)
    (folder / f"{name}.number").write_text(str(started.pid), encoding="utf-8")


def _lives(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2]).resolve()
    if what == "up":
        print(f'export PATH="{up(where)}:$PATH"')
    else:
        down(where)
