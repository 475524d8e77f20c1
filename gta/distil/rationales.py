"""Distilling step-by-step (Hsieh et al., Findings of ACL 2023, arXiv 2305.02301): the student learns the label, and the reasons for it.

    L = L_label + lambda L_rationale, lambda = 1                                                     (eq. 3; both are cross entropies)

The paper's teacher is a language model that writes a rationale for each input, and its student writes label or rationale by the word that
stands before the input. A labeller of images has no such text, but it has the attributes that a language model gave for each class, and it
sees how well each fits an image. So here the rationale of an image is a distribution over attributes,

    r_a = sum_j soft_j p(a | x, j),   p(a | x, j) = softmax over the attributes a of class j of tau <f(x), f(text of a)>

that is, for the classes that the teacher names, the attributes that it sees best in this very image; f and tau are the teacher's features
and scale, and the text is that of the class with the attribute. Cross entropy with r is the paper's mean over the tokens of a rationale,
with attributes for tokens. Label and rationale come from the same features by two heads; the second is thrown away after training, as the
paper needs no rationale when it labels. Attributes that several classes share are one entry, by which classes that are alike learn
from each other.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gta.attributes import Bank
from gta.distil.objectives import cross_entropy
from gta.distil.students import Student
from gta.distil.teachers import Teacher

WEIGHT = 1.0  # lambda: both terms count alike


class Rationales(nn.Module):
    """The terms `label`, on the teacher's hard labels as in the paper, and `rationale`, with lambda as its weight.

    bank: whose attributes are the reasons, by default the teacher's; another one is a control. Raises ValueError where it has none.
    """

    def __init__(self, teacher: Teacher, student: Student, weight: float = WEIGHT, bank: Bank | None = None):
        super().__init__()
        self.student, self.weights = student, {"rationale": weight}
        self._reasons = Reasons(teacher, bank or teacher.bank)
        device = student.head.weight.device
        self.head = nn.Linear(student.head.in_features, len(self._reasons.phrases), device=device)

    def forward(self, images: Tensor, soft: Tensor) -> dict[str, Tensor]:
        features = self.student.tower(images)
        told = self._reasons(self.student, images, soft)
        return {"label": cross_entropy(self.student.head(features), soft), "rationale": rationale_loss(self.head(features), told)}


def rationale_loss(logits: Tensor, reasons: Tensor) -> Tensor:
    """The mean over images of the cross entropy between attributes: logits (B, A), reasons (B, A), rows that sum to 1."""
    return -(reasons.to(logits) * F.log_softmax(logits, dim=1)).sum(1).mean()


class Reasons:
    """Rationales (B, A) of images by a teacher and a bank; nothing in it is trained. phrases: the A attributes; features (K, d): of all
    texts, of which text k is attribute `place[k]` of class `owner[k]`."""

    def __init__(self, teacher: Teacher, bank: Bank):
        self.encoder = teacher.encoder.copy(torch.float32)
        of_classes = [bank.phrases(j) for j in range(len(bank.class_names))]
        self.phrases = list(dict.fromkeys(phrase for of_class in of_classes for phrase in of_class))
        if not self.phrases:
            raise ValueError(
                "the texts of the model have no attributes, so no label has a reason; label with --llm, or take --objective soft"
            )
        places, device = {phrase: a for a, phrase in enumerate(self.phrases)}, self.encoder.device
        texts = [attribute.text for of_class in bank.attributes for attribute in of_class if attribute.source != "template"]
        self.features = self.encoder.encode_texts(texts)
        self.owner = torch.tensor([j for j, of in enumerate(of_classes) for _ in of], device=device)
        self.place = torch.tensor([places[phrase] for of in of_classes for phrase in of], device=device)

    @torch.no_grad()
    def __call__(self, student: Student, images: Tensor, soft: Tensor) -> Tensor:
        """r (B, A), rows that sum to 1, of the student's input (B, 3, H, W) and soft labels (B, M)."""
        features = F.normalize(self.encoder.model.encode_image(student.seen_by(self.encoder, images)), dim=1)
        return reasons(self.encoder.logit_scale * features @ self.features.T, soft.float(), self.owner, self.place, len(self.phrases))


def reasons(scores: Tensor, soft: Tensor, owner: Tensor, place: Tensor, count: int) -> Tensor:
    """r (B, count) from scaled similarities (B, K) to texts, of which text k is attribute `place[k]` of class `owner[k]`, and soft labels
    (B, M). The share of a class without a text is spread over all attributes."""
    rows, classes = soft.shape
    top = scores.new_full((rows, classes), -torch.inf).scatter_reduce(1, owner.expand(rows, -1), scores, "amax")
    odds = (scores - top[:, owner]).exp()
    sums = scores.new_zeros(rows, classes).index_add_(1, owner, odds)
    of_texts = soft[:, owner] * odds / sums[:, owner]
    silent = soft * (sums == 0)
    return scores.new_zeros(rows, count).index_add_(1, place, of_texts) + silent.sum(1, keepdim=True) / count
