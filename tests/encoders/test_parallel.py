"""Processes that share the batches of one run give the numbers of one process."""

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch

from gta.files import ROOT
from gta.worlds import digits
from shared_run import everything, run, work
from slurm import free_ports

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["gta.loop", "gta.data.tasks", "gta.worlds.settings"])


# With three processes a batch of two leaves one without a share.
@pytest.mark.parametrize(("size", "asked"), [(2, (7,)), (3, (2, everything))], ids=["two", "three"])
def test_processes_that_share_each_batch_give_the_numbers_of_one(size, asked, tmp_path):
    (port,) = free_ports(1)
    processes = [PROCESSES.Process(target=work, args=(place, size, port, tmp_path / "out.pt", *asked)) for place in range(size)]
    for process in processes:
        process.start()
    one = run(*asked)
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * size
    shared = torch.load(tmp_path / "out.pt")
    assert (shared["z"] - one["z"]).abs().max() < 1e-8
    assert shared["weights"].keys() == one["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(shared["weights"][name], weight, rtol=0, atol=1e-9, msg=name)
    assert len(one["adapted"]) == 2
    for theirs, ours in zip(shared["adapted"], one["adapted"], strict=True):
        assert [theirs[name] for name in ("loss", "fall")] == pytest.approx([ours[name] for name in ("loss", "fall")], rel=1e-7)
        for of, values in ours["groups"].items():  # how many gradients are 0 is not among them: where they should be, rounding decides
            assert [theirs["groups"][of][name] for name in ("gradient", "step")] == pytest.approx([values["gradient"], values["step"]])
    moved = {name for name, weight in one["weights"].items() if not torch.equal(weight, one["before"][name])}
    assert {"visual.proj", "text_projection"} < moved and ("logit_scale" in moved) == (everything in asked)
    assert torch.equal(shared["weights"]["unread"], one["before"]["unread"]), "what has no gradient does not decay either"


def labelled(folder, name, *before, device="cpu"):
    """`gta label` on the images of the folder, 3 iterations; what it prints."""
    words = ["label", folder / "images", "--classes", folder / "classes.txt", "--encoder", "embedded"]
    words += ["--llm", "fieldguide", "--iterations", "3", "--device", device, "--out", folder / name]
    command = [sys.executable, *map(str, (*before, *words))]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    digits.write(tmp_path)
    for image in sorted((tmp_path / "images").iterdir())[100:]:
        image.unlink()
    return tmp_path


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.slow
def test_torchrun_labels_as_one_process_does(folder):
    """The first process alone asks and writes; the labels are the same."""
    labelled(folder, "one", "-m", "gta")
    assert labelled(folder, "two", *TORCHRUN, "-m", "gta").count("images are labelled") == 1
    assert (folder / "two/predictions.csv").read_bytes() == (folder / "one/predictions.csv").read_bytes()


ON_ONE_CARD = """
import sys
import torch
from torch import distributed
begin = distributed.init_process_group
distributed.init_process_group = lambda backend, timeout: begin("gloo", timeout=timeout)  # nccl wants a card for each
torch.cuda.set_device = lambda place: None
from gta.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_and_two_processes_on_it_label_as_a_cpu_does(folder):
    (folder / "two.py").write_text(ON_ONE_CARD, encoding="utf-8")
    labelled(folder, "cpu", "-m", "gta")
    labelled(folder, "gpu", "-m", "gta", device="cuda")
    labelled(folder, "two", *TORCHRUN, folder / "two.py", device="cuda")
    for name in ("gpu", "two"):
        assert (folder / name / "predictions.csv").read_bytes() == (folder / "cpu/predictions.csv").read_bytes(), name
