"""Peers that see no label: against their papers' equations as loops in float64, worked by hand, and in their limits."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import solve
from scipy.stats import dirichlet as scipy_dirichlet
from sklearn.cluster import KMeans

from gta.peers import dirichlet, mixtures, propagation, susx, texts
from gta.studies import random_words
from gta.transduct import class_features, text_prior
from reference import unit, world


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


@pytest.fixture
def setting():
    """40 images and 4 class texts in 12 dimensions, float64."""
    x, _, _, _ = world(40, 4, 12)
    generator = torch.Generator().manual_seed(5)
    return x, unit(x[:4] + 0.3 * torch.randn(4, 12, generator=generator, dtype=torch.float64))


# Texts


def test_class_features_are_the_unit_mean():
    lists = [tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[0.6, 0.8]])]
    assert torch.allclose(class_features(lists), tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_ensembles_worked_by_hand():
    """Texts (1, 0) and (0, 1) of a class, (0, 1) alone of another, f = (3/5, 4/5), scale 10.

    Prompt ensemble and CuPL: the class is (1, 1) / sqrt(2), its logit 10 (7/5) / sqrt(2) = 7 sqrt(2). WaffleCLIP and CLIP with attributes,
    equation 1: the mean cosine is 7/10, the logit 7. The other class has 8 in both.
    """
    lists, f = [tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[0.0, 1.0]])], tensor([[0.6, 0.8]])
    assert torch.allclose(texts.clip_logits(f, class_features(lists), 10.0), tensor([[7 * 2**0.5, 8.0]]), atol=1e-12)
    assert torch.allclose(text_prior(f, lists, 10.0), tensor([[7.0, 8.0]]).softmax(1), atol=1e-12)


def test_ensembles_against_loops(setting):
    x, classes = setting
    lists = [unit(classes[[j, (j + 1) % 4, j]] + tensor([[0.1], [0.0], [0.3]])) for j in range(4)]
    of_mean, mean_of = torch.zeros(2, 40, 4, dtype=torch.float64)
    for i, j in ((i, j) for i in range(40) for j in range(4)):
        mean = [sum(float(text[d]) for text in lists[j]) / 3 for d in range(12)]
        norm = math.sqrt(sum(value**2 for value in mean))
        of_mean[i, j] = 7 * sum(float(x[i, d]) * mean[d] / norm for d in range(12))
        mean_of[i, j] = 7 * sum(float(x[i, d]) * float(text[d]) for text in lists[j] for d in range(12)) / 3
    assert torch.allclose(texts.clip_logits(x, class_features(lists), 7.0), of_mean, atol=1e-10)
    assert torch.allclose(text_prior(x, lists, 7.0), mean_of.softmax(1), atol=1e-10)


def test_an_ensemble_of_one_template_is_clip_and_its_scale_counts(setting):
    x, classes = setting
    one = [row[None] for row in classes]
    logits = texts.clip_logits(x, class_features(one), 7.0)
    assert torch.allclose(logits.softmax(1), text_prior(x, one, 7.0), atol=1e-12)
    assert texts.ensemble(["red {}", "b"], ["a {}", "the {}!"]) == [["a red {}", "the red {}!"], ["a b", "the b!"]]


def test_random_descriptors_are_the_same_for_all_classes_and_name_none_of_them():
    names, words = ["red kite", "wren"], ["kite", "red", "wren", "spoon", "cloud"]
    of_classes = random_words.waffle(names, "a {name} with {attribute}.", words, seed=3, characters=True)
    kite, wren = ([text.replace(name, "X") for text in of_class] for name, of_class in zip(names, of_classes, strict=True))
    assert kite == wren and len(kite) == 30
    drawn = [text.removeprefix("a X with ").removesuffix(".") for text in kite]
    of_words, of_characters = drawn[::2], drawn[1::2]
    assert {word for descriptor in of_words for word in descriptor.split()} == {"spoon", "cloud"}
    assert all(len(word) == 5 for descriptor in of_characters for word in descriptor.split())
    assert random_words.waffle(names, "{name} {attribute}", words, 3, True) != random_words.waffle(
        names, "{name} {attribute}", words, 4, True
    )
    with pytest.raises(ValueError, match="none is left"):
        random_words.waffle(names, "{name} {attribute}", ["kite", "wren"], 0, False)


def test_every_embedded_text_can_be_read(encoder):
    words, characters = random_words.vocabulary(encoder)
    drawn = random_words.waffle(["one", "two"], "a picture of the digit {name} with {attribute}", words, 0, characters)
    assert not characters and len(encoder.encode_texts(drawn[0])) == 2 * random_words.PAIRS
    assert len(encoder.encode_texts(texts.ensemble(["one"], texts.templates("glyphs"))[0])) == len(texts.TEMPLATES["glyphs"])
    assert len(texts.templates("general")) == 7


# SuS-X


def test_retrieval_takes_the_images_nearest_to_the_texts_in_turn(setting):
    pool, classes = setting
    rows, labels = susx.retrieve(pool, [classes[:1], classes[1:3]], per_class=5)
    assert rows[labels == 0].tolist() == (pool @ classes[0]).argsort(descending=True)[:5].tolist()
    first, second = ((pool @ text).argsort(descending=True).tolist() for text in classes[1:3])
    expected = list(dict.fromkeys(row for pair in zip(first, second, strict=True) for row in pair))[:5]
    assert rows[labels == 1].tolist() == expected
    assert len(susx.retrieve(pool[:3], [classes[:1]], per_class=5)[0]) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_equally_near_images_the_lower_row_is_retrieved(dtype):
    """30 images of 5 contents in no order, so that each text has six nearest ones, more than are asked for."""
    x = world(5, 2, 12, dtype=dtype)[0]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1)) % 5
    pool, text = x[order], x[2:3]
    equal = (order == 2).nonzero()[:, 0].tolist()
    rows, _ = susx.retrieve(pool, [text], per_class=4)
    assert rows.tolist() == equal[:4]
    rows, _ = susx.retrieve(pool, [text], per_class=8)
    cosines = [float(image.double() @ text[0].double()) for image in x]
    second = max((content for content in range(5) if content != 2), key=lambda content: cosines[content])
    assert rows.tolist() == equal + (order == second).nonzero()[:2, 0].tolist()


def test_a_folder_of_generated_images_is_a_support_set(tmp_path):
    for name in ("red_kite/0.png", "red_kite/1.png", "wren/0.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    files, labels = susx.generated(tmp_path, ["wren", "red kite"])
    assert [file.parent.name for file in files] == ["red_kite", "red_kite", "wren"] and labels.tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="no image of the class 'owl'"):
        susx.generated(tmp_path, ["wren", "red kite", "owl"])
    with pytest.raises(ValueError, match="'red_kite' is no class; did you mean 'red_kites'"):
        susx.generated(tmp_path, ["wren", "red kites"])


def test_generated_glyphs_support_unlike_handwriting_but_right_names(encoder, glyphs):
    """The renderer of the embedded benchmark as the generator: every printed digit is nearest to its own class's support."""
    from gta.encoders.images import load_images

    images, labels = glyphs
    x = encoder.encode_images(load_images(images, encoder, progress=False).pixels)
    classes = class_features([encoder.encode_texts([f"a picture of the digit {name}"]) for name in texts_of_digits()])
    clip = texts.clip_logits(x[30:], classes, encoder.logit_scale)
    logits = susx.tip_x(clip, x[30:], x[:30], labels[:30], classes)
    assert (logits.argmax(1) == labels[30:]).sum() >= (clip.argmax(1) == labels[30:]).sum()


def test_generated_birds_say_what_their_names_do_not():
    """The aviary's renderer as the generator, a folder a species: by hollow names CLIP is at chance, with the support it is not."""
    from gta import encoders
    from gta.data import tasks
    from gta.encoders.images import load_images
    from gta.worlds import aviary

    task, encoder = tasks.load("aviary:0"), encoders.load("embedded", embedded=aviary.ENCODERS, device="cpu")
    files, labels = susx.generated(aviary.write(aviary.world(0), tasks.CACHE) / "train", task.class_names)
    files, labels = files[::5], labels[::5]  # four of each species
    queries, right = list(task.images)[::10], torch.arange(32).repeat_interleave(3)
    keys, x = (encoder.encode_images(load_images(images, encoder, progress=False).pixels) for images in (files, queries))
    classes = class_features([encoder.encode_texts([task.template.format(name)]) for name in task.class_names])
    clip = texts.clip_logits(x, classes, encoder.logit_scale)
    logits = susx.tip_x(clip, x, keys, labels, classes)
    by_name, supported = ((of.argmax(1) == right).float().mean() for of in (clip, logits))
    assert by_name < 0.15 and supported > by_name + 0.3


def texts_of_digits():
    from gta.worlds.glyphs import DIGITS

    return DIGITS


def tip_x_by_loops(scale, x, keys, labels, w, alpha, beta, gamma, t):
    def softmax(values):
        weights = [math.exp(v) for v in values]
        return [v / sum(weights) for v in weights]

    def dot(a, b):
        return sum(float(p) * float(q) for p, q in zip(a, b, strict=True))

    signatures = [softmax([dot(row, text) / t for text in w]) for row in x]
    of_support = [softmax([dot(row, text) / t for text in w]) for row in keys]
    cache = [[math.exp(-beta * (1 - dot(f, key))) for key in keys] for f in x]
    minus_kl = [[-sum(p * math.log(p / q) for p, q in zip(a, b, strict=True)) for b in of_support] for a in signatures]
    low, high = min(map(min, minus_kl)), max(map(max, minus_kl))
    cache_low, cache_high = min(map(min, cache)), max(map(max, cache))
    logits = [[scale * dot(f, text) for text in w] for f in x]
    for i in range(len(x)):
        for s, label in enumerate(labels):
            logits[i][label] += alpha * cache[i][s]
            logits[i][label] += gamma * ((minus_kl[i][s] - low) / (high - low) * (cache_high - cache_low) + cache_low)
    return tensor(logits, dtype=torch.float64)


def test_tip_x_against_its_equations(setting):
    x, classes = setting
    keys, labels = x[:9], tensor([0, 0, 1, 1, 2, 2, 3, 3, 0], torch.long)
    options = {"alpha": 0.7, "beta": 3.0, "gamma": 1.9}
    logits = susx.tip_x(texts.clip_logits(x[9:], classes, 12.0), x[9:], keys, labels, classes, temperature=0.4, **options)
    assert torch.allclose(logits, tip_x_by_loops(12.0, x[9:], keys, labels.tolist(), classes, *options.values(), 0.4), atol=1e-10)


def test_tip_x_worked_by_hand():
    """Two texts on the axes, t = 1 / ln 3, f = (1, 0), keys (1, 0) of class 0 and (0, 1) of class 1.

    Signatures: (3, 1) / 4 for f and the first key, (1, 3) / 4 for the second. KL = 0 and (3/4) ln 3 + (1/4) ln (1/3) = (ln 3) / 2.
    Cache with beta = ln 2: 1 and 1/2. -KL spans [-(ln 3) / 2, 0] and is mapped onto [1/2, 1]: 1 and 1/2 again.
    CLIP with scale 10: (10, 0). alpha = 2, gamma = 4: (10 + 2 + 4, 0 + 1 + 2) = (16, 3).
    """
    axes = torch.eye(2, dtype=torch.float64)
    clip = texts.clip_logits(axes[:1], axes, 10.0)
    options = {"alpha": 2.0, "beta": math.log(2), "gamma": 4.0, "temperature": 1 / math.log(3)}
    assert torch.allclose(susx.divergences(axes[:1], axes, axes, 1 / math.log(3)), tensor([[0, math.log(3) / 2]]))
    assert torch.allclose(susx.tip_x(clip, axes[:1], axes, tensor([0, 1], torch.long), axes, **options), tensor([[16.0, 3.0]]))


# ZLaP


def zlap_by_solving(x, w, k, power, alpha):
    """L^-1 y with every matrix dense, from the equations of section 3."""
    n, m = len(x), len(w)
    weights = np.zeros((n + m, n + m))
    for i in range(n):
        cosines = [float(x[i] @ x[j]) if j != i else -math.inf for j in range(n)]
        for j in sorted(range(n), key=lambda j: -cosines[j])[:k]:
            weights[m + i, m + j] = max(0.0, cosines[j])
        cosines = [float(x[i] @ text) for text in w]
        for j in sorted(range(m), key=lambda j: -cosines[j])[: max(1, k)]:
            weights[m + i, j] = max(0.0, cosines[j]) ** power
    weights = weights + weights.T
    degree = weights.sum(1)
    degree[degree == 0] = 1
    normalised = weights / np.sqrt(degree[:, None] * degree[None])
    return solve(np.eye(n + m) - alpha * normalised, np.eye(n + m, m))[m:]


@pytest.mark.parametrize(("k", "alpha"), [(2, 0.3), (3, 0.9), (40, 0.3)])
def test_zlap_against_the_linear_system(setting, k, alpha):
    x, classes = setting
    scores = zlap_by_solving(x, classes, k, 3.0, alpha)
    z = propagation.zlap(x, classes, neighbors=k, power=3.0, alpha=alpha)
    assert np.allclose(z.numpy(), scores / scores.sum(1, keepdims=True), atol=1e-7)


def test_zlap_worked_by_hand():
    """Two images on the first axis, texts with cosines 1/2 and 3/5 to it, gamma = 2, alpha = 1/2.

    Edges to the texts weigh s = 1/4 and 9/25; those between the images weigh 1 from either side, in all 2.
    Degrees: texts 1/2 and 18/25, images 2 + 1/4 + 9/25 = 261/100. Normalised: a = (1/4) / sqrt(1/2 261/100) to text 0,
    b = (9/25) / sqrt(18/25 261/100) to text 1, c = 2 / (261/100) between the images.
    By symmetry both images have one score y of class 0, so that with y_0 one at text 0
    t_0 = 1 + 2 alpha a y,  t_1 = 2 alpha b y,  y = alpha (a t_0 + b t_1 + c y)  =>  y = (a / 2) / (1 - c / 2 - (a^2 + b^2) / 2),
    and for class 1 the same with b on top: the shares are a : b.
    """
    images, w = tensor([[1.0, 0.0]] * 2), tensor([[0.5, 0.75**0.5], [0.6, -0.8]])
    a, b = 0.25 / math.sqrt(0.5 * 2.61), 0.36 / math.sqrt(0.72 * 2.61)
    z = propagation.zlap(images, w, neighbors=2, power=2.0, alpha=0.5)
    assert torch.allclose(z, tensor([[a / (a + b), b / (a + b)]] * 2), atol=1e-9)


def test_a_class_that_no_edge_leads_to_gets_nothing():
    image, w = tensor([[1.0, 0.0]]), tensor([[0.5, 0.75**0.5], [0.0, 1.0]])
    assert torch.equal(propagation.zlap(image, w, neighbors=1), tensor([[1.0, 0.0]]))


def test_zlap_without_edges_between_images_follows_the_cosines(setting):
    """An image is left with its nearest text: the label of CLIP."""
    x, classes = setting
    assert torch.equal(propagation.zlap(x, classes, neighbors=0).argmax(1), (x @ classes.T).argmax(1))
    opposite = -unit(classes.sum(0, keepdim=True))
    assert torch.allclose(propagation.zlap(opposite, classes, neighbors=1), torch.full((1, 4), 0.25).double())


# EM-Dirichlet


def em_by_definition(x, classes, temperature, rounds):
    """The alternation with every maximisation done by a general solver, and densities from scipy."""
    from scipy.optimize import minimize

    points = (temperature * x @ classes.T).softmax(1).numpy()
    u, (n, k) = points.copy(), points.shape
    alpha = np.ones((k, k))
    for _ in range(rounds):
        for j in range(k):
            mean = (u[:, j : j + 1] * np.log(points)).sum(0) / u[:, j].sum()

            def loss(log_a, mean=mean):
                a = np.exp(log_a)
                return sum(math.lgamma(v) for v in a) - math.lgamma(a.sum()) - ((a - 1) * mean).sum()

            alpha[j] = np.exp(minimize(loss, np.log(alpha[j]), method="BFGS", options={"gtol": 1e-10}).x)
        share = u.mean(0)
        for i in range(n):
            logits = np.array([scipy_dirichlet.logpdf(points[i] / points[i].sum(), alpha[j]) + 1 + math.log(share[j]) for j in range(k)])
            u[i] = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    return u


def test_em_dirichlet_against_a_general_solver(setting):
    x, classes = setting
    expected = em_by_definition(x, classes, 0.3 * 10.0, rounds=3)
    z = dirichlet.em_dirichlet(x, classes, 10.0, rounds=3, steps=8000, tolerance=0)
    assert np.allclose(z.numpy(), expected, atol=1e-6)


def test_a_dirichlet_is_fitted_where_its_expected_logarithms_are_the_observed():
    """At the maximum, digamma(a_i) - digamma(sum a) = mean log x_i (equation 3 of the gradient)."""
    truth = tensor([[0.4, 2.0, 7.5], [30.0, 1.0, 0.05]])
    means = truth.digamma() - truth.sum(1, keepdim=True).digamma()
    assert torch.allclose(dirichlet.fit(torch.ones(2, 3).double(), means, steps=10000, tolerance=0), truth, rtol=1e-3)


def test_a_step_of_the_fit_by_hand():
    """From a = (1, 1) with mean log x = -2: slope = digamma(2) = 1 - g, curvature = 2 (1 - g - 0), digamma(2) again for the sum.

    b = (1 - g) - (1 - g) - 2 (1 - g) + 2 = 2 g, c = 2 (1 - g), and the root of c a^2 + b a = 1 is (-b + sqrt(b^2 + 4 c)) / (2 c).
    """
    g = 0.5772156649015329
    b, c = 2 * g, 2 * (1 - g)
    expected = (-b + math.sqrt(b * b + 4 * c)) / (2 * c)
    step = dirichlet.fit(torch.ones(1, 2).double(), torch.full((1, 2), -2.0).double(), steps=1)
    assert torch.allclose(step, torch.full((1, 2), expected).double(), atol=1e-12)


def test_the_density_is_that_of_scipy():
    point, alpha = tensor([[0.2, 0.3, 0.5]]), tensor([[1.5, 0.7, 4.0], [1.0, 1.0, 1.0]])
    expected = [scipy_dirichlet.logpdf(point[0].numpy(), row.numpy()) for row in alpha]
    assert np.allclose(dirichlet.log_density(point.log(), alpha).numpy()[0], expected)


def test_clusters_are_given_the_classes_that_they_resemble():
    x = tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    u = torch.eye(3).double()[:, [2, 0, 1]]  # image 0 in cluster 1, image 1 in cluster 2, image 2 in cluster 0
    assert torch.equal(u[:, dirichlet.own_classes(u, x)], torch.eye(3).double())


# Clusters


def test_k_means_against_lloyds_loops(setting):
    x, classes = setting
    centres, labels = classes.clone(), None
    while True:
        distances = torch.stack([torch.stack([(image - centre).square().sum() for centre in centres]) for image in x])
        if labels is not None and torch.equal(labels, distances.argmin(1)):
            break
        labels = distances.argmin(1)
        centres = torch.stack([x[labels == j].mean(0) for j in range(4)])
    z = mixtures.k_means(x, classes, 20.0)
    assert torch.allclose(z, (-20.0 * distances / 2).softmax(1), atol=1e-6) and torch.equal(z.argmax(1), labels)


def test_k_means_worked_by_hand():
    """Points at 0 and 6 degrees begin at the text (1, 0), one at 90 degrees at (0, 1): centres (1 + cos 6, sin 6) / 2 and (0, 1)."""
    cos, sin = math.cos(math.radians(6)), math.sin(math.radians(6))
    points = tensor([[1.0, 0.0], [cos, sin], [0.0, 1.0]])
    # Squared distances of the third: ((1 + cos 6) / 2)^2 + (1 - sin(6) / 2)^2 to the first centre, 0 to its own.
    far = ((1 + cos) / 2) ** 2 + (1 - sin / 2) ** 2
    z = mixtures.k_means(points, torch.eye(2).double(), 2.0)
    assert float(z[2, 1]) == pytest.approx(1 / (1 + math.exp(-far)), abs=1e-9)


def test_the_label_of_k_means_is_the_nearest_centre_and_not_the_largest_product():
    """A tight class has a long centre, a loose one a short centre, which the products alone would favour too little."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.eye(6, dtype=torch.float64)
    noise = torch.randn(80, 6, generator=generator, dtype=torch.float64)
    images = unit(torch.cat([axes[0] + 0.05 * noise[:40], axes[1] + 0.75 * noise[40:]]))
    fitted = KMeans(2, init=axes[:2].numpy(), n_init=1).fit(images.numpy())
    by_product = images.numpy() @ fitted.cluster_centers_.T
    assert (by_product.argmax(1) != fitted.labels_).any()
    assert (mixtures.k_means(images, axes[:2], 20.0).argmax(1).numpy() == fitted.labels_).all()


def test_a_mixture_against_loops_of_em(setting, monkeypatch):
    """Three rounds: posteriors from weights, means and variances, then those from the posteriors, a class and an image at a time."""
    x, classes = setting
    weights, means, variances = [0.25] * 4, classes.clone(), torch.full((4, 12), 1 / 12).double()

    def posteriors():
        log = torch.zeros(40, 4, dtype=torch.float64)
        for i, j in ((i, j) for i in range(40) for j in range(4)):
            log[i, j] = math.log(weights[j]) - (variances[j].log() + (x[i] - means[j]).square() / variances[j]).sum() / 2
        return log.softmax(1)

    for _ in range(3):
        z = posteriors()
        for j in range(4):
            weights[j] = float(z[:, j].sum()) / 40
            means[j] = sum(z[i, j] * x[i] for i in range(40)) / z[:, j].sum()
            variances[j] = sum(z[i, j] * (x[i] - means[j]).square() for i in range(40)) / z[:, j].sum() + 1e-5
    original = mixtures.GaussianMixture
    monkeypatch.setattr(mixtures, "GaussianMixture", lambda *a, **options: original(*a, **{**options, "max_iter": 3, "tol": 0}))
    with pytest.warns(Warning, match="converge"):
        assert torch.allclose(mixtures.gaussian_mixture(x, classes), posteriors(), atol=1e-6)


def test_a_round_of_the_mixture_worked_by_hand(monkeypatch):
    """Images and texts (1, 0) and (0, 1), first variances 1/2: squared distances 0 and 2, so the first posterior is s = 1 / (1 + e^-2).

    Then the means are (s, 1 - s) and (1 - s, s), the variances v = s (1 - s) + 1e-5, the squared distances of (1, 0) to the means
    2 (1 - s)^2 and 2 s^2, and its log odds half their difference over v: (2 s - 1) / v.
    """
    original = mixtures.GaussianMixture
    monkeypatch.setattr(mixtures, "GaussianMixture", lambda *a, **options: original(*a, **{**options, "max_iter": 1}))
    with pytest.warns(Warning, match="converge"):
        z = mixtures.gaussian_mixture(torch.eye(2).double(), torch.eye(2).double())
    s = 1 / (1 + math.exp(-2))
    assert float(z[0, 0]) == pytest.approx(1 / (1 + math.exp(-(2 * s - 1) / (s * (1 - s) + 1e-5))), abs=1e-9)


def test_the_mixture_finds_what_is_far_apart():
    x, _, _, _ = world(60, 1, 8)
    centres = torch.eye(8).double()[:3]
    images = unit(centres.repeat(20, 1) + 0.05 * x)
    z = mixtures.gaussian_mixture(images, unit(centres + 0.2))
    assert torch.equal(z.argmax(1), torch.arange(60) % 3)
