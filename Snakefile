# The paper as a workflow: each rule runs one notebook through the strict runner (bogp.run), or gathers what notebooks wrote.
#
#   profile.yaml ─> 02_mask_database ──> database ──> 03_fixed_sparsity_bo (one job per protocol and sparsity) ──> fixed_sparsity
#
# Run it with `make reproduce PROFILE=smoke` or `make reproduce PROFILE=paper`. A result is stale when a parameter, an input or the engine version changed.
import json
import sys

from bogp import paths
from bogp.training import ENGINE_VERSION

RUN = config["run"]
RESULTS, FIGURES, DATABASE = paths.results_dir(RUN), paths.figures_dir(RUN), paths.database_dir(config["database"]["database"])
EXECUTED = paths.home() / config["executed"]
SEARCH = {name: search for name, search in config["fixed_sparsity"].items()}  # by protocol
NAMES = [f"{protocol}_s{s:.2f}" for protocol, search in SEARCH.items() for s in search["sparsities"]]
RUNNER = sys.executable + " -m bogp.run --no-progress {input.notebook} {output.executed} -y {params.yaml:q}"


def database_parameters():
    return {"run": RUN} | config["database"]


def search_parameters(wildcards):
    spec = {k: v for k, v in config["database"].items() if k in ("database", "family", "sparsities", "masks_per_sparsity", "n")}
    spec["database_seed"] = config["database"].get("seed", 0)
    own = {k: v for k, v in SEARCH[wildcards.protocol].items() if k != "sparsities"}
    return {"run": RUN, "protocol": wildcards.protocol, "sparsity": float(wildcards.sparsity)} | spec | own


def as_yaml(parameters):
    return json.dumps(parameters)  # JSON is YAML


rule all:
    input:
        RESULTS / "fixed_sparsity.csv",
        EXECUTED / "02_mask_database.ipynb",
        expand(EXECUTED / "03_{name}.ipynb", name=NAMES),


rule mask_database:
    input:
        notebook="notebooks/02_mask_database.ipynb",
    output:
        executed=EXECUTED / "02_mask_database.ipynb",
        manifest=DATABASE / "manifest.json",
        tables=expand(RESULTS / "02_mask_database" / "{t}.csv", t=["properties", "correlation_pooled", "correlation_within", "reach"]),
        figures=expand(FIGURES / "02_{f}.pdf", f=["example_mask", "property_ranges", "correlations", "reach"]),
    params:
        yaml=as_yaml(database_parameters()),
    threads: workflow.cores
    shell:
        RUNNER


rule fixed_sparsity_bo:
    input:
        notebook="notebooks/03_fixed_sparsity_bo.ipynb",
        manifest=rules.mask_database.output.manifest,
    output:
        executed=EXECUTED / "03_{protocol}_s{sparsity}.ipynb",
        tables=expand(RESULTS / "03_fixed_sparsity_bo" / "{{protocol}}_s{{sparsity}}_{t}.csv", t=["history", "chosen", "summary"]),
        figures=expand(FIGURES / "03_{{protocol}}_s{{sparsity}}_{f}.pdf", f=["trace", "against_random", "chosen_mask", "chosen"]),
    params:
        yaml=lambda wildcards: as_yaml(search_parameters(wildcards)),
        engine=ENGINE_VERSION,
    threads: workflow.cores  # the engine uses them all
    shell:
        RUNNER


rule fixed_sparsity:
    input:
        expand(RESULTS / "03_fixed_sparsity_bo" / "{name}_summary.csv", name=NAMES),
    output:
        RESULTS / "fixed_sparsity.csv",
        FIGURES / "03_fixed_sparsity_bo.pdf",
    shell:
        sys.executable + " -m bogp.claims {RUN}"
