"""Parameters of a notebook that takes its classes from a file: template, sentence and attributes of a folder's class names."""

from dataclasses import replace
from pathlib import Path

from gta.attributes import Bank
from gta.data import tasks
from gta.files import ROOT
from gta.label.inputs import Classes, read_classes
from gta.names import nearest
from gta.studies.parameters import RunParameters
from gta.studies.sources import First


class Classed(RunParameters):
    """classes: a YAML file as `gta label --classes` takes it, with template, sentence and attributes, "" for none."""

    classes: str = ""

    @property
    def named_backbone(self) -> str:
        """The encoder as rows name it: of a folder its name, wherever it lies."""
        named = super().named_backbone
        return f"{Path(self.backbone).name}{named.removeprefix(self.backbone)}" if (ROOT / self.backbone).is_dir() else named

    @property
    def texts(self) -> Classes | None:
        """What the file of classes says. Raises as `gta.label.inputs.read_classes` does."""
        return read_classes(ROOT / self.classes) if self.classes else None

    @property
    def drawn(self) -> str:
        """The dataset, or the part of it that a run is on."""
        return self.dataset

    @property
    def task(self) -> tasks.Task:
        """The dataset's query images, with the template and the sentence of the file of classes. Raises as `gta.data.tasks.load` does, and
        ValueError for a file of other classes than the folder's."""
        task, texts = tasks.load(from_root(self.drawn), ROOT / self.root), self.texts
        if texts is None:
            return task
        for names, others, lacks in (
            (task.class_names, texts.names, f"{self.classes} has no class {{!r}}, as {self.dataset} has"),
            (texts.names, task.class_names, f"{self.dataset} has no folder {{!r}}, as {self.classes} has"),
        ):
            if only := sorted(set(names) - set(others)):
                raise ValueError(lacks.format(only[0]) + nearest(only[0], others))
        return replace(task, template=texts.template or task.template, sentence=texts.sentence or task.sentence)

    def first_attributes(self, task: tasks.Task) -> First | None:
        """The attributes of the file of classes, if it has any; a class without one keeps its name."""
        texts = self.texts
        if texts is None or not texts.attributes:
            return super().first_attributes(task)
        bank, file = Bank.from_template(task.class_names, task.template, task.sentence), Path(self.classes).name
        for name, phrases in texts.attributes.items():
            bank = bank.add(task.class_names.index(name), phrases, source="imported", origin=file)
        return First(file, dict(zip(task.class_names, bank.without_templates().attributes, strict=True)))


def from_root(name: str) -> str:
    """A folder, or a part of one, whose relative path begins at the repository; any other name as it is."""
    return str(ROOT / name) if (ROOT / name.partition("#")[0]).is_dir() else name
