"""`profiles/slurm` on a Slurm of one machine, with all that goes wrong on a cluster: the CSVs are those of a batch without it."""

import importlib.util
import os
import shutil
import subprocess
import time

import nbformat
import psutil
import pytest

import slurm
from gta.batch.sweeps import Sweep
from gta.scores.rows import read_table
from test_steps import command, put_toy, snakemake, tables_of

TABLE = "runs/smoke/stamps/table/zero_shot.ok"
RUNS = [f"run/zero_shot/digits-embedded-draws1-s{seed}" for seed in range(2)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a Slurm that runs; skips, and says what to install, where there is none."""
    if lacking := slurm.missing():
        pytest.skip(f"{', '.join(lacking)} missing (Debian: apt install slurm-wlm munge), so that nothing was tried on a cluster")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("Snakemake's plugin is missing (pip install '.[slurm]'), so that nothing was tried on a cluster")
    folder = tmp_path_factory.mktemp("slurm")
    slurm.up(folder)
    yield folder
    slurm.down(folder)


def begin(folder, cluster, target, *arguments):
    """A batch that is submitted by the profile; its steps last seconds, and are asked about sooner than real ones."""
    here = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5"]
    given = command(folder, target, *arguments, *here)
    given["env"]["PATH"] = os.pathsep.join([str(cluster / "bin"), given["env"]["PATH"]])
    return subprocess.Popen(**given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def end(process):
    """The exit status of a batch, and all that it said."""
    said = process.communicate(timeout=900)[0]
    print(said)  # `pytest -s` keeps it as a log
    return process.returncode, said


def maker(folder, name):
    """The process that makes a step, once there is one."""

    def found():
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if words[1:4] == ["-m", "gta.batch.make", name] and process.cwd() == str(folder):
                    return process
            except psutil.Error:
                continue
        return None

    assert slurm.within(300, lambda: found() is not None), f"no job makes {name}"
    return found()


def tell(cluster, *words):
    """A command of Slurm that must succeed."""
    subprocess.run([cluster / "bin" / words[0], *words[1:]], check=True, timeout=60)


def started(cluster):
    """The node of each job so far, by its number, the first job first."""
    lines = slurm.ask(cluster, "squeue", "-h", "--states=all", "-o", "%i %N").splitlines()
    return dict(sorted((int(number), node) for number, node in map(str.split, lines)))


@pytest.mark.slow
def test_whatever_befalls_a_cluster_the_tables_are_those_of_one_machine(cluster, copy, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole") / "copy"
    shutil.copytree(copy, whole)
    snakemake(whole, TABLE, "draws=1")

    # Two runs at once. The controller is killed and comes back; the node of the second run is drained; the first run is killed.
    batch = begin(copy, cluster, "zero_shot", "draws=1")
    first, second = (maker(copy, name) for name in RUNS)
    first.suspend()  # so that it is still there to be killed
    drained = second.environ()["SLURMD_NODENAME"]
    assert {first.environ()["SLURMD_NODENAME"], drained} == set(slurm.NODES)
    time.sleep(6)  # the controller writes what it knows every five seconds
    slurm.kill(cluster, "slurmctld")
    assert slurm.ask(cluster, "squeue") == ""
    time.sleep(15)  # for Snakemake to ask in vain
    slurm.controller(cluster)
    assert slurm.within(60, lambda: len(started(cluster)) == 2), "the controller forgot jobs"
    tell(cluster, "scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    first.kill()
    status, said = end(batch)
    assert status == 1 and said.count("Error in rule step") == 1 and f"name={RUNS[0]}" in said and "SLURM status is: 'FAILED'" in said
    stamps = [(copy / f"runs/smoke/stamps/{name}.ok").exists() for name in RUNS]
    assert stamps == [False, True], "the run on the drained node ends as if it were not; the killed one is not made"

    # The same command makes what is left. The run hangs, and is ended at its time limit, which is moved to the next moment.
    batch = begin(copy, cluster, "zero_shot", "draws=1")
    first = maker(copy, RUNS[0])
    first.suspend()
    tell(cluster, "scontrol", "update", f"JobId={first.environ()['SLURM_JOB_ID']}", "EndTime=now+1second")
    status, said = end(batch)
    assert status == 1 and said.count("Error in rule step") == 1 and "SLURM status is: 'TIMEOUT'" in said

    # And again, to the end.
    status, said = end(begin(copy, cluster, "zero_shot", "draws=1"))
    assert status == 0
    assert "5 done of 5 steps" in snakemake(copy, "zero_shot", "draws=1", "--dry-run")
    after = [node for number, node in started(cluster).items() if number > 2]
    tell(cluster, "scontrol", "update", f"NodeName={drained}", "State=RESUME")
    assert len(after) == 5 and drained not in after, "nothing more starts on a drained node"
    assert tables_of(copy) == tables_of(whole)


@pytest.mark.slow
def test_a_run_of_a_real_encoder_gets_a_gpu_and_no_more_memory_than_it_asked_for(cluster, copy):
    shutil.rmtree(copy / "notebooks/sweeps")
    (copy / "notebooks/sweeps").mkdir()
    grid = [{"dataset": ["digits"], "backbone": ["toy"], "seed": [0, 1]}]
    sweep = Sweep(notebook="notebooks/toy.ipynb", target="demo", paper="none", cost=1, grid=grid)
    (copy / "notebooks/sweeps/toy.yaml").write_text(sweep.model_dump_json(), encoding="utf-8")
    (copy / "notebooks/pages.yaml").write_text("{}", encoding="utf-8")
    put_toy(copy, range(2))
    notebook = nbformat.read(copy / "notebooks/toy.ipynb", 4)
    lines = "import os, time\nprint('card', os.environ['CUDA_VISIBLE_DEVICES'])\ntime.sleep(8)  # Slurm looks at memory every five seconds"
    notebook.cells.append(nbformat.v4.new_code_cell(lines))
    nbformat.write(notebook, copy / "notebooks/toy.ipynb")

    before = max(started(cluster), default=0)
    status, said = end(begin(copy, cluster, "toy", "--set-resources", "step:mem_mb=50", "--slurm-status-command", "squeue"))
    assert status == 1 and said.count("Error in rule step") == 2
    logs = [file.read_text(encoding="utf-8") for file in (copy / ".snakemake/slurm_logs").rglob("*.log")]
    assert len(logs) == 2 and all("exceeded memory limit" in log for log in logs)

    status, said = end(begin(copy, cluster, "toy", "--slurm-status-command", "squeue"))
    assert status == 0 and [row.seed for row in read_table(copy / "runs/smoke/tables/toy.csv")] == [0, 1]
    nodes = [node for number, node in started(cluster).items() if number > before]
    assert nodes[:4] == ["two"] * 4 and len(nodes) == 5, "the table needs no GPU"
    for seed in range(2):
        (ran,) = (copy / f"runs/smoke/toy/digits-toy-s{seed}").glob("*.ipynb")
        assert "card 0" in ran.read_text(encoding="utf-8")
