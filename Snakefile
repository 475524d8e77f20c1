# Every run is one papermill call in a process of its own; tables, figures and pages follow from the runs. What is run stands in
# notebooks/sweeps/*.yaml and notebooks/pages.yaml; what a step is made from, and whether it still holds, in gta/batch/steps.py.
#   snakemake TARGET              demo, pages, aviary, peers, ablations, figures, site, all, publish, or a table: zero_shot, few_shot, robustness, ...
#   snakemake TARGET --dry-run    what is done, stale, missing and failed, and what would be made
#   snakemake TARGET --workflow-profile profiles/slurm   each step as a job of a cluster (docs/tables.md)
#   --config smoke=1              shrinks every run and works under runs/smoke
#   --config preset=as_released   runs everything as the released program does, below runs/as_released (docs/presets.md)
#   --config draws=1 seeds=2      runs what adapts once instead of five times, and the first two encoders of five
#   --config llm=MODEL@URL        asked by the runs on the paper's datasets; data=FOLDER: where those lie,
#                                 and photographs, below photos/; pocket=FOLDER: the encoder that reads these (gta/batch/datasets.py)
#   --config sampling="{temperature: 0.7}"   how it is asked: gta/llm/sampling.py
#   --config attributes=LIST:CHECKOUT   read by these runs as first attributes; llm=gta_clip_llama3:CHECKOUT: stored answers instead of a model
import json
import os
import re
import shlex
import sys

from gta.batch import progress
from gta.batch.steps import Batch

GIVEN = ("llm", "data", "pocket", "attributes", "sampling", "preset")
OPTIONS = {"smoke": bool(int(config.get("smoke", 0))), **{key: config[key] for key in GIVEN if key in config}}
OPTIONS |= {key: int(config[key]) for key in ("draws", "seeds") if key in config}
BATCH = Batch(**OPTIONS)
# Braces are Snakemake's own in a command.
ASKED = shlex.quote(json.dumps(OPTIONS)).replace("{", "{{").replace("}", "}}")


def markers(names):
    return [str(BATCH.steps[name].marker) for name in names]


if workflow.is_main_process:  # the jobs of a cluster read this file too
    sys.stdout.reconfigure(errors="backslashreplace")  # an earlier failure may tell what the terminal cannot show
    asked = [word for word in sys.argv[1:] if word in BATCH.targets] or ["all"]
    print(BATCH.report(asked))  # and set the markers
    os.environ[progress.VARIABLE] = BATCH.to_make(asked)  # from which each job tells how many are left


rule all:
    input:
        markers(BATCH.target("all")),


for target in BATCH.targets:
    if target != "all":

        rule:
            name:
                target
            input:
                markers(BATCH.target(target)),


# A finished step is an empty marker, there exactly while its stamp's hashes hold.
rule step:
    input:
        lambda wildcards: markers(BATCH.needs(wildcards.name)),
    output:
        str(BATCH.base / "stamps/{name}.ok"),
    log:
        str(BATCH.base / "logs/{name}.log"),
    wildcard_constraints:
        name="|".join(map(re.escape, BATCH.steps)),
    resources:
        gpu=lambda wildcards: BATCH.gpus(wildcards.name),
    shell:
        f"PYTHONUTF8=1 OMP_NUM_THREADS={{threads}} python -m gta.batch.make {{wildcards.name:q}} --options {ASKED} --log {{log:q}}"


rule publish:
    input:
        markers(BATCH.target("all")),
    localrule: True
    shell:
        f"PYTHONUTF8=1 python -m gta.batch.steps publish --options {ASKED}"
