# Every run is one papermill call; tables, figures and pages follow from the runs.
#   snakemake demo      the embedded benchmark: table, figure, pages under runs/
#   snakemake aviary    the second embedded benchmark, of rendered birds, in the same form
#   snakemake peers     what one would use instead, in the same tables
#   snakemake publish   all of them, then what is complete into results/
# --config smoke=1 shrinks every run and works under runs/smoke.
import shlex
from itertools import product
from pathlib import Path

import yaml

from gta import provenance
from gta.encoders import BIRDS, EMBEDDED
from gta.files import ROOT
from gta.provenance import Step

SMOKE = bool(config.get("smoke", False))
BASE = Path("runs/smoke" if SMOKE else "runs")
LEDGER = str(BASE / "ledger")  # answers of language models, shared by the runs of a table
SWEEPS = {name: yaml.safe_load(Path(f"notebooks/sweeps/{name}.yaml").read_text()) for name in ("zero_shot", "aviary", "peers")}
ENCODERS, BIRD_ENCODERS = (folder.relative_to(ROOT) for folder in (EMBEDDED, BIRDS))
DATA = [Path("gta/embedded/shapes.yaml"), Path("gta/prompts.yaml")]
MANIFESTS = sorted(Path("data_manifests").glob("*.yaml"))


def run_step(sweep, dataset, backbone, seed):
    dataset, kind = dataset.format(seed=seed), Path(sweep["notebook"]).stem
    folder = BASE / kind / f"{dataset}-{backbone}-s{seed}".replace("/", "_").replace(":", "-")
    parameters = {"dataset": dataset, "backbone": backbone, "seed": seed, "smoke": SMOKE, "out": str(folder), "ledger": LEDGER}
    outputs = [folder / name for name in (f"{kind}.ipynb", "rows.csv", "predictions.npz")]
    outputs += [folder / "attributes.json"] if kind == "zero_shot" else []
    encoders = BIRD_ENCODERS if dataset.startswith("aviary") else ENCODERS
    weights = [encoders / f"seed{seed}.safetensors"] if backbone == "embedded" else []
    paper = [file for file in (Path(f"data_manifests/{dataset}.yaml"), Path("results/published.csv")) if dataset in {m.stem for m in MANIFESTS}]
    return Step(folder / "stamp.json", Path(sweep["notebook"]), outputs, [*weights, *DATA, *paper], {**parameters, **sweep.get("parameters", {})})


def table_step(name):
    rows = [step.outputs[1] for step in RUNS[name].values()]
    return Step(BASE / f"stamps/tables/{name}.json", Path("gta/tables.py"), [BASE / f"tables/{name}.csv"], rows)


def notebook_step(name, entry, outputs, inputs, parameters):
    parameters = {**parameters, "smoke": SMOKE}
    return Step(BASE / "stamps" / f"{name}.json", Path(entry), [BASE / f"{name}.ipynb", *outputs], inputs, parameters)


def page_step(name):
    return Step(BASE / "stamps" / f"{name}.page.json", Path("gta/pages.py"), [BASE / f"{name}.html"], [BASE / f"{name}.ipynb"])


RUNS = {
    name: {str(step.stamp.parent.relative_to(BASE)): step for step in (run_step(sweep, *cell) for cell in product(*sweep["grid"].values()))}
    for name, sweep in SWEEPS.items()
}
ALL_RUNS = {name: step for runs in RUNS.values() for name, step in runs.items()}
TABLES = {name: table_step(name) for name in SWEEPS}
TABLE = TABLES["zero_shot"]
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
    "datasets": notebook_step("datasets", "notebooks/datasets.ipynb", [], MANIFESTS, {"images_each": 0}),
    "evolution": notebook_step(
        "evolution",
        "notebooks/evolution.ipynb",
        [BASE / "evolution" / name for name in ("rows.csv", "predictions.npz", "measures.csv")]
        + [BASE / f"evolution/{name}.{kind}" for name in ("maps", "agreement", "accuracy") for kind in ("png", "svg")],
        [ENCODERS / "seed0.safetensors", *DATA],
        {"out": str(BASE / "evolution"), "ledger": str(BASE / "evolution/ledger")},
    ),
    "label_your_images": notebook_step(
        "label_your_images",
        "notebooks/label_your_images.ipynb",
        [],  # the page links to the images beside it, so it is not published
        [ENCODERS / "seed0.safetensors", *DATA],
        {"out": str(BASE / "label")},
    ),
    "quickstart": notebook_step("quickstart", "notebooks/quickstart.ipynb", [], [ENCODERS / "seed0.safetensors", *DATA], {}),
    "aviary": notebook_step(
        "aviary",
        "notebooks/aviary.ipynb",
        [BASE / f"figures/aviary{part}.{kind}" for part in ("", "_families", "_attributes") for kind in ("png", "svg")],
        [TABLES["aviary"].outputs[0], *(file for step in RUNS["aviary"].values() for file in (*step.inputs, *step.outputs[2:]))],
        {"table": str(TABLES["aviary"].outputs[0]), "runs": str(BASE / "zero_shot"), "out": str(BASE / "figures")},
    ),
}
NOTEBOOKS["figures/peers"] = notebook_step(
    "figures/peers",
    "notebooks/figures/peers.ipynb",
    [BASE / f"figures/peers_{name}.{kind}" for name in ("zero_shot", "few_shot") for kind in ("png", "svg")],
    [TABLES["peers"].outputs[0]],
    {"table": str(TABLES["peers"].outputs[0]), "out": str(BASE / "figures")},
)
OF_TABLE = {"figures/zero_shot": "zero_shot", "figures/peers": "peers", "aviary": "aviary"}  # notebooks that read a table
INDEX = [
    {
        "paper": "Table 1, zero-shot, on the embedded benchmark",
        "target": "demo",
        "notebook": SWEEPS["zero_shot"]["notebook"],
        "csv": "tables/zero_shot.csv",
        "figure": "figures/zero_shot.png",
        "figure_notebook": "notebooks/figures/zero_shot.ipynb",
    },
    {
        "paper": "The image and text spaces over the iterations, on the embedded benchmark",
        "target": "demo",
        "notebook": "notebooks/evolution.ipynb",
        "csv": "evolution/rows.csv",
        "figure": "evolution/maps.png",
        "figure_notebook": "notebooks/evolution.ipynb",
    },
    {
        "paper": "none: the aviary, where the truth is known",
        "target": "aviary",
        "notebook": SWEEPS["aviary"]["notebook"],
        "csv": "tables/aviary.csv",
        "figure": "figures/aviary.png",
        "figure_notebook": "notebooks/aviary.ipynb",
    },
    {
        "paper": "none: peers on the embedded benchmarks",
        "target": "peers",
        "notebook": SWEEPS["peers"]["notebook"],
        "csv": "tables/peers.csv",
        "figure": "figures/peers_zero_shot.png",
        "figure_notebook": "notebooks/figures/peers.ipynb",
    },
]
PAGES = {name: page_step(name) for name in NOTEBOOKS}
STEPS = [*ALL_RUNS.values(), *TABLES.values(), *NOTEBOOKS.values(), *PAGES.values()]
# Every marker is asked for by name: Snakemake does not make a missing file again for the sake of files that are there.
AVIARY, PEERS = (
    [step.marker for step in (*RUNS[table].values(), TABLES[table], NOTEBOOKS[name], PAGES[name])]
    for table, name in (("aviary", "aviary"), ("peers", "figures/peers"))
)
DEMO = [step.marker for step in STEPS if step.marker not in AVIARY + PEERS]

for step in STEPS:
    if (reason := step.refresh()) and step.stamp.exists():
        print(f"stale: {step.stamp}: {reason}")


def papermill(step, log, threads):
    """Run a notebook beside its final place and move it there when it is whole."""
    done, given = step.outputs[0], "-y " + shlex.quote(yaml.safe_dump(dict(step.parameters)))
    part = done.with_suffix(".part.ipynb")
    done.parent.mkdir(parents=True, exist_ok=True)
    shell(f"OMP_NUM_THREADS={threads} papermill {step.entry} {part} {given} --no-progress-bar > {log} 2>&1 || (tail -n 25 {log}; exit 1)")
    part.replace(done)
    step.finish()


rule demo:
    input:
        DEMO,


rule aviary:
    input:
        AVIARY,


rule peers:
    input:
        PEERS,


rule run:
    output:
        str(BASE / "{run}/stamp.ok"),
    log:
        str(BASE / "logs/{run}.log"),
    wildcard_constraints:
        run="|".join(ALL_RUNS),
    run:
        papermill(ALL_RUNS[wildcards.run], log, threads)


rule table:
    input:
        lambda wildcards: [step.marker for step in RUNS[wildcards.table].values()],
    output:
        str(BASE / "stamps/tables/{table}.ok"),
    wildcard_constraints:
        table="|".join(TABLES),
    run:
        step = TABLES[wildcards.table]
        shell(f"python -m gta.tables combine {step.outputs[0]} " + " ".join(str(file.parent) for file in step.inputs))
        step.finish()


rule notebook:
    input:
        lambda wildcards: [TABLES[OF_TABLE[wildcards.name]].marker] if wildcards.name in OF_TABLE else [],
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
        AVIARY,
        PEERS,
    run:
        if SMOKE:
            raise ValueError("a smoke run is never published")
        provenance.publish([*ALL_RUNS.values(), *TABLES.values(), *NOTEBOOKS.values()], BASE, Path("results"), INDEX)
