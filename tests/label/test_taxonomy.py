"""The tree above the classes: sums against a loop over names, the deepest sure name, what a user may write wrong, who is asked first."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import labelling
from gta.__main__ import main
from gta.attributes import Bank
from gta.encoders.images import load_images
from gta.generate import logged, pairs_to_ask
from gta.label import jobs, models, run
from gta.label.inputs import find_images, read_classes
from gta.label.taxonomy import SiblingsFirst, Taxonomy, read_parents
from gta.worlds import aviary
from gta.worlds.birds import STYLES, draw, draw_look
from labelling import rows

HERONS = {"grey heron": "herons", "great egret": "herons", "crane": "waders", "herons": "waders"}
NAMES = ["grey heron", "great egret", "crane", "empty"]


@st.composite
def trees(draw):
    """Class names and {child: parent}, of any shape without circles: a parent has a larger number than its child."""
    m, inner = draw(st.integers(1, 7)), draw(st.integers(0, 5))
    nodes = [f"c{i}" for i in range(m)] + [f"p{i}" for i in range(inner)]
    parents = {}
    for i, name in enumerate(nodes):
        above = [None, *nodes[max(m, i + 1) :]]
        if (parent := draw(st.sampled_from(above))) is not None:
            parents[name] = parent
    return nodes[:m], parents


@st.composite
def labelled(draw):
    names, parents = draw(trees())
    rows = draw(st.lists(st.lists(st.floats(0.001, 1), min_size=len(names), max_size=len(names)), min_size=1, max_size=4))
    z = torch.tensor(rows, dtype=torch.float64) ** 8
    return names, parents, z / z.sum(1, keepdim=True), draw(st.floats(0.5, 0.99))


def up(name, parents):
    """The name and all above it."""
    return [name, *(up(parents[name], parents) if name in parents else [])]


@given(labelled())
def test_the_sum_of_a_name_is_that_of_the_classes_below_it_and_the_deepest_above_the_floor_is_given(case):
    names, parents, z, floor = case
    tree = Taxonomy.of(names, parents, floor=floor)
    nodes, sure = tree.deepest(z)
    for row, sums, node, confidence in zip(z, tree.sums(z), nodes.tolist(), sure, strict=True):
        naive = {}
        for name, share in zip(names, row.tolist(), strict=True):
            for above in up(name, parents):
                naive[above] = naive.get(above, 0.0) + share
        assert dict(zip(tree.nodes, sums.tolist(), strict=True)) == pytest.approx(naive)
        safe = {name: s for name, s in naive.items() if abs(s - floor) > 1e-9}
        above = sorted((name for name, s in safe.items() if s > floor), key=lambda name: len(up(name, parents)))
        assert all(a in up(b, parents) for a, b in pairwise(above)), "two that are no path"
        if len(safe) == len(naive):
            assert (tree.nodes[node] if node >= 0 else None) == (above[-1] if above else None)
            assert float(confidence) == pytest.approx(naive[above[-1]] if above else 0)


@given(trees())
def test_a_tree_is_made_again_from_what_is_kept_of_it(case):
    names, parents = case
    tree = Taxonomy.of(names, parents, floor=0.7)
    assert Taxonomy.of(names, tree.parents, tree.ranks, 0.7) == tree
    assert set(tree.parents) <= set(parents) and all(up(name, tree.parents) == up(name, parents) for name in names)


def test_an_example_by_hand():
    tree = Taxonomy.of(NAMES, HERONS, ["order", "family", "species"], floor=0.6)
    z = torch.tensor(
        [[0.7, 0.1, 0.1, 0.1], [0.35, 0.3, 0.25, 0.1], [0.3, 0.2, 0.3, 0.2], [0.2, 0.2, 0.15, 0.45], [0.05, 0.1, 0.05, 0.8]],
        dtype=torch.float32,
    )
    assert tree.columns(z) == [
        ("species", "grey heron", "0.7000"),
        ("family", "herons", "0.6500"),
        ("order", "waders", "0.8000"),
        ("", "", ""),
        ("species", "empty", "0.8000"),
    ]
    assert tree.alone == ["empty"] and "without a parent: empty" in str(tree)
    assert Taxonomy.of(NAMES, HERONS).ranks == ("level 1", "level 2", "class")


def test_of_two_halves_neither_is_more_likely_than_all_others():
    tree = Taxonomy.of(["a", "b", "c"], {"a": "x", "b": "x"})
    assert tree.columns(torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])) == [("level 1", "x", "1.0000"), ("", "", "")]
    assert tree.deepest(torch.zeros(0, 3))[0].shape == (0,)


@pytest.mark.parametrize(
    ("parents", "ranks", "floor", "said"),
    [
        ({"a": "b"}, (), 0.5, "'b' is a class and cannot be the parent of 'a'"),
        ({"a": "A"}, (), 0.5, "'A' is a class and cannot be the parent of 'a'"),
        ({"a": "x", "x": "y", "y": "z", "z": "x"}, (), 0.5, "circle: x < y < z < x"),
        ({"a": "x", "x": "x"}, (), 0.5, "circle: x < x"),
        ({"a": "x", "b": "x", "x": "y", "X": "z"}, (), 0.5, "'X' has two parents, 'y' and 'z'"),
        ({"a": "x", "x": "y"}, ("family", "species"), 0.5, "3 names that differ are needed, from the top down, for y > x > a"),
        ({"a": "x"}, ("species", "species"), 0.5, "2 names that differ"),
        ({"a": "x"}, (), 0.4, "floor is 0.4; from 0.5 to under 1"),
        ({"a": "x"}, (), 1.0, "floor is 1.0"),
        ({"a": "x"}, (), float("nan"), "floor is nan"),
    ],
)
def test_a_tree_that_cannot_be_is_refused_with_its_names(parents, ranks, floor, said):
    with pytest.raises(ValueError, match=said):
        Taxonomy.of(["a", "b"], parents, ranks, floor)


def classes(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    return read_classes(tmp_path / "c.yaml")


def test_a_class_names_its_parent_beside_its_attributes_and_parents_have_parents(tmp_path):
    text = """
ranks: [order, family, species]
classes:
  grey heron: {parent: herons, attributes: [a grey back]}
  great egret: {parent: herons}
  crane: [a red crown]
  empty:
parents: {herons: waders, crane: waders}
"""
    found = classes(tmp_path, text)
    assert found.parents == HERONS and found.ranks == ("order", "family", "species")
    assert found.attributes == {"grey heron": ("a grey back",), "crane": ("a red crown",)} and list(found.names) == NAMES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes: {a: {parent: x}, b: }\nparents: {a: y}", "'a' has two parents, 'y' and 'x'"),
        ("classes: {a: {parent: x}}\nparents: {xx: y}", "parents: 'xx' is no class, and no class is below it; did you mean 'x'"),
        ("classes: {a: {parent: b}, b: }", "'b' is a class and cannot be the parent"),
        ("classes: {a: {parent: no}}", "parent of 'a': False is bool, not a name; put quotes"),
        ("classes: {a: {parents: x}}", "class 'a': unknown field 'parents'; it may have attributes and parent"),
        ("classes: {a: }\nparents: [x]", "`parents` is no mapping"),
        ("classes: {a: {parent: x}}\nparents: {x: y, y: x}", "parents go in a circle: x < y < x"),
    ],
)
def test_a_bad_tree_in_a_file_of_classes_is_refused_with_the_file(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as caught:
        classes(tmp_path, text)
    assert "c.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,parent\na,x\n", "no column child in its first line"),
        ("child,parent\na,x\na,y\n", "line 3: 'a' has two parents, 'x' and 'y'"),
        ("child,parent\na,\n", "line 2: a child and its parent are needed"),
        ("child,parent\na,x\0\n", r"parent 'x.x00' of 'a' holds a control"),
        (b"child,parent\na,\xff\n", "t.csv: no CSV in UTF-8"),
    ],
)
def test_a_bad_line_of_a_taxonomy_is_named(tmp_path, text, said):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        Taxonomy.of(["a"], read_parents(tmp_path / "t.csv"), ["x"])


def test_a_csv_may_know_more_than_the_classes_and_other_capitals(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffchild,parent\nGrey Heron,Herons\nherons,Waders\nswift,swifts\n", encoding="utf-8")
    tree = Taxonomy.of(["grey heron", "crane"], read_parents(tmp_path / "t.csv"))
    assert tree.nodes == ("grey heron", "crane", "Herons", "Waders") and tree.lineages[0] == (0, 2, 3)


def test_siblings_are_asked_first_and_a_cousin_before_a_stranger():
    order = SiblingsFirst.of(Taxonomy.of(NAMES, HERONS))
    assert [order.steps(a, b) for a, b in ((0, 1), (0, 2), (2, 1), (0, 3))] == [1, 2, 2, 4]
    bank, pairs = Bank.from_template(NAMES), [(0, 3, 9), (1, 2, 5), (0, 1, 4), (0, 2, 2)]
    assert order(pairs, 2, bank) == [(0, 1, 4), (1, 2, 5), (0, 3, 9)]
    assert order(pairs, 9, bank) == [(0, 1, 4)], "where none is frequent enough, one of siblings"
    assert order(pairs, 9, logged(bank, [(0, 1, 4)], 0)) == [(1, 2, 5)]
    assert repr(order) == repr(SiblingsFirst.of(Taxonomy.of(NAMES, HERONS))), "it names a run, in every process"


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda p: p[0] < p[1])), st.data())
def test_of_classes_that_are_all_siblings_the_order_stays(pairs, data):
    counts = sorted((data.draw(st.integers(1, 5)) for _ in pairs), reverse=True)
    given_, beta = [(a, b, count) for (a, b), count in zip(sorted(pairs), counts, strict=True)], data.draw(st.integers(0, 5))
    tree, bank = Taxonomy.of(NAMES, dict.fromkeys(NAMES, "x")), Bank.from_template(NAMES)
    assert SiblingsFirst.of(tree)(given_, beta, bank) == pairs_to_ask(given_, beta, bank)


@pytest.fixture(scope="module")
def pictures():
    """Two pictures of each of the 32 species of a world, as it draws them."""
    of = aviary.world(0)
    rng, style = np.random.Generator(np.random.PCG64(0)), STYLES["field"]
    return [draw(bird, style, draw_look(style, rng), rng) for bird in of.species.repeat(2, 0)]


@pytest.fixture
def birds(tmp_path, pictures):
    """The pictures, and a file of the species with their attributes in families, two in an order; and the same with the tree in a CSV."""
    of = aviary.world(0)
    (tmp_path / "images").mkdir()
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / f"images/{i:02d}.png")
    species = {name: {"parent": f"family {j // 4}", "attributes": of.facts[name]} for j, name in enumerate(of.names)}
    parents = {f"family {j}": f"order {j // 2}" for j in range(8)}
    whole = {"domain": "aviary", "ranks": ["order", "family", "species"], "classes": species, "parents": parents}
    (tmp_path / "classes.yaml").write_text(json.dumps(whole), encoding="utf-8")
    (tmp_path / "plain.yaml").write_text(json.dumps({"domain": "aviary", "classes": of.facts}), encoding="utf-8")
    lines = [f"{child},{parent}" for child, parent in [*((name, of["parent"]) for name, of in species.items()), *parents.items()]]
    (tmp_path / "tree.csv").write_text("\n".join(["child,parent", *lines]), encoding="utf-8")
    return tmp_path


label = partial(labelling.label, classes="classes.yaml")


def expected(z, names, floor):
    """rank, label and confidence by a loop over families and orders."""
    found = []
    for row in z.double():
        levels = {"order": (8, "order"), "family": (4, "family"), "species": (1, None)}
        best = ("", "", "")
        for rank, (size, word) in levels.items():
            sums = row.reshape(-1, size).sum(1)
            j = int(sums.argmax())
            if sums[j] > floor:
                best = (rank, names[j] if word is None else f"{word} {j}", f"{float(sums[j]):.3f}")
        found.append(best)
    return found


def given_ranks(found):
    return [(row["rank"], row["label_at_rank"], row["confidence_at_rank"] and f"{float(row['confidence_at_rank']):.3f}") for row in found]


def near(found, wanted):
    return all(a[:2] == b[:2] and abs(float(a[2] or 0) - float(b[2] or 0)) < 2e-3 for a, b in zip(found, wanted, strict=True))


def test_a_plan_for_birds_is_told_with_words_that_their_encoder_knows(birds, capsys):
    assert label(birds, "--plan") == 0 and "images a second to encode" in capsys.readouterr().out


def test_birds_are_labelled_and_predicted_at_the_rank_that_is_sure(birds, capsys):
    assert label(birds, "--floor", "0.6", "--save-model") == 0
    assert "taxonomy        32 classes under 12 parents; order > family > species; floor 0.6" in capsys.readouterr().out
    job = jobs.prepare(
        jobs.Options(
            images=str(birds / "images"),
            classes=str(birds / "classes.yaml"),
            encoder="embedded",
            out=str(birds / "out"),
            iterations=1,
            floor=0.6,
        )
    )
    z = run.run(job, progress=False).result.assignments
    found = rows(birds / "out/predictions.csv")
    assert near(given_ranks(found), expected(z, job.classes.names, 0.6))
    assert {row["rank"] for row in found} >= {"species", "family"}
    page = (birds / "out/report.html").read_text(encoding="utf-8")
    table = page.partition('<h2 id="ranks">')[2].partition("<h2 id=")[0]
    for rank in ("order", "family", "species"):
        count = sum(row["rank"] == rank for row in found)
        assert f'<tr><td><bdi>{rank}</bdi></td><td class="n">{count}</td>' in table

    assert main(["predict", str(birds / "out/model"), str(birds / "images"), "--out", str(birds / "p.csv")]) == 0
    encoder, classifier = models.load(birds / "out/model", device="cpu")
    pixels = load_images(find_images(birds / "images").paths, encoder).pixels
    alone = classifier.label(encoder.encode_images(pixels))
    assert near(given_ranks(rows(birds / "p.csv")), expected(alone, classifier.class_names, 0.6))
    command = ["predict", str(birds / "out/model"), str(birds / "images"), "--floor", "0.9", "--out", str(birds / "q.csv")]
    assert main(command) == 0
    assert near(given_ranks(rows(birds / "q.csv")), expected(alone, classifier.class_names, 0.9))


def test_a_taxonomy_in_a_csv_is_that_in_the_classes_file_and_changes_no_label(birds, capsys):
    assert label(birds) == 0
    assert label(birds, "--taxonomy", birds / "tree.csv", classes="plain.yaml", out="csv") == 0
    assert label(birds, "--save-model", classes="plain.yaml", out="plain") == 0
    tree, by_csv, plain = (rows(birds / out / "predictions.csv") for out in ("out", "csv", "plain"))
    kept = [name for name in plain[0] if name != "path"]
    assert "rank" not in plain[0] and [[row[name] for name in kept] for row in tree] == [[row[name] for name in kept] for row in plain]
    assert [row["label_at_rank"] for row in by_csv] == [row["label_at_rank"] for row in tree]
    assert {row["rank"] for row in by_csv} <= {"level 1", "level 2", "class", ""}
    capsys.readouterr()
    assert main(["predict", str(birds / "plain/model"), str(birds / "images"), "--floor", "0.9"]) == 1
    assert "was made without a taxonomy; leave --floor 0.9 out" in capsys.readouterr().err
    assert label(birds, "--taxonomy", birds / "tree.csv") == 1
    assert "leave --taxonomy out" in capsys.readouterr().err
    (birds / "tree.csv").write_text("child,parent\nzebra,horses\n", encoding="utf-8")
    assert label(birds, "--taxonomy", birds / "tree.csv", classes="plain.yaml") == 1
    assert "none of its 1 children is a class of" in capsys.readouterr().err
    assert label(birds, "--floor", "0.3") == 1
    assert "--floor 0.3: Input should be greater than or equal to 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parent", "llm", "expected"), [("round", "fieldguide", True), (None, "fieldguide", False), ("round", "none", False)]
)
def test_a_run_asks_by_the_tree_only_where_there_is_one_and_somebody_to_ask(tmp_path, monkeypatch, glyphs, parent, llm, expected):
    """Else it is the run that it was, with all that it has kept."""
    (tmp_path / "images").mkdir()
    Image.fromarray(glyphs[0][0]).save(tmp_path / "images/0.png")
    tree = {"classes": {"zero": {"parent": parent} if parent else None, "six": None}}
    (tmp_path / "c.yaml").write_text(json.dumps(tree), encoding="utf-8")
    given_ = {"images": tmp_path / "images", "classes": tmp_path / "c.yaml", "out": tmp_path / "out"}
    job = jobs.prepare(jobs.Options(encoder="embedded", llm=llm, **{name: str(path) for name, path in given_.items()}))
    seen = {}

    def stop(*_, **options):
        seen.update(options)
        raise InterruptedError

    monkeypatch.setattr("gta.loop.run", stop)
    with pytest.raises(InterruptedError):
        run.run(job, progress=False)
    order = seen["select_pairs"]
    assert order == SiblingsFirst(((0, 2), (1,))) if expected else order is pairs_to_ask
