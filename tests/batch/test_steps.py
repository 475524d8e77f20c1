"""One step: whole or absent, failed by name, alone on its GPU; then the whole batch, in a copy of the repository."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import nbformat
import pandas as pd
import psutil
import pytest

from gta.batch.make import a_gpu, make
from gta.batch.steps import Batch
from gta.batch.sweeps import Sweep
from gta.scores.rows import read_table, write_run, write_table
from small import row

# Writes what it is given as its row, or fails where it is told to.
TOY = """
import json, pathlib, zipfile
folder = pathlib.Path(out)
folder.mkdir(parents=True, exist_ok=True)
if fail and pathlib.Path("broken").exists():
    raise RuntimeError("no luck")
(folder / "rows.csv").write_text(json.loads(pathlib.Path("rows.json").read_text("utf-8"))[str(seed)], "utf-8")
(folder / "predictions.npz").write_bytes(pathlib.Path("right.npz").read_bytes())
print(pathlib.Path("right.npz").resolve())
import ipykernel
print("kernel over", ipykernel.get_connection_info(unpack=True)["transport"])
"""
GIVEN = "dataset = backbone = ledger = out = ''\nseed = 0\nfail = smoke = False"


def put_toy(folder, seeds):
    """A notebook, and what its runs write."""
    cells = [nbformat.v4.new_code_cell(GIVEN, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(TOY)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks/toy.ipynb")
    rows = {}
    for seed in seeds:
        write_table(folder / "one.csv", [row(run_id=f"r{seed}", seed=seed)])
        rows[seed] = (folder / "one.csv").read_text(encoding="utf-8")
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    write_run(folder, [], {f"r{seed}.correct": [True] for seed in seeds})
    (folder / "predictions.npz").rename(folder / "right.npz")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gta.hashes.SOURCES", tmp_path)
    monkeypatch.setattr("gta.batch.make.ROOT", tmp_path)
    (tmp_path / "gta/worlds/encoders").mkdir(parents=True)
    (tmp_path / "gta/scores").mkdir()
    (tmp_path / "gta/scores/tables.py").write_text("", encoding="utf-8")
    for name in ("open_clip_config.json", "tokenizer.json"):
        (tmp_path / f"gta/worlds/encoders/{name}").write_text("{}", encoding="utf-8")
    for seed in range(2):
        (tmp_path / f"gta/worlds/encoders/seed{seed}.safetensors").write_text("", encoding="utf-8")
    put_toy(tmp_path, range(2))
    grid = [{"dataset": ["digits"], "backbone": ["embedded"], "seed": [0, 1]}]
    sweep = Sweep(notebook="notebooks/toy.ipynb", target="demo", paper="none", cost=1, grid=grid, parameters={"fail": True})
    return lambda: Batch(sweeps={"toy": sweep}, pages={})


RUNS = [f"run/toy/digits-embedded-s{seed}" for seed in range(2)]


def states(batch):
    return {line["step"]: line["status"] for line in batch.status() if line["step"] != "site"}


def test_a_failed_run_is_marked_leaves_nothing_and_is_made_again_alone(toy):
    assert set(states(toy()).values()) == {"missing"}
    make(toy(), RUNS[1])
    Path("broken").touch()
    with pytest.raises(Exception, match="no luck"):
        make(toy(), RUNS[0])
    assert states(toy()) == {RUNS[0]: "failed", RUNS[1]: "done", "table/toy": "missing"}
    assert f"failed: {RUNS[0]}: PapermillExecutionError: RuntimeError: no luck runs/logs/{RUNS[0]}.log" in toy().report()
    assert not Path("runs/toy/digits-embedded-s0/toy.ipynb").exists()
    Path("broken").unlink()
    made = Path("runs/toy/digits-embedded-s1/toy.ipynb").stat().st_mtime_ns
    for name in (*RUNS, "table/toy"):
        make(toy(), name)
    assert set(states(toy()).values()) == {"done"}
    assert Path("runs/toy/digits-embedded-s1/toy.ipynb").stat().st_mtime_ns == made, "it was done and is not made again"
    assert [r.run_id for r in read_table(Path("runs/tables/toy.csv"))] == ["r0", "r1"]
    notebook = Path("runs/toy/digits-embedded-s1/toy.ipynb").read_text(encoding="utf-8")
    assert "right.npz" in notebook and f"{Path.cwd()}/" not in notebook, "no machine's path is published"
    assert "kernel over ipc" in notebook, "a TCP port may be taken by another run"


def test_a_failure_keeps_what_was_there_before(toy):
    make(toy(), RUNS[0])
    before = Path("runs/toy/digits-embedded-s0/toy.ipynb").read_bytes()
    Path("gta/worlds/encoders/tokenizer.json").write_text("others", encoding="utf-8")
    Path("broken").touch()
    with pytest.raises(Exception, match="no luck"):
        make(toy(), RUNS[0])
    assert Path("runs/toy/digits-embedded-s0/toy.ipynb").read_bytes() == before


def test_what_reads_from_a_stale_step_is_named_with_it(toy):
    for name in (*RUNS, "table/toy"):
        make(toy(), name)
    Path("gta/worlds/encoders/seed1.safetensors").write_text("others", encoding="utf-8")
    lines = toy().report().splitlines()
    assert lines[:2] == [f"stale: {RUNS[1]}: inputs changed", f"stale: table/toy: reads {RUNS[1]}"]
    make(toy(), RUNS[1])
    assert states(toy()) == {name: "done" for name in (*RUNS, "table/toy")}, "the same came out, so the table holds"


def test_what_is_published_is_complete_and_what_is_no_longer_made_goes(toy, tmp_path):
    with pytest.raises(ValueError, match="not complete"):
        toy().publish(tmp_path / "results")
    for name in (*RUNS, "table/toy"):
        make(toy(), name)
    toy().publish(tmp_path / "results")
    published = {str(f.relative_to(tmp_path / "results")) for f in (tmp_path / "results").rglob("*.*")}
    runs = {f"toy/digits-embedded-s{seed}/{name}" for seed in range(2) for name in ("toy.ipynb", "rows.csv")}
    assert published == {*runs, "tables/toy.csv", "tables/toy_paired.csv", "provenance.json", "index.csv"}
    fewer = toy()
    fewer.sweeps["toy"].grid[0]["seed"].remove(1)
    make(fewer, "table/toy")
    fewer.publish(tmp_path / "results")
    assert not (tmp_path / "results/toy/digits-embedded-s1/rows.csv").exists()
    fewer.sweeps["toy"].grid[0]["dataset"].append("dtd")
    (tmp_path / "results/toy/dtd-embedded-s0").mkdir()
    (tmp_path / "results/toy/dtd-embedded-s0/rows.csv").touch()
    with pytest.raises(ValueError, match=r"rows\.csv was published and would be lost, since its run is left out: not in data/"):
        fewer.publish(tmp_path / "results")
    fewer.smoke = True
    with pytest.raises(ValueError, match="a smoke run is never published"):
        fewer.publish(tmp_path / "results")


def test_a_target_is_published_alone_and_all_else_stays_as_it_was(toy, tmp_path):
    for name in (*RUNS, "table/toy"):
        make(toy(), name)
    results, told = tmp_path / "results", {"other/a-s0/rows.csv": {"outputs": {}}, "toy/gone-s0/rows.csv": {"outputs": {}}}
    for file in told:
        (results / file).parent.mkdir(parents=True)
        (results / file).touch()
    (results / "provenance.json").write_text(json.dumps(told), encoding="utf-8")
    toy().publish(results, ["toy"])
    claims = json.loads((results / "provenance.json").read_text(encoding="utf-8"))
    assert claims["other/a-s0/rows.csv"] == {"outputs": {}} and (results / "other/a-s0/rows.csv").exists()
    assert "toy/gone-s0/rows.csv" not in claims and not (results / "toy/gone-s0/rows.csv").exists()
    assert "tables/toy.csv" in claims and (results / "toy/digits-embedded-s1/rows.csv").exists()


def _hold(folder):
    with a_gpu(f"{folder}/nvidia*", folder / "locks"):
        (folder / f"holds-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"], encoding="utf-8")
        time.sleep(60)


def test_two_runs_never_share_a_gpu_and_a_killed_one_gives_it_back(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for number in range(2):
        (tmp_path / f"nvidia{number}").touch()

    def holders(count):
        found: dict[int, str] = {}
        for _ in range(200):
            found = {int(file.name[6:]): file.read_text(encoding="utf-8") for file in tmp_path.glob("holds-*")}
            if len(found) == count and all(found.values()):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{found} after ten seconds")

    processes = [multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,)) for _ in range(3)]
    try:
        for process in processes:
            process.start()
        first = holders(2)
        assert set(first.values()) == {"0", "1"}
        time.sleep(1.5)
        assert holders(2) == first, "the third waits"
        killed, device = next(iter(first.items()))
        os.kill(killed, signal.SIGKILL)
        (third,) = set(holders(3).items()) - set(first.items())
        assert third[1] == device
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_where_there_is_no_gpu_or_a_scheduler_chose_one_nothing_changes(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with a_gpu(f"{tmp_path}/nvidia*", tmp_path):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    (tmp_path / "nvidia0").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with a_gpu(f"{tmp_path}/nvidia*", tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


# The whole batch.


def command(folder, target, *arguments):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # this environment's own, activated or not
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    return {"args": ["snakemake", target, "--config", "smoke=1", *arguments], "cwd": folder, "env": environment}


def snakemake(folder, target, *arguments):
    done = subprocess.run(**command(folder, target, *arguments), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def stale(folder):
    """The steps that a dry run names as not holding any more."""
    text = snakemake(folder, "demo", "--dry-run")
    return {line.split(": ")[1] for line in text.splitlines() if line.startswith("stale: ")}


@pytest.mark.slow
def test_a_dry_run_names_exactly_what_depends_on_a_change(copy):
    runs = copy / "runs/smoke"

    def edited(file: Path, change):
        before = file.read_text(encoding="utf-8")
        file.write_text(change(before), encoding="utf-8")
        named = stale(copy) - {"site"}
        file.write_text(before, encoding="utf-8")
        return named

    snakemake(copy, "demo")
    assert stale(copy) == set()
    table = runs / "tables/zero_shot.csv"
    reads = {step for step in Batch(smoke=True).target("demo") if "zero_shot" in step and not step.startswith("run/")}
    pages = {step for step in Batch(smoke=True).target("demo") if step.startswith(("notebook/", "page/"))}
    assert edited(table, lambda text: text.rpartition("\n")[0].rpartition("\n")[0] + "\n") == reads
    assert edited(table, lambda text: text.replace(",CLIP,", ",CILP,", 1)) == reads
    assert edited(runs / "zero_shot/digits-embedded-draws2-s1/rows.csv", lambda text: text.replace("smoke", "done")) == {
        "run/zero_shot/digits-embedded-draws2-s1",
        *reads,
    }
    assert edited(copy / "gta/batch/pages.py", lambda text: text + "# a line\n") == {page for page in pages if page.startswith("page/")}
    for machinery in ("datasets", "steps", "make", "stamps", "sweeps"):
        assert edited(copy / f"gta/batch/{machinery}.py", lambda text: text + "# a line\n") == set(), machinery
    assert edited(copy / "notebooks/quickstart.ipynb", lambda text: text.replace('"seed = 0\\n"', '"seed = 1\\n"')) == {
        "notebook/quickstart",
        "page/quickstart",
    }
    figure = (runs / "figures/zero_shot.png").read_bytes()
    (runs / "figures/zero_shot.png").unlink()
    assert stale(copy) - {"site"} == {"notebook/figures/zero_shot", "page/figures/zero_shot"}
    snakemake(copy, "demo")
    assert (runs / "figures/zero_shot.png").read_bytes() == figure
    assert stale(copy) == set()


def end(process):
    """kill -9 of a process and of all that it started, in whatever group."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()


# What no two runs measure alike: seconds, in all and of each stage, and memory.
MEASURED = {"seconds", "encode", "transduct", "generate", "adapt", "waiting", "memory_mb", "gpu_mb"}


def tables_of(folder):
    """The CSVs of a batch, without what is measured anew each time."""
    found = {}
    for file in sorted((folder / "runs/smoke").rglob("*.csv")):
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
        timed = [name for name in frame if name in MEASURED]
        found[str(file.relative_to(folder))] = frame.drop(columns=timed).to_csv()
    return found


@pytest.mark.slow
def test_a_batch_that_is_killed_ten_times_gives_the_same_tables(copy, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole") / "copy"
    shutil.copytree(copy, whole)
    start = time.monotonic()
    snakemake(whole, "all")
    lasted = time.monotonic() - start
    moments = Random(0)
    for _ in range(10):
        process = subprocess.Popen(**command(copy, "all"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moments.uniform(5, 5 + lasted / 8))
        end(process)
    snakemake(copy, "all")
    assert tables_of(copy) == tables_of(whole)


@pytest.mark.slow
def test_two_hundred_runs_at_once_lose_and_double_no_row(copy):
    shutil.rmtree(copy / "notebooks/sweeps")
    (copy / "notebooks/sweeps").mkdir()
    grid = [{"dataset": ["digits"], "backbone": ["toy"], "seed": list(range(200))}]
    sweep = Sweep(notebook="notebooks/toy.ipynb", target="demo", paper="none", cost=1, grid=grid)
    (copy / "notebooks/sweeps/toy.yaml").write_text(sweep.model_dump_json(), encoding="utf-8")
    (copy / "notebooks/pages.yaml").write_text("{}", encoding="utf-8")
    put_toy(copy, range(200))
    snakemake(copy, "toy", "--cores", "200", "--resources", "gpu=200")
    assert [r.seed for r in read_table(copy / "runs/smoke/tables/toy.csv")] == list(range(200))
