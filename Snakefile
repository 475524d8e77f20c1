# Every run is one papermill call; tables, figures and pages follow from the runs.
#   snakemake demo      the embedded benchmark: table, figure, pages under runs/
#   snakemake publish   the same, then what is complete into results/
# --config smoke=1 shrinks every run and works under runs/smoke.
from itertools import product
from pathlib import Path

import yaml

from gta import provenance
from gta.provenance import Step

SMOKE = bool(config.get("smoke", False))
BASE = Path("runs/smoke" if SMOKE else "runs")
LEDGER = str(BASE / "ledger")  # answers of language models, shared by the runs of a table
SWEEP = yaml.safe_load(Path("notebooks/sweeps/zero_shot.yaml").read_text())
ENCODERS = Path("gta/embedded/encoders")
DATA = [Path("gta/embedded/shapes.yaml"), Path("gta/prompts.yaml")]
MANIFESTS = sorted(Path("data_manifests").glob("*.yaml"))


def run_step(dataset, backbone, seed):
    folder = BASE / "zero_shot" / f"{dataset}-{backbone}-s{seed}".replace("/", "_")
    parameters = {"dataset": dataset, "backbone": backbone, "seed": seed, "smoke": SMOKE, "out": str(folder), "ledger": LEDGER}
    outputs = [folder / name for name in ("zero_shot.ipynb", "rows.csv", "predictions.npz", "attributes.json")]
    weights = [ENCODERS / f"seed{seed}.safetensors"] if backbone == "embedded" else []
    paper = [file for file in (Path(f"data_manifests/{dataset}.yaml"), Path("results/published.csv")) if dataset in {m.stem for m in MANIFESTS}]
    return Step(folder / "stamp.json", Path(SWEEP["notebook"]), outputs, [*weights, *DATA, *paper], parameters)


def notebook_step(name, entry, outputs, inputs, parameters):
    parameters = {**parameters, "smoke": SMOKE}
    return Step(BASE / "stamps" / f"{name}.json", Path(entry), [BASE / f"{name}.ipynb", *outputs], inputs, parameters)


def page_step(name):
    return Step(BASE / "stamps" / f"{name}.page.json", Path("gta/pages.py"), [BASE / f"{name}.html"], [BASE / f"{name}.ipynb"])


RUNS = {step.stamp.parent.name: step for step in (run_step(*cell) for cell in product(*SWEEP["grid"].values()))}
TABLE = Step(BASE / "stamps/tables/zero_shot.json", Path("gta/tables.py"), [BASE / "tables/zero_shot.csv"], [s.outputs[1] for s in RUNS.values()])
FIGURES = [BASE / f"figures/zero_shot{part}.{kind}" for part in ("", "_names_withheld") for kind in ("png", "svg")]
NOTEBOOKS = {
    "figures/zero_shot": notebook_step(
        "figures/zero_shot",
        "notebooks/figures/zero_shot.ipynb",
        FIGURES,
        [TABLE.outputs[0]],
        {"table": str(TABLE.outputs[0]), "out": str(BASE / "figures")},
    ),
    "attributes": notebook_step(
        "attributes",
        "notebooks/attributes.ipynb",
        [BASE / "attributes/attributes.json"],
        [ENCODERS / "seed0.safetensors", *DATA],
        {"out": str(BASE / "attributes"), "ledger": str(BASE / "attributes/ledger")},
    ),
    # No photograph is published: most are for research alone.
    "datasets": notebook_step("datasets", "notebooks/datasets.ipynb", [], MANIFESTS, {"images_a_class": 0}),
    "label_your_images": notebook_step(
        "label_your_images",
        "notebooks/label_your_images.ipynb",
        [],  # the page links to the images beside it, so it is not published
        [ENCODERS / "seed0.safetensors", *DATA],
        {"out": str(BASE / "label")},
    ),
    "quickstart": notebook_step("quickstart", "notebooks/quickstart.ipynb", [], [ENCODERS / "seed0.safetensors", *DATA], {}),
}
INDEX = [
    {
        "paper": "Table 1, zero-shot, on the embedded benchmark",
        "target": "demo",
        "notebook": SWEEP["notebook"],
        "csv": "tables/zero_shot.csv",
        "figure": "figures/zero_shot.png",
        "figure_notebook": "notebooks/figures/zero_shot.ipynb",
    }
]
PAGES = {name: page_step(name) for name in NOTEBOOKS}
STEPS = [*RUNS.values(), TABLE, *NOTEBOOKS.values(), *PAGES.values()]
# Every marker is asked for by name: Snakemake does not make a missing file again for the sake of files that are there.
DEMO = [step.marker for step in STEPS]

for step in STEPS:
    if (reason := step.refresh()) and step.stamp.exists():
        print(f"stale: {step.stamp}: {reason}")


def papermill(step, log, threads):
    """Run a notebook beside its final place and move it there when it is whole."""
    done, given = step.outputs[0], " ".join(f"-p {key} '{value}'" for key, value in step.parameters.items())
    part = done.with_suffix(".part.ipynb")
    done.parent.mkdir(parents=True, exist_ok=True)
    shell(f"OMP_NUM_THREADS={threads} papermill {step.entry} {part} {given} --no-progress-bar > {log} 2>&1 || (tail -n 25 {log}; exit 1)")
    part.replace(done)
    step.finish()


rule demo:
    input:
        DEMO,


rule run:
    output:
        str(BASE / "zero_shot/{run}/stamp.ok"),
    log:
        str(BASE / "logs/zero_shot-{run}.log"),
    run:
        papermill(RUNS[wildcards.run], log, threads)


rule table:
    input:
        [step.marker for step in RUNS.values()],
    output:
        TABLE.marker,
    run:
        shell("python -m gta.tables combine {TABLE.outputs[0]} " + " ".join(str(step.stamp.parent) for step in RUNS.values()))
        TABLE.finish()


rule notebook:
    input:
        lambda wildcards: [TABLE.marker] if wildcards.name.startswith("figures/") else [],
    output:
        str(BASE / "stamps/{name}.ok"),
    log:
        str(BASE / "logs/{name}.log"),
    wildcard_constraints:
        name="|".join(NOTEBOOKS),
    run:
        papermill(NOTEBOOKS[wildcards.name], log, threads)


rule page:
    input:
        str(BASE / "stamps/{name}.ok"),
    output:
        str(BASE / "stamps/{name}.page.ok"),
    log:
        str(BASE / "logs/{name}.page.log"),
    wildcard_constraints:
        name="|".join(NOTEBOOKS),
    run:
        step = PAGES[wildcards.name]
        shell(f"python -m gta.pages {step.inputs[0]} {step.outputs[0]} > {log} 2>&1 || (tail -n 25 {log}; exit 1)")
        step.finish()


rule publish:
    input:
        DEMO,
    run:
        if SMOKE:
            raise ValueError("a smoke run is never published")
        provenance.publish([*RUNS.values(), TABLE, *NOTEBOOKS.values()], BASE, Path("results"), INDEX)
