"""TinyBERT's terms against loops from the equations, with gradients; what the objective of an image student does."""

import inspect
import types

import numpy as np
import pytest
import torch
from open_clip.transformer import Transformer
from torch import nn

from gta import encoders
from gta.distil import tinybert
from gta.distil.layers import fewer_layers
from gta.distil.students import Student
from gta.distil.taps import Taps
from gta.distil.teachers import Teacher
from gta.distil.tinybert import INTERMEDIATE, PREDICTION, TinyBERT

B, T, OURS, THEIRS = 2, 4, 4, 6  # inputs, tokens, widths
TOKENS = np.array([[True, True, True, False], [True, True, False, False]])
MAP = {1: 2, 2: 4}  # two layers of four


def states_by_loops(student, teacher, matrix, tokens):
    """Equations 8 and 9, over tokens that count."""
    found, count = 0.0, 0
    for b, i in zip(*np.nonzero(tokens), strict=True):
        for j in range(teacher.shape[2]):
            found += (sum(student[b, i, k] * matrix[k, j] for k in range(student.shape[2])) - teacher[b, i, j]) ** 2
            count += 1
    return found / count


def attention_by_loops(student, teacher, tokens, causal):
    """Equation 7, over pairs that count. Between other numbers of heads, their means are compared."""
    if student.shape[1] != teacher.shape[1]:
        student, teacher = (sum(of[:, h : h + 1] for h in range(of.shape[1])) / of.shape[1] for of in (student, teacher))
    of_heads = []
    for h in range(student.shape[1]):
        pairs = [(b, i, j) for b, i, j in np.ndindex(B, T, T) if tokens[b, i] and tokens[b, j] and not (causal and j > i)]
        of_heads.append(sum((student[b, h, i, j] - teacher[b, h, i, j]) ** 2 for b, i, j in pairs) / len(pairs))
    return sum(of_heads) / len(of_heads)


def prediction_by_loops(logits, soft, t):
    """Equation 10 less the entropy of the labels, where z_T is any logits with softmax `soft`."""
    found = 0.0
    for z_s, z_t in zip(logits, np.log(soft), strict=True):
        p = [np.exp(a / t) / sum(np.exp(b / t) for b in z_t) for a in z_t]
        q = [np.exp(a / t) / sum(np.exp(b / t) for b in z_s) for a in z_s]
        found += sum(-a * np.log(b) + a * np.log(a) for a, b in zip(p, q, strict=True))
    return found / len(logits)


def terms_by_loops(at, teacher, tokens, causal):
    """All terms of layers. at: the student's arrays and the two matrices, by name."""
    return {
        "embedding": states_by_loops(at["E"], teacher["E"], at["We"], tokens),
        "attention": sum(attention_by_loops(at[f"A{m}"], teacher[f"A{n}"], tokens, causal) for m, n in MAP.items()) / 2,
        "hidden": sum(states_by_loops(at[f"H{m}"], teacher[f"H{n}"], at["Wh"], tokens) for m, n in MAP.items()) / 2,
    }


def arrays(rng, layers, width, heads):
    found = {"E": rng.normal(size=(B, T, width))}
    for m in range(1, layers + 1):
        found |= {f"H{m}": rng.normal(size=(B, T, width)), f"A{m}": rng.normal(size=(B, heads, T, T))}
    return found


def taps(of):
    layers = [int(name[1:]) for name in of if name.startswith("H")]
    return Taps({0: of["E"], **{m: of[f"H{m}"] for m in layers}}, {m: of[f"A{m}"] for m in layers})


def same_gradients(loss, leaves, by_loops, rng):
    """Autograd against central differences of the loops, at five coordinates of each array."""
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True), strict=True))
    at = {name: leaf.detach().numpy().copy() for name, leaf in leaves.items()}
    for name, array in at.items():
        for flat in rng.choice(array.size, min(5, array.size), replace=False):
            place, sides = np.unravel_index(flat, array.shape), []
            for step in (1e-5, -1e-5):
                array[place] += step
                sides.append(by_loops(at))
                array[place] -= step
            gradient = 0.0 if found[name] is None else found[name][tuple(place)].item()
            np.testing.assert_allclose(gradient, (sides[0] - sides[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def check_layers(of, heads, tokens, causal):
    """The terms of layers, and their gradients in the student and in both matrices, by the module `of`."""
    rng = np.random.default_rng(0)
    ours, theirs = arrays(rng, 2, OURS, 2), arrays(rng, 4, THEIRS, heads)
    terms = of.Intermediate(Transformer(OURS, 2, 2), Transformer(THEIRS, 4, 2)).double()
    for matrix in (terms.embedding, terms.hidden):
        matrix.data = torch.tensor(rng.normal(size=matrix.shape))
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in ours.items()}
    given = None if tokens is None else torch.tensor(tokens)
    counted = np.ones((B, T), bool) if tokens is None else tokens
    found = terms(taps(leaves), taps({name: torch.tensor(array) for name, array in theirs.items()}), given, causal)
    leaves |= {"We": terms.embedding, "Wh": terms.hidden}
    expected = terms_by_loops({name: leaf.detach().numpy() for name, leaf in leaves.items()}, theirs, counted, causal)
    assert list(found) == list(expected) == list(INTERMEDIATE)
    for name in expected:
        np.testing.assert_allclose(found[name].item(), expected[name], rtol=1e-10)
        same_gradients(found[name], leaves, lambda at, name=name: terms_by_loops(at, theirs, counted, causal)[name], rng)


def check_prediction(of, t):
    rng = np.random.default_rng(1)
    logits, soft = torch.tensor(rng.normal(size=(3, 5)), requires_grad=True), rng.dirichlet(np.ones(5), 3)
    found = of.prediction_loss(logits, torch.tensor(soft), t)
    np.testing.assert_allclose(found.item(), prediction_by_loops(logits.detach().numpy(), soft, t), rtol=1e-10)
    same_gradients(found, {"z": logits}, lambda at: prediction_by_loops(at["z"], soft, t), rng)


CHECKS = {
    "as many heads": lambda of: check_layers(of, 2, None, False),
    "other heads": lambda of: check_layers(of, 3, None, False),
    "padding": lambda of: check_layers(of, 2, TOKENS, False),
    "causal": lambda of: check_layers(of, 2, TOKENS, True),
    "causal, no padding": lambda of: check_layers(of, 2, None, True),
    "t = 1": lambda of: check_prediction(of, 1.0),
    "t = 3": lambda of: check_prediction(of, 3.0),
}
MUTATIONS = [
    ("student @ to_teacher - teacher", "student @ to_teacher + teacher"),
    (".square().mean(2)", ".abs().mean(2)"),
    (".square().mean(2)", ".square().sum(2)"),
    (".square().mean(1)", ".square().sum(1)"),
    ("(student - teacher).square()", "(student.softmax(-1) - teacher.softmax(-1)).square()"),
    ("student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)", "student[:, :1], teacher[:, :1]"),
    ("squares[tokens].mean()", "squares.mean()"),
    ("squares[pairs].mean()", "squares.mean()"),
    ("teacher.scores[n]", "teacher.scores[m]"),
    ("teacher.hidden[n]", "teacher.hidden[m]"),
    ("torch.stack(scores).mean()", "torch.stack(scores).sum()"),
    ("torch.stack(scores).mean()", "0 * torch.stack(scores).mean()"),
    ("torch.stack(hidden).mean()", "torch.stack(hidden).sum()"),
    ("torch.stack(hidden).mean()", "0 * torch.stack(hidden).mean()"),
    ("self.hidden, tokens) for", "self.embedding, tokens) for"),
    ("like), self.embedding, tokens)", "like), self.hidden, tokens)"),
    ("like), self.embedding, tokens)", "like), self.embedding.detach(), tokens)"),
    ("pairs.tril() if", "pairs if"),
    ("real[:, :, None] & real[:, None, :]", "real[:, :, None] | real[:, None, :]"),
    ("divergence(logits, soft, t) / t**2", "divergence(logits, soft, t)"),
    ("divergence(logits, soft, t) / t**2", "divergence(logits, soft, 1.0)"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_terms_and_gradients_are_those_of_loops_from_the_equations(name):
    CHECKS[name](tinybert)


@pytest.mark.parametrize(("was", "becomes"), MUTATIONS)
def test_a_change_of_any_term_is_caught(was, becomes):
    source = inspect.getsource(tinybert)
    assert source.count(was) == 1
    mutant = types.ModuleType("mutant")
    exec(compile(source.replace(was, becomes), "mutant", "exec"), mutant.__dict__)
    with pytest.raises(AssertionError):
        for check in CHECKS.values():
            check(mutant)


@pytest.fixture(scope="module")
def teacher():
    return Teacher(encoders.load("embedded", dtype=torch.float32), None, None)


def student_of(teacher, layers=4, tower=None, size=32, mean=0.3, std=0.35):
    torch.manual_seed(0)
    preprocessing = {"size": size, "mean": [mean] * 3, "std": [std] * 3}
    return Student("s", tower or fewer_layers(teacher.encoder.model.visual, layers), ["a", "b", "c"], {}, preprocessing)


def images_of(n=3):
    """Pixels from 0 to 1, normalised."""
    return (torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.3) / 0.35


SOFT = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.1, 0.2, 0.7]])


def test_a_student_that_is_its_teacher_has_loss_zero_and_no_gradient(teacher):
    student = student_of(teacher)
    images = images_of()
    objective = TinyBERT(teacher, student)
    terms = objective(images, student(images).detach().softmax(1))
    assert set(terms) == {"embedding", "attention", "hidden", "prediction"}
    for name, term in terms.items():
        assert abs(term.item()) < 1e-6, name
    sum(terms.values()).backward()
    largest = max(float(p.grad.abs().max()) for p in objective.parameters() if p.grad is not None)
    assert largest < 1e-3


def test_a_student_that_is_not_has_losses_that_training_lowers_and_the_teacher_stays(teacher):
    student = student_of(teacher, layers=2)
    images, objective = images_of(), TinyBERT(teacher, student)
    kept = {name: tensor.clone() for name, tensor in teacher.encoder.model.state_dict().items()}
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    totals = []
    for _ in range(12):
        terms = objective(images, SOFT)
        totals.append(sum(terms.values()).item())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert totals[-1] < 0.7 * totals[0]
    assert all(torch.equal(tensor, kept[name]) for name, tensor in teacher.encoder.model.state_dict().items())
    assert all(p.grad is None for p in teacher.encoder.model.parameters())


@pytest.mark.parametrize("terms", [("embedding",), ("attention",), ("hidden",), PREDICTION, INTERMEDIATE])
def test_each_term_is_given_alone(teacher, terms):
    student = student_of(teacher, layers=2)
    whole = TinyBERT(teacher, student)(images_of(), SOFT)
    alone = TinyBERT(teacher, student, terms)(images_of(), SOFT)
    assert tuple(alone) == terms and all(torch.equal(alone[name], whole[name]) for name in terms)


def test_the_layers_come_first_and_the_prediction_after_them(teacher):
    objective = TinyBERT(teacher, student_of(teacher, layers=2))
    found = []
    for share in (0.0, 0.49, 0.5, 1.0):
        objective.at(share)
        found.append(tuple(objective(images_of(), SOFT)))
    assert found == [INTERMEDIATE, INTERMEDIATE, PREDICTION, PREDICTION]


def test_a_student_with_another_normalisation_and_size_shows_its_teacher_the_same_pictures(teacher):
    """A student of 64 pixels in patches of 16 sees as many tokens; its teacher sees the images at 32 pixels, as it would by itself."""
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 64, "patch_size": 16, "width": 96, "layers": 4, "head_width": 32}
    tower = open_clip.CLIP(128, vision, {"context_length": 8, "vocab_size": 9, "width": 16, "heads": 1, "layers": 1}).visual
    student = student_of(teacher, tower=tower, size=64, mean=0.5, std=0.25)
    flat = torch.full((1, 3, 64, 64), 0.8)  # one grey, 0.7 between 0 and 1, has no edge that resizing would change
    seen = TinyBERT(teacher, student)._of_teacher(flat)
    with tinybert.recording(teacher.encoder.model.visual) as expected:
        teacher.encoder.model.visual(torch.full((1, 3, 32, 32), (0.7 - 0.3) / 0.35))
    torch.testing.assert_close(seen.hidden[4], expected.hidden[4], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_compared_is_said_in_words(teacher):
    import open_clip

    vision = {"image_size": 32, "patch_size": 16, "width": 96, "layers": 2, "head_width": 32}
    text = {"context_length": 8, "vocab_size": 9, "width": 16, "heads": 1, "layers": 1}
    coarse = TinyBERT(teacher, student_of(teacher, tower=open_clip.CLIP(128, vision, text).visual))
    with pytest.raises(
        ValueError, match=r"the student sees 5 tokens of 3 inputs, the teacher 17 of 3: take a student with the teacher's patches"
    ):
        coarse(images_of(), SOFT)
    with pytest.raises(ValueError, match="Sequential has no transformer block that is read here"):
        TinyBERT(teacher, student_of(teacher, tower=nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))))
    deep = open_clip.CLIP(128, {**vision, "patch_size": 8, "layers": 5}, text).visual
    with pytest.raises(ValueError, match="a student of 5 layers and a teacher of 4"):
        TinyBERT(teacher, student_of(teacher, tower=deep))
