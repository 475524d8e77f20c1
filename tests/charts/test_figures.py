import numpy as np
import torch

from gta.charts import method, style


def test_no_changed_label_is_an_empty_gallery():
    z = torch.eye(3)
    assert method.changed_images(z, z, 30) == []
    assert len(method.gallery([], []).axes) == 10


def test_changed_images_are_named_by_row_and_classes():
    before, after = torch.eye(3), torch.eye(3)[[0, 2, 1]]
    assert method.changed_images(before, after, 30) == [(1, 1, 2), (2, 2, 1)]
    assert method.changed_images(before, after, 1) == [(1, 1, 2)]


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        style.save(method.gallery([np.eye(8)], ["one"]), tmp_path, name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
