"""Each loss against a loop in float64 from its equation, its gradient against finite differences, and what a wrong factor would change."""

import math

import pytest
import torch
from torch import nn

from gta.distil import objectives, rationales
from gta.distil.objectives import Hard, Soft, cross_entropy, divergence, softened, total
from toy_teachers import teacher


def drawn(rows=5, classes=4, seed=0):
    """Logits with gradients, and soft labels, float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    soft = (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(1)
    return logits.requires_grad_(), soft


def softmax(row, temperature=1.0):
    powers = [math.exp(value / temperature) for value in row]
    return [value / sum(powers) for value in powers]


def hinton(logits, soft, temperature):
    """Section 2 of arXiv 1503.02531, term by term: T^2 sum_i q_i log(q_i / p_i), whose teacher has log z for logits."""
    losses = []
    for row, z in zip(logits.tolist(), soft.tolist(), strict=True):
        q, p = softmax([math.log(value) for value in z], temperature), softmax(row, temperature)
        losses.append(sum(temperature**2 * a * math.log(a / b) for a, b in zip(q, p, strict=True)))
    return sum(losses) / len(losses)


def differences(loss, logits, step=1e-6):
    """The gradient by finite differences."""
    found = torch.zeros_like(logits)
    for place in torch.cartesian_prod(*map(torch.arange, logits.shape)):
        i, j = place.tolist()
        for sign in (1, -1):
            moved = logits.detach().clone()
            moved[i, j] += sign * step
            found[i, j] += sign * loss(moved) / (2 * step)
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
def test_the_soft_loss_is_hintons_and_so_is_its_gradient(temperature):
    logits, soft = drawn()
    loss = divergence(logits, soft, temperature)
    assert loss.item() == pytest.approx(hinton(logits, soft, temperature), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, differences(lambda moved: hinton(moved, soft, temperature), logits), atol=1e-8, rtol=1e-5)
    q = torch.tensor([softmax([math.log(v) for v in z], temperature) for z in soft.tolist()], dtype=torch.float64)
    closed = temperature * ((logits / temperature).softmax(1) - q) / len(logits)  # T^2 times 1 / T of the paper's eq. 2
    torch.testing.assert_close(gradient, closed.detach())


def test_gradients_of_high_temperatures_are_as_large_as_those_of_low_ones():
    """Why there is T^2: at high temperatures the gradient no longer depends on T (eqs. 3 and 4 of the paper), for logits of mean 0."""
    logits, soft = drawn()
    centred = (logits - logits.mean(1, keepdim=True)).detach().requires_grad_()
    gradients = [torch.autograd.grad(divergence(centred, soft, t), centred)[0] for t in (4000.0, 8000.0)]
    torch.testing.assert_close(*gradients, rtol=0.01, atol=1e-4)
    told = soft.log() - soft.log().mean(1, keepdim=True)
    torch.testing.assert_close(gradients[1], ((centred - told) / logits.shape[1] / len(logits)).detach(), rtol=0.01, atol=1e-4)


def test_a_student_that_says_what_the_teacher_says_has_no_loss_and_no_gradient():
    _, soft = drawn()
    logits = (soft.log() + 7).requires_grad_()
    for temperature in (1.0, 3.0):
        loss = divergence(logits, soft, temperature)
        assert abs(loss.item()) < 1e-12
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-12


def test_softened_labels_by_hand_and_labels_of_zero():
    torch.testing.assert_close(softened(torch.tensor([[0.8, 0.2, 0.0]]), 2.0), torch.tensor([[2 / 3, 1 / 3, 0.0]]))
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = divergence(logits, torch.tensor([[1.0, 0.0, 0.0]]), 2.0)
    assert loss.item() == pytest.approx(4 * math.log(3))
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_the_hard_loss_takes_the_likeliest_class_alone():
    logits, soft = drawn()
    naive = (
        -sum(math.log(softmax(row)[max(range(4), key=z.__getitem__)]) for row, z in zip(logits.tolist(), soft.tolist(), strict=True)) / 5
    )
    assert cross_entropy(logits, soft).item() == pytest.approx(naive, rel=1e-12)
    sharper = soft**3 / (soft**3).sum(1, keepdim=True)
    assert cross_entropy(logits, sharper).item() == cross_entropy(logits, soft).item()
    assert divergence(logits, sharper, 2.0).item() != pytest.approx(divergence(logits, soft, 2.0).item(), rel=0.01)


class Two(nn.Module):
    weights = {"second": 0.5}  # noqa: RUF012


def test_terms_without_a_weight_count_once():
    terms = {"first": torch.tensor(2.0), "second": torch.tensor(10.0)}
    assert total(Two(), terms).item() == 7 and total(nn.Module(), terms).item() == 12


class Linear(nn.Module):
    """A student whose tower flattens."""

    def __init__(self, pixels, classes):
        super().__init__()
        self.tower, self.head = nn.Flatten(), nn.Linear(pixels, classes, dtype=torch.float64)

    def forward(self, images):
        return self.head(self.tower(images))


@pytest.mark.parametrize(
    ("made", "naive"),
    [(lambda s: Soft(None, s, 3.0), lambda logits, soft: hinton(logits, soft, 3.0)), (lambda s: Hard(None, s), None)],
)
def test_objectives_give_their_term_with_gradients_for_every_parameter_of_the_student(made, naive):
    torch.manual_seed(0)
    student, images, (_, soft) = Linear(12, 4), torch.randn(5, 3, 2, 2, dtype=torch.float64), drawn()
    (term,) = made(student)(images, soft).values()
    naive = naive or (lambda logits, soft: cross_entropy(logits, soft).item())
    assert term.item() == pytest.approx(naive(student(images).detach(), soft), rel=1e-12)
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(term, list(student.parameters())))


def naive_reasons(scores, soft, owner, place, count):
    """r_a = sum_j soft_j p(a | x, j), one image, class and text after the other."""
    found = torch.zeros(len(scores), count, dtype=torch.float64)
    for i in range(len(scores)):
        for j in range(soft.shape[1]):
            of_class = [k for k in range(len(owner)) if owner[k] == j]
            if not of_class:
                found[i] += soft[i, j] / count
            weights = softmax([scores[i, k].item() for k in of_class])
            for k, weight in zip(of_class, weights, strict=True):
                found[i, place[k]] += soft[i, j] * weight
    return found


def test_reasons_are_the_attributes_of_the_likely_classes_by_how_well_they_are_seen():
    _, soft = drawn(classes=4)
    owner, place = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 1, 2, 1, 3, 4])  # attribute 1 has two classes, class 3 has none
    scores = 3 * torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = rationales.reasons(scores, soft, owner, place, 5)
    torch.testing.assert_close(found, naive_reasons(scores, soft, owner, place, 5))
    torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=torch.float64))
    sure = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    by_hand = rationales.reasons(torch.log(torch.tensor([[1.0, 2, 5, 9, 9, 9]], dtype=torch.float64)), sure, owner, place, 5)
    torch.testing.assert_close(by_hand, torch.tensor([[0.125, 0.25, 0.625, 0, 0]], dtype=torch.float64))
    far = rationales.reasons(torch.tensor([[0.0, 0, 0, 900, 0, 0]], dtype=torch.float64), sure, owner, place, 5)
    assert torch.isfinite(far).all() and far[0, 0].item() == pytest.approx(1 / 3), "a class that is seen far better changes nothing here"


def test_the_rationale_loss_is_a_cross_entropy_and_so_is_its_gradient():
    logits, told = drawn(classes=6, seed=2)
    naive = (
        -sum(
            r * math.log(p)
            for row, reason in zip(logits.tolist(), told.tolist(), strict=True)
            for r, p in zip(reason, softmax(row), strict=True)
        )
        / 5
    )
    loss = rationales.rationale_loss(logits, told)
    assert loss.item() == pytest.approx(naive, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], ((logits.softmax(1) - told) / 5).detach())


def test_a_label_with_reasons_is_both_terms_and_each_reaches_the_tower(encoder, glyphs):
    """Equation 3: with weight 0 it is the hard label alone; without a term its part of the gradient is gone."""
    from gta.distil import students

    taught = teacher(encoder)
    student = students.named("teacher/10", taught)
    pixels = encoder_pixels(encoder, glyphs, 4)
    images, soft = student.normalised(pixels), taught.label(pixels)
    goal = rationales.Rationales(taught, student, weight=0.7)
    terms = goal(images, soft)
    assert list(terms) == ["label", "rationale"]
    assert terms["label"].item() == pytest.approx(Hard(taught, student)(images, soft)["label"].item(), rel=1e-6)
    assert total(goal, terms).item() == pytest.approx(terms["label"].item() + 0.7 * terms["rationale"].item(), rel=1e-6)
    first = next(student.tower.parameters())
    parts = [torch.autograd.grad(terms[name], first, retain_graph=True)[0] for name in terms]
    whole = torch.autograd.grad(total(goal, terms), first)[0]
    torch.testing.assert_close(whole, parts[0] + 0.7 * parts[1])
    assert min(part.abs().max() for part in parts) > 1e-6
    learnt = {name for name, p in goal.named_parameters() if p.requires_grad} - {
        f"student.{name}" for name, _ in student.named_parameters()
    }
    assert learnt == {"head.weight", "head.bias"}, "nothing of the teacher is trained"


def test_reasons_are_those_of_the_teachers_own_features_of_the_very_images(encoder, glyphs):
    from gta.distil import students

    taught = teacher(encoder)
    student = students.named("teacher/10", taught)
    pixels = encoder_pixels(encoder, glyphs, 6)
    soft = taught.label(pixels)
    told = rationales.Reasons(taught, taught.bank)
    assert len(told.phrases) < sum(map(len, map(taught.bank.phrases, range(10)))), "else nothing is shared"
    texts = [(j, a.text, p) for j in range(10) for a, p in zip(taught.bank.attributes[j][1:], taught.bank.phrases(j), strict=True)]
    scores = encoder.logit_scale * encoder.encode_images(pixels) @ encoder.encode_texts([text for _, text, _ in texts]).T
    owner, place = torch.tensor([j for j, _, _ in texts]), torch.tensor([told.phrases.index(p) for _, _, p in texts])
    expected = naive_reasons(scores, soft, owner, place, len(told.phrases))
    torch.testing.assert_close(told(student, student.normalised(pixels), soft).double(), expected, atol=1e-4, rtol=1e-3)


def test_without_attributes_there_are_no_reasons(encoder):
    from gta.distil import students

    taught = teacher(encoder, facts=0)
    with pytest.raises(ValueError, match="no label has a reason; label with --llm"):
        rationales.Rationales(taught, students.named("teacher/10", taught))


def encoder_pixels(encoder, glyphs, count):
    from gta.encoders.images import load_images

    return load_images(glyphs[0][:count], encoder, progress=False).pixels


def test_the_temperature_is_that_of_the_module():
    student, (_, soft) = Linear(12, 4), drawn()
    images = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    assert Soft(None, student)(images, soft)["soft"].item() == divergence(student(images), soft, objectives.TEMPERATURE).item()
