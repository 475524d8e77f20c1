"""Small real things that many tests share: the committed encoders, a few glyph images, a served guide."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from gta import encoders
from gta.data import manifests
from gta.files import ROOT
from gta.worlds.fieldguide import language_model
from gta.worlds.glyphs import DIGITS, NAMES, render
from published import cut_manifests

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoder():
    return encoders.load("embedded", seed=0, device="cpu")


@pytest.fixture(scope="session")
def glyphs():
    """60 digits in held-out styles: uint8 arrays (8, 8, 3) and their classes."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % len(DIGITS)
    names = torch.tensor([NAMES.index(name) for name in DIGITS])
    return list(render(names[classes], "held_out", generator).permute(0, 2, 3, 1).numpy()), classes


@pytest.fixture
def guide_llm():
    with language_model("fieldguide", 0) as llm:
        yield llm


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def without_a_graph(request, monkeypatch):
    """Models that tests of labelling keep are without `model.onnx`, which takes seconds to write; its own tests write it."""
    if request.path.parent.name == "label" and request.path.name != "test_portable.py":
        monkeypatch.setattr("gta.label.portable.write", lambda folder, encoder, classifier: "")


@pytest.fixture(scope="session")
def cut_folder(tmp_path_factory):
    return cut_manifests(tmp_path_factory.mktemp("manifests"))


@pytest.fixture
def cut(tmp_path, cut_folder, monkeypatch):
    """An empty root for small copies (`published.put_copy`), while the manifests are those of our lines and nothing is locked."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for file in cut_folder.glob("*.yaml"):
        (folder / file.name).symlink_to(file)
    (folder / "encoders").symlink_to(manifests.FOLDER / "encoders")
    monkeypatch.setattr(manifests, "FOLDER", folder)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def copy(tmp_path):
    """The repository's files, as git has them, in a folder of their own."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    for file in filter(lambda name: (ROOT / name).exists(), listed.stdout.splitlines()):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


# Slow tests that CI runs in turn, a third at a time, each third in a few minutes. Those of a browser run always; what takes a quarter
# of an hour, or fetches 119 MB, is for `make test-all` alone.
THIRDS = {
    1: {
        "test_the_evolution_page_goes_on_after_a_kill",
        "test_fifty_kills",
        "test_sets_are_those_of_crepes",
        "test_minilm_knows_what_is_like_what",
        "test_minilm_itself",
        "test_every_row_of_images_is_there_and_untrained_is_clip",
        "test_memory_does_not_grow_with_the_number_of_images",
        "test_a_dry_run_names_exactly_what_depends_on_a_change",
    },
    2: {
        "test_two_hundred_runs_at_once_lose_and_double_no_row",
        "test_thirty_kills",
        "test_a_distillation_that_is_killed_goes_on",
        "test_every_row_of_students_is_there_and_no_label_of_a_query_image_is_read",
        "test_a_review_goes_on_from_what_the_notebook_left",
        "test_a_real_small_model_describes_three_classes",
        "test_an_installed_package_works_from_another_folder",
        "test_any_number_of_classes_and_images",
        "test_papermill_tells_how_a_text_is_given",
        "test_kills_of_an_export_leave_all_or_nothing",
        "test_a_tower_that_squashes_is_read_as_it_reads",
        "test_a_run_measures_every_method_and_sees_no_label_of_a_query_image",
        "test_so_does_more_bad_input",
        "test_both_towers_end_in_the_embedding_and_training_keeps_what_the_manifest_says",
    },
    3: {
        "test_pretraining_learns_and_writes_what_the_loader_reads",
        "test_pretraining_learns_birds_and_writes_what_the_loader_reads",
        "test_the_peers_pages_run_in_smoke_size",
        "test_every_rounding_gives_the_same_counts",
        "test_torchrun_labels_as_one_process_does",
        "test_other_tools_read_what_is_for_them",
        "test_every_station_of_a_world",
        "test_kills_at_every_moment_of_learning",
        "test_a_real_tower_with_batch_normalisation_learns_too",
        "test_a_real_architecture_reads_images_and_texts",
        "test_older_instructions_do_round_otherwise",
        "test_the_evolution_page_draws_the_pair_it_is_given_and_keeps_the_oracle_out_of_the_rows",
    },
}
ALL_ALONE = {
    "test_a_batch_that_is_killed_ten_times_gives_the_same_tables",
    "test_the_demo_runs_on_machines_as_people_have_them",
    "test_the_first_hour_is_walked_by_its_own_commands",
    "test_the_first_hour_without_a_language_model",
    "test_the_real_folder_is_made_with_the_expected_hash_and_knows_its_classes_by_name",
    "test_whatever_befalls_a_cluster_the_tables_are_those_of_one_machine",
    "test_a_run_of_a_real_encoder_gets_a_gpu_and_no_more_memory_than_it_asked_for",
}


def pytest_addoption(parser):
    parser.addoption("--third", type=int, help="with -m slow: 1, 2 or 3, the third of the slow tests to run, and those of a browser")


def pytest_collection_modifyitems(config, items):
    third = config.getoption("--third")
    if third is None:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    kept = [item for item in slow if item.originalname in THIRDS[third] or "browser" in item.originalname]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
