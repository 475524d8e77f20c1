"""`python -m gta label` and `predict` on a folder of glyphs: what comes out, what is paid for twice, what is refused."""

import csv
import json
import re
import shutil
from functools import partial
from types import SimpleNamespace

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from endpoint import chat, endpoint, reply
from gta import adapt, loop
from gta.__main__ import main
from gta.attributes import Bank
from gta.generate import describe
from gta.label import folder, jobs, plan
from gta.label.models import Classifier
from gta.llm import prompts
from gta.llm.endpoint import LanguageModelError, only_model
from gta.llm.ledger import Ledger
from gta.worlds import fieldguide
from gta.worlds.fieldguide import language_model
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for
from gta.worlds.views import GlyphView
from labelling import label, rows
from small import TINY, counted

NAMES = ["<script>alert(1)<.png", "a\nnewline.png", 'quo"te.png', "\u202efdp.png", "=cmd().png", "x" * 250 + ".png"]


@pytest.fixture
def home(tmp_path, glyphs):
    """40 glyphs in folders, some under hostile names, with a class file; 20 more in `later`."""
    folder = tmp_path / "images"
    (folder / "deep" / "er").mkdir(parents=True)
    (tmp_path / "later").mkdir()
    for i, image in enumerate(glyphs[0]):
        name = NAMES[i] if i < len(NAMES) else f"deep/er/{i:02d}.png"
        Image.fromarray(image).save(folder / name if i < 40 else tmp_path / f"later/{i}.png")
    (tmp_path / "classes.txt").write_text("\n".join(DIGITS), encoding="utf-8")
    return tmp_path


command = partial(label, iterations=3)


def test_the_labels_are_those_of_the_method(home, encoder, glyphs):
    assert command(home, "--llm", "fieldguide") == 0
    order = sorted(range(40), key=lambda i: NAMES[i] if i < len(NAMES) else f"deep/er/{i:02d}.png")
    found = {row["path"]: row for row in rows(home / "out/predictions.csv")}
    paths = [NAMES[i] if i < len(NAMES) else f"deep/er/{i:02d}.png" for i in order]
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    settings = settings_for("embedded", iterations=3)
    with language_model("fieldguide", 0) as llm:
        questions = prompts.load("glyphs")
        static = describe(bank, llm, questions)
        images = [glyphs[0][i] for i in order]
        options = {"attributes": static, "llm": llm, "questions": questions, "augment": GlyphView(32), "progress": False}
        direct = loop.run(encoder, images, DIGITS, settings, **options)
    plain = loop.run(encoder, images, DIGITS, settings_for("embedded", iterations=1), attributes=bank, progress=False).clip
    assert sorted(found) == sorted(paths)
    for path, z, clip in zip(paths, direct.assignments, plain, strict=True):
        row, (first, second) = found[path], z.topk(2).indices.tolist()
        assert (row["label"], row["runner_up"], row["clip"]) == (DIGITS[first], DIGITS[second], DIGITS[int(clip.argmax())])
        assert float(row["confidence"]) == pytest.approx(float(z[first]), abs=2e-3)
        assert float(row["margin"]) == pytest.approx(float(z[first] - z[second]), abs=2e-3)
    assert Bank.load(home / "out/attributes.json").texts == direct.attributes.texts


def test_the_same_command_pays_for_nothing_twice(home, monkeypatch, capsys):
    assert command(home, "--llm", "fieldguide") == 0
    first, answers = (home / "out/predictions.csv").read_bytes(), len(list(Ledger(home / "out/ledger")))
    calls = counted(monkeypatch)
    capsys.readouterr()
    assert command(home, "--llm", "fieldguide", "--reject-above", "0") == 0
    assert calls == [] and "; 0 calls" in capsys.readouterr().out
    again = rows(home / "out/predictions.csv")
    assert len(again) == 40 and not any(row["label"] for row in again)
    assert command(home, "--llm", "fieldguide") == 0
    assert (home / "out/predictions.csv").read_bytes() == first
    assert len(list(Ledger(home / "out/ledger"))) == answers


def test_more_images_or_one_more_class_cost_what_is_new(home, monkeypatch):
    (home / "nine.txt").write_text("\n".join(DIGITS[:9]), encoding="utf-8")
    assert command(home, "--llm", "fieldguide", "--iterations", "1", classes="nine.txt") == 0
    calls, before = counted(monkeypatch), {entry["about"] for entry in Ledger(home / "out/ledger")}
    shutil.copytree(home / "later", home / "images/later")
    assert command(home, "--llm", "fieldguide", "--iterations", "1", classes="nine.txt") == 0
    assert calls == [20]
    assert command(home, "--llm", "fieldguide", "--iterations", "1") == 0
    assert calls == [20]
    new = {entry["about"] for entry in Ledger(home / "out/ledger")} - before
    assert "'nine'" in new and not [about for about in new if " against " not in about and about != "'nine'"]


def test_an_interrupted_run_goes_on_with_the_same_command(home, monkeypatch):
    assert command(home, out="whole") == 0
    true_adapt, calls = adapt.adapt, []

    def breaks(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true_adapt(*arguments, **options)

    monkeypatch.setattr("gta.loop.adapt", breaks)
    assert command(home) == 130
    assert not (home / "out/predictions.csv").exists()
    assert command(home) == 0
    assert len(calls) == 3  # two that were not done yet, none again
    assert (home / "out/predictions.csv").read_bytes() == (home / "whole/predictions.csv").read_bytes()


def test_a_bank_is_replayed_without_a_model(home):
    assert command(home, "--llm", "fieldguide") == 0
    assert command(home, "--llm", f"replay:{home}/out/attributes.json", out="again") == 0
    for name in ("predictions.csv", "attributes.json"):
        assert (home / "out" / name).read_bytes() == (home / "again" / name).read_bytes()


def test_examples_are_learnt_from_and_left_out(home, glyphs):
    given = [(f"deep/er/{i:02d}.png", DIGITS[int(glyphs[1][i])]) for i in range(10, 30)]
    (home / "labels.csv").write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in given), encoding="utf-8")
    assert command(home, "--labelled", home / "labels.csv", "--save-model") == 0
    found = {row["path"] for row in rows(home / "out/predictions.csv")}
    assert len(found) == 20 and not found & {path for path, _ in given}
    assert json.loads((home / "out/model/classifier.json").read_text(encoding="utf-8"))["lam"] == 0.5
    wrong = [(path, DIGITS[(DIGITS.index(name) + 1) % 10]) for path, name in given]
    (home / "labels.csv").write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in wrong), encoding="utf-8")
    assert command(home, "--labelled", home / "labels.csv", out="wrong") == 0
    assert rows(home / "wrong/predictions.csv") != rows(home / "out/predictions.csv")


def test_a_kept_model_labels_new_images(home, capsys):
    assert command(home, "--save-model") == 0
    (home / "later/torn.png").write_bytes(b"\x89PNG")
    capsys.readouterr()
    assert main(["predict", str(home / "out/model"), str(home / "later")]) == 0
    said = capsys.readouterr()
    printed = list(csv.DictReader(said.out.splitlines()))
    assert [row["path"] for row in printed] == [f"{i}.png" for i in range(40, 60)] and "clip" not in printed[0]
    assert "no label: 'torn.png'" in said.err
    assert main(["predict", str(home / "out/model"), str(home / "later"), "--out", str(home / "p.csv")]) == 0
    assert rows(home / "p.csv") == printed


def test_what_cannot_be_read_is_told_and_nothing_is_lost(home):
    (home / "images/zero.png").write_bytes(b"")
    (home / "images/text.png").write_text("hello", encoding="utf-8")
    (home / "images/torn.png").write_bytes((home / "images/deep/er/10.png").read_bytes()[:60])
    Image.new("1", (20_000, 20_000)).save(home / "images/huge.png")
    (home / "images/out.png").symlink_to(home / "later/40.png")
    (home / "images/later").symlink_to(home / "later")
    assert command(home, "--iterations", "1") == 0
    left = {row["path"]: row["reason"] for row in rows(home / "out/left_out.csv")}
    reasons = {
        "zero.png": "empty",
        "text.png": "no image inside",
        "torn.png": "truncated",
        "huge.png": "too large: 400,000,000 pixels",
        "out.png": "leads out of the folder",
        "later": "a linked folder",
    }
    assert left.keys() == reasons.keys() and all(reason in left[name] for name, reason in reasons.items())
    assert len(rows(home / "out/predictions.csv")) == 40


def test_images_of_any_size_and_shape_are_labelled_together(home):
    for i, size in enumerate([(64, 64), (100, 40), (33, 32), (500, 700)]):
        Image.open(home / f"later/{40 + i}.png").resize(size).save(home / f"images/deep/{i}.png")
    assert command(home) == 0
    assert len(rows(home / "out/predictions.csv")) == 44


def test_results_may_lie_among_the_images_and_are_none_of_them(home):
    for _ in range(2):
        assert command(home, "--iterations", "1", "--save-model", out="images/labelled") == 0
        assert rows(home / "images/labelled/left_out.csv") == []


def test_nothing_that_can_be_read_is_an_error_that_names_every_file(home, capsys):
    for file in (home / "later").iterdir():
        file.write_bytes(b"x")
    assert label(home, images="later") == 1
    said = capsys.readouterr().err
    assert "20 of 20 images cannot be read" in said and all(f"{i}.png" in said for i in range(40, 60))


def test_an_empty_folder_is_an_error_that_says_what_is_looked_for(home, capsys):
    (home / "nothing").mkdir()
    assert label(home, images="nothing") == 1
    assert "no image among 0 files; known by their suffixes: .avif" in capsys.readouterr().err and not (home / "out").exists()


@pytest.fixture
def tiny(home, monkeypatch):
    """A small model of open words in a folder, as open_clip writes it."""
    folder = home / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}), encoding="utf-8")
    save_file(dict(open_clip.CLIP(**TINY).state_dict()), folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize(("classes", "images"), [(1, 40), (40, 1), pytest.param(5000, 3, marks=pytest.mark.slow)])
def test_any_number_of_classes_and_images(home, tiny, classes, images):
    names = [f"kind {i} <b>&" for i in range(classes)]
    (home / "many.txt").write_text("\n".join(names), encoding="utf-8")
    (home / "list.txt").write_text("".join(f"images/deep/er/{i:02d}.png\n" for i in range(10, 10 + images)), encoding="utf-8")
    assert label(home, "--save-model", images="list.txt", classes="many.txt", encoder=tiny, iterations=2) == 0
    found = rows(home / "out/predictions.csv")
    assert len(found) == min(images, 30) and {row["label"] for row in found} <= set(names)
    if classes == 1:
        assert {(row["confidence"], row["runner_up"], row["margin"]) for row in found} == {("1.0000", "", "1.0000")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "{home}/gone.txt"], "gone.txt"),
        (["--llm", "non"], "llm 'non' is none of: none, replay:FILE.*did you mean 'none'"),
        (["--llm", "replay:{home}/classes.txt"], "classes.txt is not an attribute bank"),
        (["--encoder", "ViT-B-31"], "unknown backbone 'ViT-B-31'.*did you mean 'ViT-B-32'"),
        (["--classes", "{home}/birds.txt"], "for photographs name a real CLIP.*'crane' in"),
        (["--classes", "{home}/twice.txt"], "classes 1 and 2 are both 'one'"),
        (["--labelled", "{home}/classes.txt"], "no column label or path"),
        (["--classes", "{home}/images"], "images: a folder; a text file is needed"),
        (["--out", "{home}/classes.txt"], "classes.txt' is a file; name a folder"),
        (["--out", "{home}/images"], "would mix the results with the images"),
        (["--device", "abacus"], "device 'abacus' cannot be used here; leave it out, or name cpu"),
        (["--iterations", "0"], "--iterations 0: Input should be greater than or equal to 1"),
        (["--sampling", "max_tokens=0"], "--sampling max_tokens=0: Input should be greater than or equal to 1"),
        (["--sampling", "temprature=1"], "--sampling .* unknown parameter 'temprature'; did you mean 'temperature'"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_written(home, capsys, arguments, message):
    (home / "birds.txt").write_text("crane\nheron", encoding="utf-8")
    (home / "twice.txt").write_text("one\none", encoding="utf-8")
    assert command(home, *(word.format(home=home) for word in arguments)) == 1
    assert re.search(message, capsys.readouterr().err, re.DOTALL)
    assert not (home / "out/predictions.csv").exists()


@pytest.mark.parametrize("llm", ["m@https://me:hunter2@host/v1", "https://me:hunter2@host/v1", "m@https://host/v1?key=hunter2"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(home, capsys, llm):
    assert command(home, "--llm", llm) == 1
    said = capsys.readouterr()
    assert "the language model at host holds a password or a key" in said.err and "hunter2" not in said.out + said.err


@pytest.mark.parametrize("llm", ["m@http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"])
def test_the_embedded_encoder_takes_no_free_language_model(home, capsys, llm):
    assert command(home, "--llm", llm) == 1
    assert capsys.readouterr().err == (
        "the encoder 'embedded' knows only the words of its own small world; the first answer with another word would end the run, after "
        "every question was paid for. For a free language model name a real CLIP and images that it knows, such as ViT-B/16 and your "
        "photographs; for 'embedded' the llm is fieldguide\n"
    )
    assert not (home / "out").exists()


def test_so_does_no_model_that_was_kept_of_it(home, capsys):
    """It brings the same list of words in a folder of its own."""
    assert command(home, "--save-model", "--iterations", "1") == 0
    capsys.readouterr()
    with endpoint([reply()]) as (url, seen):
        assert command(home, "--encoder", str(home / "out/model"), "--llm", f"m@{url}", out="again") == 1
    assert capsys.readouterr().err == (
        f"the encoder '{home}/out/model' knows only the words of {home}/out/model/tokenizer.json; the first answer with another word would "
        "end the run, after every question was paid for. For a free language model name a real CLIP and images that it knows, such as "
        "ViT-B/16 and your photographs; with this folder leave `llm` out, and nobody is paid\n"
    )
    assert len(seen) == 0 and not (home / "again").exists()


def test_a_bank_to_replay_is_held_against_the_encoder_before_anything_is_read(home, capsys):
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    bank.add(0, ["a plumage"], source="static").save(home / "bank.json")
    assert command(home, "--llm", f"replay:{home}/bank.json") == 1
    assert "'plumage' in 'a picture of the digit zero with a plumage' is not a word of this encoder" in capsys.readouterr().err
    assert not (home / "out").exists()


def test_an_endpoint_is_asked_as_the_command_says(home, capsys):
    said = reply(body=chat('{"attributes": ["with one loop"]}'))
    words = ["--sampling", "temperature=0.7", "max_tokens=null", "extra={top_k: 3}", "--iterations", "1"]
    with endpoint([said]) as (url, seen):
        assert command(home, "--llm", f"fieldguide@{url}", *words) == 0
    assert len(seen) == 10
    assert all(request["temperature"] == 0.7 and request["top_k"] == 3 and "max_tokens" not in request for request in seen.requests)
    assert "a picture of the digit one with one loop" in (home / "out/attributes.json").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        command(home, "--sampling", "hot")
    assert "'hot' is not NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("score", ["nan", "inf", "high"])
def test_a_score_that_rejects_nothing_is_refused(home, score):
    with pytest.raises(SystemExit):
        command(home, "--reject-above", score)


def test_the_field_guide_is_for_glyphs_alone(home, tiny, capsys):
    assert label(home, "--llm", "fieldguide", encoder=tiny) == 1 and "knows printed characters alone" in capsys.readouterr().err


def test_a_plan_counts_and_does_nothing(home, tiny, capsys):
    before = sorted(home.rglob("*"))
    assert command(home, "--plan", "--llm", "fieldguide@http://127.0.0.1:9/v1", "--price", "1", "10") == 0
    told = capsys.readouterr().out
    assert "40 images, 10 classes" in told and "10 about single classes" in told
    least = (10 * plan.PROMPT * 1 + 10 * plan.ANSWER * 10) / 1e6
    assert f"price           {least:.2f} to" in told
    assert sorted(home.rglob("*")) == before


def test_a_plan_counts_what_a_batch_leaves_to_adapt_from():
    """By hand: a layer keeps its 48 inputs of 4 bytes, of an image and of a text, and ReLU its 8 outputs; the weights are no part of it."""
    model = torch.nn.Sequential(torch.nn.Linear(48, 8, bias=False), torch.nn.ReLU())
    encoder = SimpleNamespace(
        model=model,
        image_size=4,
        image_features=lambda x: model(x.float().flatten(1)),
        text_features=lambda texts: model(torch.ones(2, 48)),
    )
    assert plan._activations(encoder, "a") == 2 * 4 * (48 + 8)


def test_a_plan_of_a_clip_fetches_nothing(home, capsys, monkeypatch):
    monkeypatch.setattr("gta.encoders.hub.hf_hub_download", lambda *_, **__: pytest.fail("a download"))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", {**TINY, "quick_gelu": True})
    assert command(home, "--plan", "--encoder", "ViT-B/32") == 0
    said = capsys.readouterr()
    assert "images a second to encode" in said.out and not said.err


def test_the_templates_are_the_users_or_suit_the_domain(home, tiny):
    def chosen(text, encoder):
        (home / "c.yaml").write_text(text, encoding="utf-8")
        job = jobs.prepare(jobs.Options(images=str(home / "images"), classes=str(home / "c.yaml"), encoder=str(encoder), out="o"))
        return job.bank().texts, job.augmentation

    assert chosen("[crane]", tiny) == ([["a photo of a crane."]], adapt.natural_augmentation)
    assert chosen("[A, B]", "embedded") == ([["a picture of the letter A"], ["a picture of the letter B"]], GlyphView)
    own = "classes: {crane: [a red crown], heron: []}\ntemplate: a {}.\nsentence: a {name} with {attribute}."
    assert chosen(own, tiny)[0] == [["a crane with a red crown."], ["a heron."]]


def test_an_endpoint_that_serves_one_model_needs_no_name():
    with fieldguide.serve(fieldguide.draw_guide(0)) as url:
        assert only_model(url) == "fieldguide"
    with pytest.raises(LanguageModelError, match=r"failed: .*; it does not say which model"):
        only_model("http://127.0.0.1:9/v1")


def test_of_two_equal_classes_the_first_is_the_label_and_the_second_the_runner_up():
    z = torch.tensor([[0.1, 0.45 - 1e-8, 0.45 + 1e-8], [0.45 + 1e-8, 0.1, 0.45 - 1e-8], [0.0, 0.25, 0.75]], dtype=torch.float64)
    names = Classifier(("crane", "heron", "ibis"), torch.eye(3), torch.eye(3), torch.ones(3), 1.0, 1.0)
    text = folder.predictions(["a", "b", "c"], names, z, z, torch.zeros(3))
    found = [(row["label"], row["runner_up"], row["confidence"], row["margin"], row["clip"]) for row in csv.DictReader(text.splitlines())]
    assert found == [
        ("heron", "ibis", "0.4500", "0.0000", "heron"),
        ("crane", "ibis", "0.4500", "0.0000", "crane"),
        ("ibis", "heron", "0.7500", "0.5000", "ibis"),
    ]


def test_a_table_holds_any_text():
    hostile = [["=1+1", 'a"b,c\nd'], ["\u202e", "<b>"]]
    assert list(csv.reader(folder.table(("x", "y"), hostile).splitlines(keepends=True))) == [["x", "y"], *hostile]


def test_sizes_unlike_the_list_are_told_with_what_to_try_and_it_can_be_tried(home, capsys):
    """Three copies of the glyphs of six classes, and four letters that are not there."""
    (home / "classes.txt").write_text("\n".join([*DIGITS[:6], "W", "K", "X", "M"]), encoding="utf-8")
    for file in list((home / "images").rglob("*.png")):
        if file.name not in NAMES and int(file.stem) % 10 < 6:
            shutil.copy(file, home / "images" / f"b{file.name}")
            shutil.copy(file, home / "images" / f"c{file.name}")
        elif file.name not in NAMES:
            file.unlink()
    assert command(home) == 0
    told = capsys.readouterr().err
    assert re.search(r"of 10 classes have no image.*: if these names do not all occur in the folder, look at --class-sizes", told), told
    assert "the sizes do not look like the list" in (home / "out/report.html").read_text(encoding="utf-8")
    assert command(home, "--class-sizes", "equal", out="held") == 0
    free, held = ({row["label"] for row in rows(home / out / "predictions.csv")} for out in ("out", "held"))
    assert len(held) > len(free)
    assert command(home, "--class-sizes", "even", out="no") == 1
    assert "--class-sizes" in capsys.readouterr().err
