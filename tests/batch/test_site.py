"""The site of a small made-up batch: links that lead somewhere, numbers that lead to their runs, nobody's text as markup."""

import contextlib
import csv
import html
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

from browser import browser, faults
from gta.batch import site
from gta.batch.make import _work
from gta.batch.steps import Batch
from gta.batch.sweeps import Page, Sweep
from gta.charts import style
from gta.files import ROOT
from gta.scores.rows import write_run
from gta.scores.tables import combine
from small import row

HOSTILE = "<script>alert(1)</script>"
# Of 60 images, by seed. One more or less than CLIP says nothing; 40.8 +- 10.6 points more do.
RIGHT = {"CLIP": (30, 30), "GTA-CLIP": (55, 54), "TransCLIP": (31, 29)}
BESIDE = {HOSTILE: ("GTA-CLIP", HOSTILE), "plain": ("TransCLIP", "")}  # what a run measures beside CLIP


def notebook(file, title, *outputs):
    source = f"# {title}\n\nSee [a source](../gta/batch/site.py), [below](#{title}) and [the paper](https://arxiv.org/abs/2501.06031)."
    cells = [nbformat.v4.new_markdown_cell(source, id="a"), nbformat.v4.new_code_cell("1 < 2", outputs=list(outputs), id="b")]
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)


def run(step, cell):
    """What a run writes: CLIP, which other runs measure alike, and one method more."""
    seed, rows, right = cell["seed"], [], {}
    for method, variant in (("CLIP", ""), BESIDE[cell["group"]]):
        run_id, count = f"{method}{seed}", RIGHT[method][seed]
        right[f"{run_id}.correct"] = np.arange(60) < count
        of = dict(run_id=run_id, table="toy", dataset="digits", backbone="embedded", method=method, variant=variant, seed=seed)
        rows.append(row(**of, n_correct=count, n_total=60, accuracy=100 * count / 60, gain=100 * (count - 30) / 60))
    write_run(step.outputs[0].parent, rows, right)
    said = f"{ROOT}/gta/loop.py:1: UserWarning: {HOSTILE} /home/somebody/.cache /opt/env/lib/site-packages/torch/x.py"
    outputs = [nbformat.v4.new_output("stream", name="stderr", text=said)]
    outputs.append(nbformat.v4.new_output("display_data", {"text/html": f"<table><tr><td>7</td></tr></table>{HOSTILE}"}))
    notebook(step.outputs[0], f"run-{seed}", *outputs)


def toy():
    """Four runs of one table, a figure drawn from it, and the paper's datasets, which are left out."""
    grid = [{"dataset": ["digits"], "backbone": ["embedded"], "seed": [0, 1], "group": list(BESIDE)}]
    grid.append({"dataset": ["imagenet"], "backbone": ["ViT-B/32"], "seed": [0], "group": ["plain"]})
    sweeps = {
        "toy": Sweep(notebook="notebooks/toy.ipynb", target="demo", paper=f"Table 1, {HOSTILE}", cost=1, grid=grid),
        "absent": Sweep(notebook="notebooks/absent.ipynb", target="peers", paper="none: absent", cost=1, grid=grid[1:]),
    }
    drawn = {"outputs": ["figures/toy.png", "figures/toy.svg"], "figure": "figures/toy.png"}
    return Batch(sweeps=sweeps, pages={"figures/toy": Page(target="demo", tables=["toy"], **drawn)})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder where the batch was run and its site built, once."""
    folder, batch = tmp_path_factory.mktemp("made"), toy()
    with contextlib.chdir(folder):
        runs = batch.needs("table/toy")
        cells = [cell for cell in batch.sweeps["toy"].cells() if cell["dataset"] == "digits"]
        for name, cell in zip(runs, cells, strict=True):
            run(batch.steps[name], cell)
        combine([batch.steps[name].outputs[0].parent for name in runs], Path("runs/tables/toy.csv"))
        figure, axes = plt.subplots(figsize=(2, 2))
        axes.plot([0, 1])
        style.save(figure, Path("runs/figures"), "toy")
        notebook(Path("runs/figures/toy.ipynb"), "drawn")
        build(batch)
    return folder


@pytest.fixture
def batch(made, tmp_path, monkeypatch):
    """The batch in a folder of the test's own, where it has been made."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return toy()


def build(batch):
    _work(batch, "site")
    return Path("runs/site")


def bytes_of(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


class Tags(HTMLParser):
    """Tags with their attributes, and the text of each kind of them; a page as a strict reader has it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        if self.open:
            self.texts.append((*self.open[-1], text))


def test_every_link_leads_to_a_file_of_the_site(batch):
    folder = build(batch)
    outside = set()
    for page in folder.rglob("*.html"):
        tags = Tags(page.read_text(encoding="utf-8")).tags
        for _, attributes in tags:
            for target in filter(None, (attributes.get("href"), attributes.get("src"))):
                if (parts := urlsplit(target)).scheme:
                    outside.add(target)
                elif parts.path:
                    assert not parts.path.startswith("/")
                    there = (page.parent / unquote(parts.path)).resolve()
                    assert there.is_file() and there.is_relative_to(folder.resolve()), f"{page}: {target}"
                else:
                    assert unquote(parts.fragment) in {attributes.get("id") for _, attributes in tags}, f"{page}: {target}"
    assert outside == {"data:,", "https://arxiv.org/abs/2501.06031"}, "an icon, and what the prose cites"


def test_every_page_is_reached_from_the_index(batch):
    folder = build(batch)
    found, waiting = set(), [folder.resolve() / "index.html"]
    while waiting:
        page = waiting.pop()
        if page not in found:
            found.add(page)
            links = [
                attributes["href"] for tag, attributes in Tags(page.read_text(encoding="utf-8")).tags if tag == "a" and "href" in attributes
            ]
            there = [(page.parent / unquote(urlsplit(link).path)).resolve() for link in links if not urlsplit(link).scheme]
            waiting += [target for target in there if target.suffix == ".html"]
    assert found == {page.resolve() for page in folder.rglob("*.html")}


def test_each_number_leads_to_the_run_that_measured_it_first(batch):
    folder = build(batch)
    linked = {}
    for tag, attributes, text in Tags((folder / "tables/toy.csv.html").read_text(encoding="utf-8")).texts:
        if tag == "a":
            linked.setdefault(text, set()).add(unquote(attributes["href"]))
    first = {0: "toy/digits-embedded-<script>alert(1)<_script>-s0", 1: "toy/digits-embedded-<script>alert(1)<_script>-s1"}
    other = {seed: f"toy/digits-embedded-plain-s{seed}" for seed in range(2)}
    for seed in range(2):
        assert linked[f"CLIP{seed}"] == linked[f"GTA-CLIP{seed}"] == {f"../{first[seed]}/toy.ipynb.html"}
        assert linked[f"TransCLIP{seed}"] == {f"../{other[seed]}/toy.ipynb.html"}
    with open("runs/tables/toy.csv", newline="", encoding="utf-8") as text:
        for line in csv.DictReader(text):
            run_page = next(iter(linked[line["run_id"]]))
            for measured in ("n_correct", "accuracy", "gain", "gain_low", "gain_high", "seconds"):
                assert run_page in linked[line[measured]], (line["run_id"], measured)
    assert (folder / "tables/toy.csv").read_bytes() == Path("runs/tables/toy.csv").read_bytes()


def test_only_what_the_interval_over_encoders_tells_apart_is_bold(batch):
    texts = Tags((build(batch) / "tables/toy.csv.html").read_text(encoding="utf-8")).texts
    verdicts = [(attributes.get("class"), text) for tag, attributes, text in texts if tag in ("b", "strong")]
    assert verdicts == [(None, "Better"), (None, "worse"), ("better", "better")], "two words of the legend, and GTA-CLIP"
    told = "".join(text for _, _, text in texts)
    assert "+40.8 [+30.2, +51.4]" in told and "+41.7" in told, "25 of 60 images more, in points"


def test_no_text_of_a_batch_becomes_markup(batch):
    for page in build(batch).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        tags = Tags(text).tags
        assert "script" not in {tag for tag, _ in tags} and "<script" not in text, page
        assert not any(name.startswith("on") or (value or "").startswith("javascript:") for _, of in tags for name, value in of.items()), (
            page
        )
        assert "default-src 'none'" in text, page
    assert HOSTILE in html.unescape(re.sub(r"<[^>]+>", "", Path("runs/site/tables/toy.csv.html").read_text(encoding="utf-8")))


def test_no_page_names_a_place_on_this_machine(batch):
    for page in build(batch).rglob("*.html"):
        assert not re.search(rf"{re.escape(str(ROOT))}|{re.escape(str(Path.cwd()))}|/home/|/opt/env", page.read_text(encoding="utf-8")), (
            page
        )
    run_page = Path("runs/site/toy/digits-embedded-plain-s0/toy.ipynb.html").read_text(encoding="utf-8")
    assert "gta/loop.py:1: UserWarning" in run_page and " site-packages/torch/x.py" in run_page and "…/.cache" in run_page


def test_what_was_not_run_is_said_with_what_would_bring_it_in(batch):
    page = html.unescape(re.sub(r"<[^>]+>", "", (build(batch) / "index.html").read_text(encoding="utf-8")))
    assert "Run here: digits; encoder embedded; seeds 0, 1; v; cpu" in page
    assert re.search(r"Absent\s+Not run here\.\s+Not run here: 1 runs on imagenet: ", page)
    assert all(line in page for line in batch.left_out) and len(batch.left_out) == 2
    Path("runs/tables/toy.csv").unlink()
    assert "Run here" not in (build(batch) / "index.html").read_text(encoding="utf-8")


def test_the_same_batch_gives_the_same_bytes_and_renders_nothing_again(batch, monkeypatch):
    folder = build(batch)
    before = bytes_of(folder)
    rendered = []
    render = site.render
    monkeypatch.setattr(site, "render", lambda notebook, template: rendered.append(notebook.parent.name) or render(notebook, template))
    assert bytes_of(build(batch)) == before and rendered == []
    page = "toy/digits-embedded-plain-s1/toy.ipynb.html"
    (folder / page).write_text(before[page].decode().replace("run-1", "run-2"), encoding="utf-8")
    assert bytes_of(build(batch)) == before and rendered == ["digits-embedded-plain-s1"], "a page that was edited is made again"
    for file in folder.rglob("*.*"):
        file.unlink(missing_ok=True)
    assert bytes_of(build(batch)) == before


def test_what_changed_is_made_again_and_what_is_gone_goes(batch):
    folder = build(batch)
    before = bytes_of(folder)
    notebook(Path("runs/figures/toy.ipynb"), "changed")
    gone = batch.steps["run/toy/digits-embedded-plain-s1"].outputs[0]
    gone.unlink()
    (folder / "left/over").mkdir(parents=True)
    (folder / "left/over/old.html").write_text("", encoding="utf-8")
    after = bytes_of(build(batch))
    assert before.keys() - after.keys() == {"toy/digits-embedded-plain-s1/toy.ipynb.html"} and not after.keys() - before.keys()
    assert b'id="changed"' in after["figures/toy.ipynb.html"] and not (folder / "left").exists()


def test_the_step_says_what_it_makes(batch):
    folder = build(batch)
    promised = {file.relative_to(folder).as_posix() for file in batch.steps["site"].outputs if "absent" not in file.name}
    paired = {"tables/toy_paired.csv"}
    assert promised == bytes_of(folder).keys() - {site.RECORD} and paired <= promised


BROKEN = {
    "no image": lambda folder: (folder / "figures/toy.png").unlink(),
    "broken link": lambda folder: (folder / "toy/digits-embedded-plain-s0/toy.ipynb.html").unlink(),
    "no place": lambda folder: change(folder / "index.html", 'id="runs"', 'id="walks"'),
    "CONSOLE": lambda folder: change(folder / "index.html", "</main>", f"{HOSTILE}</main>"),
}


def change(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_a_browser_finds_nothing_wrong_and_everything_that_is(batch, tmp_path):
    folder = build(batch)
    assert faults(folder, tmp_path / "profile") == []
    whole = bytes_of(folder)
    for fault, damage in BROKEN.items():
        damage(folder)
        found = faults(folder, tmp_path / "profile")
        assert any(fault in line for line in found), (fault, found)
        for name, content in whole.items():
            (folder / name).write_bytes(content)


@pytest.mark.slow
def test_a_browser_opens_the_site_from_disk_with_its_style(batch, tmp_path):
    page = (build(batch) / "figures/toy.png.html").resolve()
    done = browser(page, tmp_path / "profile", "--dump-dom", f"--screenshot={tmp_path / 'page.png'}", "--window-size=390,700")
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert tuple(seen[2, 2]) == (246, 246, 246), "the header's grey"
    assert (np.ptp(seen.reshape(-1, 3), axis=1) > 60).any(), "the line of the figure is blue"
