"""The page of labelled images: what stands in it, that nobody's text becomes markup, and that a browser agrees."""

import html
import re
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from browser import browser
from driven import Chromium
from gta.attributes import Bank
from gta.encoders.images import Images
from gta.generate import logged
from gta.label import report
from gta.label.glance import steps
from gta.label.groups import Groups
from gta.label.inputs import Classes, Found
from gta.label.issues import near_duplicates, unfit
from gta.label.jobs import Job, Options
from gta.label.run import Outcome
from gta.settings import Settings

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "\u202egnp.evil",
    "a\nb",
    "{{ 7 * 7 }}",
    "javascript:alert(3)",
    "y" * 300,
]
KNOWN = "!DOCTYPE html head meta title style body h1 h2 h3 p a nav table tr th td div ul li b bdi br figure img figcaption"
KNOWN += " details summary code"


def made_up(tmp_path, images, classes, seed=0, size=32, names=(), reject_above=None):
    """A job and its outcome with random z; image i is one colour, and classes have names that attack the page."""
    rng = np.random.default_rng(seed)
    class_names = [f"{HOSTILE[j % len(HOSTILE)]} {j}" for j in range(classes)]
    z, clip = (torch.tensor(rng.dirichlet(np.full(classes, 5 / classes), images), dtype=torch.float32) for _ in range(2))
    bank = Bank.from_template(class_names)
    if classes > 1:
        bank = bank.add(0, ["<i>red</i> crown"], source="pair", against=class_names[1], iteration=0)
        bank = bank.add(0, ["long neck"], source="static")
    colours = torch.tensor(rng.integers(0, 256, (images, 3, 1, 1)), dtype=torch.uint8).expand(images, 3, size, size)
    names = [*names, *(f"{i:05d}.png" for i in range(len(names), images))]
    paths = [tmp_path / "images" / name for name in names]
    options = Options(images="images", classes="classes.txt", encoder="<e>", out=str(tmp_path / "out"), reject_above=reject_above)
    found = Found(tmp_path, paths, names, [])
    job = Job(options, found, Classes(names=tuple(class_names)), ([], []), Settings(), "cpu", [("encoder", "<e>", "")])
    encoder = SimpleNamespace(source="file", weights_sha256="0" * 64)
    result = SimpleNamespace(held=z, assignments=z, attributes=bank, encoder=encoder, seconds=1.0, history=[{}])
    left_out = [("<b>torn</b>.png", "cannot identify <image>")]
    unfitness = torch.tensor(rng.uniform(0, 1, images), dtype=torch.float32)
    return job, Outcome(result, Images(colours, None, "", {}), names, paths, left_out, clip, unfitness, None, None)


def with_groups_and_issues(outcome):
    """The outcome with groups of four, called as attacks are and as nobody should be, and with copies and one image that is far off."""
    images = len(outcome.names)
    features = torch.nn.functional.normalize(torch.randn(images, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    features[1::10] = features[::10][: len(features[1::10])]
    unfitness = torch.where(torch.arange(images) == 5, 9.0, outcome.unfitness)
    names = [f"{HOSTILE[i // 4 % len(HOSTILE)]} {i // 4}" if i < images - 2 else "" for i in range(images)]
    groups = Groups(names, "2 images do not stand in <g.csv> and are in no group")
    return replace(outcome, groups=groups, issues=[near_duplicates(features, outcome.names), unfit(unfitness)])


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_the_page_counts_what_the_labels_say(tmp_path):
    job, outcome = made_up(tmp_path, 200, 4)
    page = report.render(job, outcome)
    labels, clip = outcome.result.assignments.argmax(1), outcome.clip.argmax(1)
    table = page[page.index('id="sizes"') : page.index('id="pairs"')]
    lines = re.findall(r"<tr><td><bdi>(.*?)</bdi></td>(.*?)</tr>", table)
    assert sorted(html.unescape(name) for name, _ in lines) == sorted(map(report.shown, job.classes.names))
    for name, cells in lines:
        j = [report.shown(known) for known in job.classes.names].index(html.unescape(name))
        mean = outcome.result.assignments[labels == j].amax(1).mean()
        expected = [str(int((labels == j).sum())), str(int((clip == j).sum())), f"{float(mean):.2f}"]
        assert re.findall(r'<td class="n">([^<]*)</td>', cells) == expected
    assert f"labelled otherwise than by CLIP alone: {int((labels != clip).sum())}" in page


def test_galleries_hold_the_most_and_the_least_certain(tmp_path):
    job, outcome = made_up(tmp_path, 200, 3)
    page = report._Page(job, outcome)
    top = outcome.result.assignments.topk(2, dim=1).values
    margin, labels = (top[:, 0] - top[:, 1]).tolist(), outcome.result.assignments.argmax(1).tolist()
    for gallery in page.galleries(page.sizes()):
        of_class = sorted((i for i in range(200) if labels[i] == gallery["class"]), key=lambda i: margin[i])
        assert [picture.name for picture in gallery["most"]] == [outcome.names[i] for i in of_class[::-1][:10]]
        assert [picture.name for picture in gallery["least"]] == [outcome.names[i] for i in of_class[:10]]


def test_pairs_show_what_tells_them_apart(tmp_path):
    job, outcome = made_up(tmp_path, 300, 3)
    bank = outcome.result.attributes
    assert report.tells_apart(bank, 0, 1) == ["<i>red</i> crown"]  # asked about this pair
    assert report.tells_apart(bank, 0, 2) == ["long neck"]  # of the class alone, where nothing was asked
    assert report.tells_apart(bank, 1, 0) == []
    for pair in report._Page(job, outcome).pairs():
        shown = [outcome.names.index(picture.name) for picture in pair["pictures"]]
        top = outcome.result.assignments[shown].topk(2, dim=1)
        assert all({job.classes.names[j] for j in row} == {pair["a"], pair["b"]} for row in top.indices.tolist())
        assert ((top.values[:, 0] - top.values[:, 1]) < report.UNDECIDED).all() and len(shown) == min(8, pair["count"])


def test_rejected_images_are_in_no_class(tmp_path):
    job, outcome = made_up(tmp_path, 100, 3, reject_above=0.5)
    rejected = int((outcome.unfitness > 0.5).sum())
    page = report._Page(job, outcome)
    assert sum(row["count"] for row in page.sizes()) == 100 - rejected
    assert f"rejected as fitting no class: {rejected}" in report.render(job, outcome)


def test_a_picture_has_the_name_of_its_file_and_says_where_it_lies(tmp_path):
    page = report.render(*made_up(tmp_path, 5, 2, names=["site 1/2024-06/IMG_1.JPG"]))
    assert '<bdi title="site 1/2024-06/IMG_1.JPG">IMG_1.JPG</bdi>' in page


def test_no_text_of_a_user_becomes_markup(tmp_path):
    job, outcome = made_up(tmp_path, 40, 7, names=[name for name in HOSTILE if "/" not in name])
    page = report.render(job, outcome)
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z!][\w-]*)", page))
    assert tags <= set(KNOWN.split())
    assert "<script>alert(1)</script> 0" in text_of(page) and "{{ 7 * 7 }} 4" in text_of(page)
    assert not set(page) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") and "⟨U+202E⟩" in page
    targets = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert all(target.startswith(("#", "../images/", "data:image/")) for target in targets)
    assert {unquote(t) for t in targets if t.startswith("../")} == {f"../images/{name}" for name in outcome.names}


def test_groups_and_what_is_flagged_have_a_section_each_where_there_are_any(tmp_path):
    job, outcome = made_up(tmp_path, 42, 4, names=[name for name in HOSTILE if "/" not in name])
    assert not {"groups", "issues"} & set(re.findall(r'id="(\w+)"', report.render(job, outcome)))
    outcome = with_groups_and_issues(outcome)
    page = report.render(job, outcome)
    assert set(re.findall(r"<\s*/?\s*([a-zA-Z!][\w-]*)", page)) <= set(KNOWN.split())
    assert not set(page) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") and "do not stand in <g.csv>" in text_of(page)

    z, expected = outcome.result.assignments.double(), []
    for name in dict.fromkeys(filter(None, outcome.groups.names)):
        rows = [i for i, of in enumerate(outcome.groups.names) if of == name]
        said = int(z[rows].log().mean(0).argmax())
        if (agree := sum(int(z[i].argmax()) == said for i in rows)) < len(rows):
            expected.append(
                (agree / len(rows), -len(rows), report.shown(name), report.shown(job.classes.names[said]), str(len(rows)), str(agree))
            )
    section = page.partition('<h2 id="groups">')[2].partition("<h2 id=")[0]
    assert f"In {len(expected)} of them" in section and "40 images share evidence in 10 groups" in section
    cells = r'<tr><td><bdi title="(.*?)">.*?</bdi></td><td><bdi>(.*?)</bdi></td>.*?<td class="n">(\d+)</td><td class="n">(\d+)</td></tr>'
    found = [tuple(map(html.unescape, row)) for row in re.findall(cells, section)]
    assert found == [row[2:] for row in sorted(expected, key=lambda row: row[:2])] and len(found) > 2

    section = page.partition('<h2 id="issues">')[2].partition("<h2 id=")[0]
    assert "10 images are near duplicates" in section and "1 images are far less like any class" in section
    shown = [outcome.names.index(picture.name) for picture in report._Page(job, outcome).issues()["pictures"]]
    assert sorted(shown) == [i for i in range(42) if i % 10 < 2] and section.count("<img") == 10 == section.count("<bdi>like</bdi>")


@pytest.mark.parametrize(("images", "classes"), [(100, 10), (5000, 1000), (500, 5000), (3, 1), (1, 50)])
def test_the_page_stays_small_enough_to_read(tmp_path, images, classes):
    page = report.render(*made_up(tmp_path, images, classes))
    assert page.count("<img") <= report.PICTURES + 200
    assert len(page) < 15e6


def test_the_first_screen_says_how_many_how_sure_and_what_next(tmp_path):
    job, outcome = made_up(tmp_path, 300, 12)
    page = report.render(job, outcome)
    first = page[page.index('class="glance"') : page.index('id="sizes"')]
    labels = outcome.result.assignments.argmax(1).tolist()
    counts = sorted((labels.count(j) for j in range(12)), reverse=True)
    assert [int(count) for count in re.findall(r'<td class="n">(\d+)</td>', first)] == counts[:8]
    assert f"4 more classes</a>: {sum(counts[8:])} images" in first
    top = outcome.result.assignments.topk(2, dim=1).values
    undecided = int(((top[:, 0] - top[:, 1]) < report.UNDECIDED).sum())
    assert f"apart): {undecided} of 300" in first and f"{undecided} images have two classes that are nearly as likely" in first
    assert f"python -m gta review {tmp_path / 'out'} --by random" in first


def test_what_is_next_depends_on_what_is_known(tmp_path):
    commands = [
        [command for _, command in steps(tmp_path / "a b", *state)] for state in ((0, True, ""), (3, True, "2 empty"), (0, False, ""))
    ]
    review = f"python -m gta review '{tmp_path}/a b'"
    assert commands == [[""], ["", review, ""], [f"{review} --by random --images 50", ""]]


def test_every_picture_is_said_in_words(tmp_path):
    job, outcome = made_up(tmp_path, 60, 3, names=["site/<b>&.png"])
    alts = re.findall(r'<img src="[^"]*" alt="([^"]*)"', report.render(job, outcome))
    assert len(alts) == report.render(job, outcome).count("<img") > 60 and all(": " in alt for alt in alts)
    assert any(alt.startswith("&lt;b&gt;&amp;.png: 0.") for alt in alts)


def test_the_card_holds_no_name_that_a_user_gave(tmp_path):
    card = report.card(*made_up(tmp_path, 10, 7))
    assert "10 images and 7 class names" in card and "&lt;e>" in card
    assert not any(name in card for name in HOSTILE)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "classes"), [(100, 7), (50_000, 1000)])
def test_a_browser_shows_the_page_and_runs_nothing(tmp_path, images, classes):
    job, outcome = made_up(tmp_path, images, classes, names=[name for name in HOSTILE if "/" not in name], size=128)
    file = tmp_path / "report.html"
    file.write_text(report.render(job, outcome), encoding="utf-8")
    done = browser(file, tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    assert f"<title>{images:,} labelled images</title>" in done.stdout and "<script" not in done.stdout
    assert done.stdout.count("<img") == file.read_text(encoding="utf-8").count("<img")
    browser(file, tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,5000")
    seen = {tuple(pixel) for pixel in np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).reshape(-1, 3)[::7].astype(int) // 8}
    page = report._Page(job, outcome)
    first = [outcome.names.index(picture.name) for picture in page.pairs()[0]["pictures"][:4]]
    assert all(near(tuple(outcome.images.pixels[i, :, 0, 0].tolist()), seen) for i in first)


@pytest.mark.slow
def test_a_browser_shows_the_first_screen_dark_light_narrow_and_printed(tmp_path):
    """The three answers stand above the fold; nothing is wider than the window; a closed gallery is printed open; dark is dark."""
    job, outcome = made_up(tmp_path, 400, 40, size=64)
    (tmp_path / "report.html").write_text(report.render(job, with_groups_and_issues(outcome)), encoding="utf-8")
    shot = tmp_path / "shot.png"

    def tone():
        return np.median(np.asarray(Image.open(shot).convert("L")))

    with Chromium(tmp_path / "profile") as chromium:
        tab = chromium.open((tmp_path / "report.html").as_uri())
        tab.picture(shot)
        assert tone() > 240
        assert tab.value("[...document.querySelectorAll('.glance > div')].every(part => part.getBoundingClientRect().bottom < 900)")
        tab.picture(shot, dark=True)
        assert tone() < 60
        tab.picture(shot, dark=True, media="print")
        assert tone() > 240
        assert tab.value(
            "[...document.querySelectorAll('details:not([open]) figure')].every(part => part.getBoundingClientRect().height > 90)"
        )
        assert tab.value("document.querySelectorAll('details.gallery:not([open])').length") > 0
        tab.picture(shot, width=390, height=800)
        assert tab.value("document.documentElement.scrollWidth") <= 390
        assert tab.console() == []


def near(colour, seen):
    """Whether a colour was seen, within what JPEG does to it."""
    return any(all(abs(c // 8 - s) <= 1 for c, s in zip(colour, other, strict=True)) for other in seen)


def test_a_pair_without_attributes_says_whether_anybody_was_asked():
    """An answer that was given up is no silence."""
    bank = Bank.from_template(["crow", "raven", "rook", "jay"])
    assert report.why_nothing(bank, 0, 1) == "no language model was asked about it"
    asked = bank.drop(0, [("gave up", "prose instead of a list")], source="static")
    said = "the language model was asked, and gave no answer that can be used ({})"
    assert report.why_nothing(asked, 0, 1) == said.format("prose instead of a list")
    pair = logged(bank.drop(1, [("names the other class", "unlike a rook")], against="rook", iteration=0), [(1, 2, 3)], 0)
    assert report.why_nothing(pair, 1, 2) == said.format("names the other class")
    assert report.why_nothing(pair, 2, 1) == "the language model was asked, and said nothing new"
    assert report.why_nothing(pair, 1, 3) == "no language model was asked about it"
