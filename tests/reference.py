"""The equations as loops in float64: what the fast code is tested against."""

import math

import torch
from scipy.stats import spearmanr


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def adaptation_loss(image_features, text_features, positives, logit_scale):
    """Method, step 3, term by term."""
    size, total = len(image_features), 0.0
    logits = [[logit_scale * (image_features[i] * text_features[k]).sum() for k in range(size)] for i in range(size)]
    for i in range(size):
        matching = [k for k in range(size) if positives[i, k]]
        normaliser = torch.stack(logits[i]).exp().sum().log()
        total = total + sum(normaliser - logits[i][k] for k in matching) / len(matching) / size
    for k in range(size):
        matching = [i for i in range(size) if positives[i, k]]
        normaliser = torch.stack([logits[i][k] for i in range(size)]).exp().sum().log()
        total = total + sum(normaliser - logits[i][k] for i in matching) / len(matching) / size
    return total


def world(images, classes, d, seed=0, dtype=torch.float64, shots=0):
    """Small inputs like CLIP's: unit features, soft text priors, `shots` support images (drawn, so classes may lack them)."""
    generator = torch.Generator().manual_seed(seed)

    def directions(count):
        return unit(torch.randn(count, d, generator=generator, dtype=torch.float64))

    centroids, common, labels = directions(classes), directions(1), torch.randint(classes, (images + shots,), generator=generator)
    x = unit(common + 0.5 * centroids[labels] + 0.7 * directions(images + shots)).to(dtype)
    logits = 8 * x @ unit(centroids + 0.5 * directions(classes)).to(dtype).T
    return x[:images], logits[:images].softmax(1), x[images:], labels[images:]


def knn_graph(features, support_features=None, neighbors=3):
    """Dense (N + S, N), query rows first: max(0, cosine) at the nearest query images, itself left out; of equals the lower index."""
    queries = [row.double() for row in features]
    rows = queries + ([] if support_features is None else [row.double() for row in support_features])
    graph = torch.zeros(len(rows), len(queries), dtype=torch.float64)
    for i, row in enumerate(rows):
        cosines = [(-float((row * query).sum()), j) for j, query in enumerate(queries) if j != i]
        for minus, j in sorted(cosines)[:neighbors]:
            graph[i, j] = max(0.0, -minus)
    return graph


def transduct(features, prior, graph, labels=(), support_features=(), lam=1.0, gamma=0.0, rounds=10, inner=5, first=None):
    """Method, step 2: z, mu, sigma and J after each round. `graph` is dense (N + S, N), `labels` are those of its last S rows. first: the
    columns of the first of two views, whose prototypes have unit norm in each."""

    def unit_in_views(row):
        return unit(row) if first is None else torch.cat([unit(row[:first]), unit(row[first:])])

    x, shots = [row.double() for row in features], [row.double() for row in support_features]
    yhat, z, (n, classes) = prior.double(), prior.double().clone(), prior.shape
    widths = [first, len(x[0]) - first] if first else [len(x[0])]
    sigma, objective = torch.cat([torch.full((width,), 1 / width, dtype=torch.float64) for width in widths]), []
    mu = []
    for j in range(classes):
        of_class = [shot for shot, label in zip(shots, labels, strict=True) if label == j]
        confident = sorted(range(n), key=lambda i: (-float(z[i, j]), i))[:8]
        mean = sum(of_class) if of_class else sum(z[i, j] * x[i] for i in confident)
        mu.append(unit_in_views(mean))

    def squares(i_features):
        return torch.stack([((i_features - mu[j]) ** 2 / sigma).sum() for j in range(classes)])

    for step in range(rounds + 1):
        log_gauss = [-0.5 * squares(row) for row in x]
        for _ in range(inner):
            new = torch.zeros_like(z)
            for i in range(n):
                pull = torch.zeros(classes, dtype=torch.float64)
                for j in range(n):
                    pull = pull + (graph[i, j] + graph[j, i]) * z[j]
                for s, label in enumerate(labels):
                    pull[label] += graph[n + s, i]
                exponent = lam * yhat[i].log() + (log_gauss[i] + 50 / (2 * 3) * pull) / 50
                new[i] = (exponent - exponent.max()).exp()
                new[i] /= new[i].sum()
            z = new
        if step == rounds:
            return z, torch.stack(mu), sigma, objective
        weights = [(row, z[i] / n) for i, row in enumerate(x)]
        one = torch.eye(classes, dtype=torch.float64)
        weights += [(shot, 50 * gamma / len(shots) * one[label]) for shot, label in zip(shots, labels, strict=True)]
        for j in range(classes):
            mu[j] = unit_in_views(sum(w[j] * row for row, w in weights) / sum(w[j] for _, w in weights))
        sigma = sum(w[j] * (row - mu[j]) ** 2 for row, w in weights for j in range(classes)) / sum(w.sum() for _, w in weights)
        objective.append(_objective(z, yhat, graph, labels, lam, gamma, [-0.5 * (squares(r) + sigma.log().sum()) for r in x + shots]))


def _objective(z, yhat, graph, labels, lam, gamma, log_p):
    """J, term by term; log_p of query images, then of support images."""
    n, total = len(z), 0.0
    z_all = torch.cat([z, torch.eye(z.shape[1], dtype=torch.float64)[list(labels)]]) if len(labels) else z
    for i in range(n):
        total -= float((z[i] * log_p[i]).sum()) / 50
        total += sum(float(a * a.log() - lam * a * b.log()) for a, b in zip(z[i], yhat[i], strict=True) if a > 0)
    for i in range(len(z_all)):
        for j in range(n):
            total -= float(graph[i, j] * (z_all[i] * z[j]).sum()) / 6
    for s, label in enumerate(labels):
        total -= gamma * n / len(labels) * float(log_p[n + s][label])
    return total


def agreement(images, texts, z):
    """`gta.studies.evolution`: structure, own, other, gap, from lists of rows; classes without an image left out of the first three."""

    def mean(rows, weights):
        return sum(weight * row for row, weight in zip(rows, weights, strict=True)) / sum(weights)

    def cosine(a, b):
        return float((a * b).sum() / (a * a).sum().sqrt() / (b * b).sum().sqrt())

    means = [mean(list(of_class), [1] * len(of_class)) for of_class in texts]
    seen = [j for j in range(len(texts)) if z[:, j].sum() > 0]
    prototypes = {j: mean(list(images), z[:, j].tolist()) for j in seen}
    pairs = [(a, b) for a in seen for b in seen if a < b]
    alike = [[cosine(of[a], of[b]) for a, b in pairs] for of in (prototypes, means)]
    own = [cosine(prototypes[j], means[j]) for j in seen]
    other = [cosine(prototypes[j], means[k]) for j in seen for k in range(len(texts)) if j != k]
    gap = mean(list(images), [1] * len(images)) - mean(means, [1] * len(means))
    return {
        "structure": float(spearmanr(*alike).statistic),
        "own": sum(own) / len(own),
        "other": sum(other) / len(other),
        "gap": float((gap * gap).sum().sqrt()),
    }


def anchored(features, prior, graph, texts, alpha, rounds, inner):
    """Transduction with `anchors`: alpha images more a class, at its text, with the variance of the images around the texts."""
    x, t, (n, classes) = [row.double() for row in features], [row.double() for row in texts], prior.shape
    around = sum(prior[i, j] * (x[i] - t[j]) ** 2 for i in range(n) for j in range(classes)) / n
    z, mu, sigma = prior.double().clone(), list(t), around
    for step in range(rounds + 1):
        unary = [[prior[i, j].log() - 0.5 * ((x[i] - mu[j]) ** 2 / sigma).sum() / 50 for j in range(classes)] for i in range(n)]
        for _ in range(inner):
            pulls = [sum((graph[i, k] + graph[k, i]) * z[k] for k in range(n)) / 6 for i in range(n)]
            z = torch.stack([(torch.stack(unary[i]) + pulls[i]).softmax(0) for i in range(n)])
        if step == rounds:
            return z, torch.stack(mu), sigma
        for j in range(classes):
            mean = (sum(z[i, j] * x[i] for i in range(n)) + alpha * t[j]) / (z[:, j].sum() + alpha)
            mu[j] = mean / mean.norm()
        sigma = sum(z[i, j] * (x[i] - mu[j]) ** 2 for i in range(n) for j in range(classes))
        sigma = (sigma + alpha * sum(around + (mu[j] - t[j]) ** 2 for j in range(classes))) / (n + alpha * classes)
