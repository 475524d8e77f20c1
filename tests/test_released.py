"""Each switch of `gta.released` gives the authors' numbers, and changes a named quantity of the default."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch

from golden import close, golden, sparse
from gta import affinity, loop
from gta.adapt import Selection, adapt, draw_batches, natural_augmentation
from gta.adapt import parameter_groups as default_groups
from gta.attributes import Bank
from gta.encoders.images import load_images
from gta.generate import distinguish, pairs_to_ask
from gta.llm.chat import Question, Reply
from gta.released import asking, graphs, solver, weights
from gta.released.views import bilinear_augmentation
from gta.settings import Settings
from gta.transduct import GAMMAS, select_gamma, text_prior, transduct
from gta.worlds.glyphs import DIGITS
from gta.worlds.settings import settings_for

SUBSET = Settings(learns="released_subset")


def few_shot(shots):
    case = golden("fs_n300_k10_d48")
    s = {key.removeprefix(f"s{shots}_"): value for key, value in case.items() if key.startswith(f"s{shots}_")}
    x = case["query_features"]
    arguments = (x, text_prior(x, case["clip_prototypes"].T[:, None]), s["support_features"], s["support_labels"])
    return (*arguments, s["val_features"], s["val_labels"]), s


@pytest.mark.parametrize("shots", [1, 4, 16])
def test_few_shot_answers_of_the_released_solver(shots):
    """Misaligned graph, state carried from gamma to gamma, the last z returned whichever gamma was chosen."""
    arguments, expected = few_shot(shots)
    x, support = arguments[0], arguments[2]
    graph = graphs.knn_graph(x, support)
    theirs = sparse(expected["W_rows"], expected["W_cols"], expected["W_vals"], (len(x) + len(support), len(x)))
    close(graph.to_dense(), theirs.to_dense(), atol=1e-6)
    gamma, result = solver.select_gamma(*arguments, affinity=graph)
    assert gamma == GAMMAS[int(expected["selected_gamma_index"])]
    close(result.assignments, expected["z_per_gamma"][-1])
    close(result.prototypes, expected["mu_per_gamma"][-1])
    close(result.variance, expected["sigma_per_gamma"][-1], rtol=5e-5, atol=0)


def test_misaligned_changes_z():
    arguments, expected = few_shot(4)
    few = {"support_features": arguments[2], "support_labels": arguments[3], "gamma": 0.2}
    both = [graphs.knn_graph(arguments[0], arguments[2], misaligned=misaligned) for misaligned in (False, True)]
    aligned, misaligned = (transduct(*arguments[:2], **few, affinity=graph).assignments for graph in both)
    close(misaligned, expected["z_reset_last_gamma"])
    close(aligned, expected["z_aligned_per_gamma"][-1])
    assert (misaligned - aligned).abs().max() > 0.1


def test_returns_z_of_the_last_gamma_whichever_won():
    arguments, expected = few_shot(4)
    graph = graphs.knn_graph(arguments[0], arguments[2])
    gamma, carried = solver.select_gamma(*arguments, affinity=graph)
    fresh_gamma, fresh = select_gamma(*arguments, affinity=graph)
    assert gamma == fresh_gamma == 0.02  # chosen alike here, but the released code returns z of gamma 0.2
    close(fresh.assignments, expected["z_per_gamma"][2], atol=1e-3)
    assert (carried.assignments - fresh.assignments).abs().max() > 0.1


def test_carried_state_changes_z_until_the_rounds_have_converged():
    """After 10 rounds z forgets where it began; after one it does not."""
    arguments, _ = few_shot(16)
    options = {"affinity": graphs.knn_graph(arguments[0], arguments[2]), "gammas": GAMMAS[:2], "rounds": 1}
    _, carried = solver.select_gamma(*arguments, **options)
    few = {"support_features": arguments[2], "support_labels": arguments[3], "gamma": GAMMAS[1]}
    fresh = transduct(*arguments[:2], **few, affinity=options["affinity"], rounds=1)
    assert (carried.assignments - fresh.assignments).abs().max() > 1e-3


def test_shots_lose_their_nearest_image():
    arguments, _ = few_shot(1)
    x, support = arguments[0], arguments[2]
    lost = graphs.knn_graph(x, support, misaligned=False).to_dense()[len(x) :]
    kept = affinity.knn_graph(x, support).to_dense()[len(x) :]
    nearest = (support @ x.T).argmax(1, keepdim=True)
    assert (kept.gather(1, nearest) > 0).all()
    assert (lost.gather(1, nearest) == 0).all()


def test_negative_cosines_are_kept_as_weights():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert graphs.knn_graph(x).to_dense()[0, 1] == -1
    assert affinity.knn_graph(x).to_dense()[0, 1] == 0


def test_aliased_prior_is_the_released_answer_and_changes_it():
    case = golden("zs_single_n200_k7_d32")
    x, prior = case["query_features"], case["initial_predictions"]
    aliased = solver.transduct_aliased(x, prior)
    close(aliased.assignments, case["initpred_z64"])
    close(aliased.prototypes, case["initpred_mu"])
    close(aliased.variance, case["initpred_sigma"], rtol=5e-5, atol=0)
    right = [int((z.argmax(1) == case["query_labels"]).sum()) for z in (aliased.assignments, transduct(x, prior).assignments)]
    assert right == [155, 105]


def test_the_released_subset_leaves_attention_and_half_of_each_mlp_as_they_were():
    """The count is that of `design/method.md`'s table: 82 of 150 million parameters of ViT-B/16 stay frozen."""
    model = open_clip.create_model("ViT-B-16-quickgelu", device="meta")
    learning = sum(p.numel() for group in weights.learning_scale(model, SUBSET) for p in group["params"])
    total = sum(p.numel() for p in model.parameters())
    assert round((total - learning) / 1e6) == 82 and round(total / 1e6) == 150


def batches_of(images, classes):
    """Each glyph with its own class and one text of it, as the paper's settings cut them."""
    selection = Selection(torch.arange(60), torch.nn.functional.one_hot(classes, 10).bool())
    texts = [[f"a picture of the digit {name}"] for name in DIGITS]
    return draw_batches(selection, texts, Settings().batch_size, "0 0 0 ", images.key)


def test_who_learns_and_how_precisely_changes_how_far_weights_move(encoder, glyphs):
    """One pass at the paper's rates: the share of weights that move, and how far."""
    images = load_images(glyphs[0], encoder)
    batches = batches_of(images, glyphs[1])

    def moved(start, settings=None):
        mine = start.copy()
        adapt(mine, images.original, batches, settings or Settings(), lambda image: image)
        pairs = zip(mine.model.parameters(), start.model.parameters(), strict=True)
        change = torch.cat([(after.detach().double() - before.detach().double()).abs().flatten() for after, before in pairs])
        return float((change > 0).double().mean()), float(change.mean())

    everything, subset = moved(encoder), moved(encoder, SUBSET)
    half = moved(weights.half(encoder))
    assert subset[0] < 0.7 * everything[0]  # most matrices have "proj" in their names
    # A step of 2e-7 is below the spacing of float16 around an ordinary weight: nearly all stay where they are.
    assert half[0] < 0.5 * everything[0]


def test_the_logit_scale_learns_where_it_is_asked_to_and_nowhere_else(encoder):
    scale = id(encoder.model.logit_scale)
    for settings in (Settings(), SUBSET):
        with_scale, without = (
            {id(p) for group in groups(encoder.model, settings) for p in group["params"]}
            for groups in (weights.learning_scale, default_groups)
        )
        assert with_scale - without == {scale} and scale not in without


def test_a_scale_that_learns_moves_and_the_prior_keeps_the_old_one(encoder, glyphs):
    images = load_images(glyphs[0], encoder)
    batches = batches_of(images, glyphs[1])
    kept, before = weights.solver_keeps_scale(encoder.copy()), encoder.logit_scale
    for mine, groups in ((kept, weights.learning_scale), (encoder.copy(), weights.learning_scale), (encoder.copy(), None)):
        adapt(mine, images.original, batches, Settings(lr=1e-2), lambda image: image, groups)
        moved = abs(mine.model.logit_scale.exp().item() - before) > 1e-3
        assert moved == (groups is not None)
        assert (mine.logit_scale == before) == (mine is kept or groups is None)
    assert kept.copy().logit_scale == before  # the loop copies


@pytest.mark.parametrize("graph", [graphs.misaligned_graph, graphs.graph_without_nearest, graphs.graph_with_negatives])
def test_each_part_of_the_released_graph_is_the_default_but_for_one_thing(graph):
    """Against rows sorted by hand; two opposite clusters, so that there are negative cosines."""
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(5, 2, generator=generator), dim=1)
    support = torch.nn.functional.normalize(torch.randn(2, 2, generator=generator), dim=1)
    expected = torch.zeros(7, 5)
    queries = [(i, x[i]) for i in range(5)]
    for place, (own, row) in enumerate([*queries, *((None, row) for row in support)]):
        order = sorted((j for j in range(5) if j != own), key=lambda j: -float(row @ x[j]))
        lost = graph is graphs.graph_without_nearest and own is None
        for j in order[lost : lost + 3]:
            cosine = float(row @ x[j])
            expected[place, j] = cosine if graph is graphs.graph_with_negatives else max(0, cosine)
    if graph is graphs.misaligned_graph:
        expected = torch.cat([expected[5:], expected[:5]])
    torch.testing.assert_close(graph(x, support).to_dense(), expected)
    assert not torch.equal(graph(x, support).to_dense(), affinity.knn_graph(x, support).to_dense())


def test_no_pair_is_asked_where_the_threshold_keeps_none():
    bank = Bank.from_template(["a", "b", "c"])
    tied = [(0, 1, 2), (1, 2, 2)]
    assert asking.pairs_above(tied, 2, bank) == [] and pairs_to_ask(tied, 2, bank) == [(0, 1, 2)]
    assert asking.pairs_above([(0, 1, 5), (1, 2, 2)], 2, bank) == [(0, 1, 5)]
    assert asking.pairs_above([], 0, bank) == []


class Parrot:
    """Answers with the question's own text."""

    model = "parrot"

    def __init__(self):
        self.asked = []

    def ask(self, questions):
        self.asked += [question.text for question in questions]
        return [Reply((question.text, "a tail")) for question in questions]


def test_an_answer_stored_by_pair_serves_whatever_is_asked_later():
    parrot, stored = Parrot(), {}
    first, later = asking.AnswersByPair(parrot, stored), asking.AnswersByPair(parrot, stored)
    pair, other = Question("a from b, knowing nothing", "a", "b"), Question("b from a", "b", "a")
    assert first.ask([Question("a", "a"), pair])[1].phrases[0] == pair.text
    again = later.ask([Question("a again", "a"), replace(pair, text="a from b, knowing a tail"), other])
    assert [reply.phrases[0] for reply in again] == ["a again", pair.text, other.text]  # no answer to the new question
    assert parrot.asked == ["a", pair.text, "a again", other.text]


def test_only_lines_with_the_bullet_are_kept():
    assert asking.bulleted("Here is a list:\n• a tail\n- a beak\n•no space\n • indented\n• two") == ("a tail", "two")
    questions = [Question(f"{n}?", f"class {n}") for n in range(400)]
    replies = asking.BulletsAlone(Parrot(), seed=0).ask(questions)
    empty = [not reply.phrases for reply in replies]
    assert {reply.phrases for reply, lost in zip(replies, empty, strict=True) if not lost} <= {(q.text, "a tail") for q in questions}
    assert 0.08 < sum(empty) / 400 < 0.20 and all(reply.gave_up is None for reply in replies)  # 308 of 2,216: 0.139
    assert [not reply.phrases for reply in asking.BulletsAlone(Parrot(), seed=0).ask(questions)] == empty
    assert [not reply.phrases for reply in asking.BulletsAlone(Parrot(), seed=1).ask(questions)] != empty
    assert all(reply.phrases for reply in asking.BulletsAlone(Parrot(), seed=0, empty=0).ask(questions))


def test_the_labels_of_every_transduction_are_kept(encoder, glyphs, guide_llm):
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    settings = settings_for("embedded", iterations=2, margin=0.9)
    options = {"attributes": bank, "augment": lambda image: image, "progress": False}
    run = loop.run(encoder, glyphs[0], DIGITS, settings, llm=guide_llm, **options)
    assert list(run.calls) == [(0, 0), (0, 1), (1, 0), (1, 1)] and len(run.attributes.asked) > 0
    assert torch.equal(run.calls[1, 1], run.assignments.argmax(1).int())
    for t in (0, 1):
        assert torch.equal(run.calls[t, 1], run.history[t]["labels"])
    assert list(loop.run(encoder, glyphs[0], DIGITS, settings, **options).calls) == [(0, 0), (1, 0)], "nothing asked: one an iteration"


def test_a_later_question_of_an_iteration_shows_earlier_answers():
    bank, pairs = Bank.from_template(["ant", "bee", "cat"]), [(0, 1, 2), (0, 2, 1)]
    at_once, in_turn = Parrot(), Parrot()
    once, turn = distinguish(bank, pairs, at_once, 0), asking.in_turn(bank, pairs, in_turn, 0)
    assert at_once.asked[:1] == in_turn.asked[:1] and "a tail" not in " ".join(at_once.asked)
    assert all("a tail" in text for text in in_turn.asked[1:]), "each knows what the one before was told"
    assert once.asked == turn.asked == ((0, 0, 1, 2), (0, 0, 2, 1))


def test_repeats_are_kept_and_weigh_more():
    bank, pairs = Bank.from_template(["ant", "bee", "cat"]), [(0, 1, 2), (0, 2, 1)]
    dropped, kept = distinguish(bank, pairs, Parrot(), 0), asking.repeats_kept(bank, pairs, Parrot(), 0)
    tail = "a photo of a ant with a tail."
    assert [of.texts[0].count(tail) for of in (dropped, kept)] == [1, 2]
    assert kept.counts["duplicate"] == 0 < dropped.counts["duplicate"]
    assert Bank.from_json(kept.to_json(), "kept") == kept


def test_a_bilinear_crop_of_the_file_differs_from_the_default_view(encoder):
    """A checkerboard of single pixels, four times as large as the encoder's input: a bicubic original has lost it already."""
    size = encoder.image_size
    board = (np.indices((4 * size, 4 * size)).sum(0) % 2 * 255).astype(np.uint8)
    views = {}
    for name, whole, augment in (("default", False, natural_augmentation(size)), ("released", True, bilinear_augmentation(size))):
        original = load_images([np.stack([board] * 3, 2).astype(np.uint8)], encoder, whole=whole, progress=False).original(0)
        views[name] = original.shape[-1], float(augment_with_seed(augment, original).float().std())
    assert views["default"][0] == 2 * size and views["released"][0] == 4 * size
    assert views["released"][1] > 2 * views["default"][1]


def augment_with_seed(augment, image):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return augment(image)


def test_gamma_is_searched_for_before_each_transduction(encoder, glyphs):
    images, classes = load_images(glyphs[0], encoder), glyphs[1]
    support, val = slice(0, 20), slice(20, 40)
    chosen = []

    def search(*arguments, **options):
        gamma, result = select_gamma(*arguments, **options)
        chosen.append((gamma, arguments[4].clone()))
        return gamma, result

    anew = solver.GammaInEachIteration(load_images(glyphs[0][val], encoder), classes[val], search)
    options = {"support": (load_images(glyphs[0][support], encoder), classes[support]), "augment": lambda image: image, "progress": False}
    settings = settings_for("embedded", iterations=2, lr=1e-3)
    bank = Bank.from_template(DIGITS, "a picture of the digit {}", "a picture of the digit {name} with {attribute}")
    run = loop.run(encoder, images, DIGITS, settings, attributes=bank, gamma=anew, **options)
    assert len(chosen) == 2 and not torch.equal(chosen[0][1], chosen[1][1]), "each time with the encoder as it is then"
    assert chosen[0][0] != settings.gamma
    plain = loop.run(encoder, images, DIGITS, settings, attributes=bank, **options)
    assert (run.assignments - plain.assignments).abs().max() > 1e-3


def test_half_precision_is_the_same_encoder_to_three_digits(encoder, glyphs):
    half = weights.half(encoder)
    pixels, texts = load_images(glyphs[0], encoder).pixels, ["a picture", "a character with a curve"]
    for exact, rough in (
        (encoder.image_features(pixels), half.image_features(pixels)),
        (encoder.encode_texts(texts), half.encode_texts(texts)),
    ):
        assert 0 < (exact - rough).abs().max() < 5e-3
    torch.testing.assert_close(half.encode_images(pixels), half.image_features(pixels), atol=5e-3, rtol=0)
    assert half.weights_sha256 != encoder.weights_sha256
    assert {p.dtype for p in half.model.parameters()} == {torch.float16, torch.float32}
