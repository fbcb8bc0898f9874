# The paper as a workflow: each rule runs one notebook through the strict runner (bogp.run), or gathers what notebooks wrote.
#
#   profile.yaml ─> 01_motivation (one job per protocol)
#                ─> 02_mask_database ──> database ──> 03_fixed_sparsity_bo (one job per protocol and sparsity) ──> fixed_sparsity
#                                                       └──> 05_baselines (one job per protocol and sparsity) ──> 05_baselines: Table 1
#                ─> 04_alpha_tradeoff_bo (one job per alpha) ──> 04_alpha_tradeoff_bo: Table 2
#                ─> 06_claims, which reads the results of 01, 03, 04 and 05
#                ─> 07_your_own_network (no claim of the paper; stands alone)
#
# Run it with `make reproduce PROFILE=smoke` or `make reproduce PROFILE=paper`. A result is stale when a parameter, an input or the engine version changed.
import json
import sys

from bogp import paths
from bogp.training import ENGINE_VERSION

RUN = config["run"]
RESULTS, FIGURES, DATABASE = paths.results_dir(RUN), paths.figures_dir(RUN), paths.database_dir(config["database"]["database"])
EVALUATIONS, BUILD = paths.evaluations_dir(RUN), paths.home() / "build" / "cells" / RUN
EXECUTED = paths.home() / config["executed"]
SEARCH = {name: search for name, search in config["fixed_sparsity"].items()}  # by protocol
NAMES = [f"{protocol}_s{s:.2f}" for protocol, search in SEARCH.items() for s in search["sparsities"]]
TABLE_1_TABLES, TABLE_1_FIGURES = ["table1", "layers", "emptied"], ["layers", "table1", "like_for_like", "gaps", "gaps_paper"]
TABLE_2_TABLES = ["chosen", "table2", "front", "alpha_ranges", "tables_compared", "reference"]
TABLE_2_FIGURES = ["front", "table2", "reference"]
CLAIMS_TABLES = ["claims", "evidence"]
CLAIMS_FIGURES = ["settings"]
RUNNER = sys.executable + " -m bogp.run --no-progress {input.notebook} {output.executed} -y {params.yaml:q}"


def database_parameters():
    return {"run": RUN} | config["database"]


def search_parameters(wildcards):
    spec = {k: v for k, v in config["database"].items() if k in ("database", "family", "sparsities", "masks_per_sparsity", "n")}
    spec["database_seed"] = config["database"].get("seed", 0)
    own = {k: v for k, v in SEARCH[wildcards.protocol].items() if k != "sparsities"}
    return {"run": RUN, "protocol": wildcards.protocol, "sparsity": float(wildcards.sparsity)} | spec | own


def baselines_parameters(protocol, sparsities, cell):
    shared = {k: v for k, v in config["database"].items() if k in ("database", "family", "masks_per_sparsity")}
    shared |= {"database_sparsities": config["database"]["sparsities"], "database_seed": config["database"].get("seed", 0)}
    searched = {k: v for k, v in SEARCH[protocol].items() if k not in ("sparsities", "use_exported")}
    own = {k: v for k, v in config["baselines"][protocol].items() if k != "sparsities"}
    return {"run": RUN, "protocol": protocol, "sparsities": sparsities, "cell": cell} | shared | searched | own


def tradeoff_parameters(protocol, alphas, cell):
    return {"run": RUN, "protocol": protocol} | config["tradeoff"][protocol] | {"alphas": alphas, "cell": cell}


def claims_parameters(wildcards):
    shared = {k: v for k, v in config["database"].items() if k in ("database", "masks_per_sparsity")}
    shared |= {"database_sparsities": config["database"]["sparsities"]}
    return {"run": RUN, "protocol": wildcards.protocol} | shared | config["claims"][wildcards.protocol]


def as_yaml(parameters):
    return json.dumps(parameters)  # JSON is YAML


rule all:
    input:
        RESULTS / "fixed_sparsity.csv",
        expand(EXECUTED / "01_{protocol}.ipynb", protocol=config["motivation"]),
        EXECUTED / "02_mask_database.ipynb",
        expand(EXECUTED / "03_{name}.ipynb", name=NAMES),
        expand(EXECUTED / "04_{protocol}.ipynb", protocol=config["tradeoff"]),
        expand(EXECUTED / "05_{protocol}.ipynb", protocol=config["baselines"]),
        expand(EXECUTED / "06_{protocol}.ipynb", protocol=config["claims"]),
        EXECUTED / "07_your_own_network.ipynb",


rule motivation:
    input:
        notebook="notebooks/01_motivation.ipynb",
    output:
        executed=EXECUTED / "01_{protocol}.ipynb",
        tables=expand(RESULTS / "01_motivation" / "{{protocol}}_{t}.csv", t=["graphs", "trainings", "correlations", "monotone"]),
        figures=expand(FIGURES / "01_{{protocol}}_{f}.pdf", f=["graphs", "figures_5_to_7", "other_properties", "matched_width", "correlations"]),
    params:
        yaml=lambda wildcards: as_yaml({"run": RUN, "protocol": wildcards.protocol} | config["motivation"][wildcards.protocol]),
        engine=ENGINE_VERSION,
    threads: workflow.cores
    shell:
        RUNNER


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


rule baselines_cell:  # one sparsity of Table 1; what the whole table says better is deleted at once
    input:
        notebook="notebooks/05_baselines.ipynb",
        manifest=rules.mask_database.output.manifest,
        chosen=RESULTS / "03_fixed_sparsity_bo" / "{protocol}_s{sparsity}_chosen.csv",
    output:
        results=RESULTS / "05_baselines" / "{protocol}_s{sparsity}_results.csv",
        evaluations=EVALUATIONS / "05_baselines_{protocol}_s{sparsity}.parquet",
        executed=temp(BUILD / "05_{protocol}_s{sparsity}.ipynb"),
        tables=temp(expand(RESULTS / "05_baselines" / "{{protocol}}_s{{sparsity}}_{t}.{e}", t=TABLE_1_TABLES, e=["csv", "json"])),
        figures=temp(expand(FIGURES / "05_{{protocol}}_s{{sparsity}}_{f}.{e}", f=TABLE_1_FIGURES, e=["pdf", "png"])),
        emptied=temp(EVALUATIONS / "05_baselines_{protocol}_s{sparsity}_emptied.parquet"),
    params:
        yaml=lambda wildcards: as_yaml(baselines_parameters(wildcards.protocol, [float(wildcards.sparsity)], cell=True)),
        engine=ENGINE_VERSION,
    threads: workflow.cores
    shell:
        RUNNER


rule baselines:
    input:
        notebook="notebooks/05_baselines.ipynb",
        manifest=rules.mask_database.output.manifest,
        cells=lambda wildcards: expand(
            RESULTS / "05_baselines" / "{{protocol}}_s{s:.2f}_results.csv", s=config["baselines"][wildcards.protocol]["sparsities"]
        ),
    output:
        executed=EXECUTED / "05_{protocol}.ipynb",
        tables=expand(RESULTS / "05_baselines" / "{{protocol}}_{t}.csv", t=TABLE_1_TABLES),
        figures=expand(FIGURES / "05_{{protocol}}_{f}.pdf", f=TABLE_1_FIGURES),
    wildcard_constraints:
        protocol="[a-z]+",
    params:
        yaml=lambda wildcards: as_yaml(
            baselines_parameters(wildcards.protocol, config["baselines"][wildcards.protocol]["sparsities"], cell=False)
        ),
        engine=ENGINE_VERSION,
    threads: workflow.cores
    shell:
        RUNNER


rule tradeoff_cell:  # one alpha of Table 2
    input:
        notebook="notebooks/04_alpha_tradeoff_bo.ipynb",
    output:
        history=RESULTS / "04_alpha_tradeoff_bo" / "{protocol}_a{alpha}_history.csv",
        executed=temp(BUILD / "04_{protocol}_a{alpha}.ipynb"),
        tables=temp(expand(RESULTS / "04_alpha_tradeoff_bo" / "{{protocol}}_a{{alpha}}_{t}.{e}", t=TABLE_2_TABLES, e=["csv", "json"])),
        figures=temp(expand(FIGURES / "04_{{protocol}}_a{{alpha}}_{f}.{e}", f=TABLE_2_FIGURES, e=["pdf", "png"])),
        evaluations=temp(EVALUATIONS / "04_alpha_tradeoff_bo_{protocol}_a{alpha}.parquet"),
    params:
        yaml=lambda wildcards: as_yaml(tradeoff_parameters(wildcards.protocol, [float(wildcards.alpha)], cell=True)),
        engine=ENGINE_VERSION,
    threads: workflow.cores
    shell:
        RUNNER


rule tradeoff:
    input:
        notebook="notebooks/04_alpha_tradeoff_bo.ipynb",
        cells=lambda wildcards: expand(
            RESULTS / "04_alpha_tradeoff_bo" / "{{protocol}}_a{a:.2f}_history.csv", a=config["tradeoff"][wildcards.protocol]["alphas"]
        ),
        evaluations=lambda wildcards: expand(
            EVALUATIONS / "04_alpha_tradeoff_bo_{{protocol}}_a{a:.2f}.parquet", a=config["tradeoff"][wildcards.protocol]["alphas"]
        ),
    output:
        executed=EXECUTED / "04_{protocol}.ipynb",
        tables=expand(RESULTS / "04_alpha_tradeoff_bo" / "{{protocol}}_{t}.csv", t=TABLE_2_TABLES),
        figures=expand(FIGURES / "04_{{protocol}}_{f}.pdf", f=TABLE_2_FIGURES),
    wildcard_constraints:
        protocol="[a-z]+",
    params:
        yaml=lambda wildcards: as_yaml(tradeoff_parameters(wildcards.protocol, config["tradeoff"][wildcards.protocol]["alphas"], cell=False)),
        engine=ENGINE_VERSION,
    threads: workflow.cores
    shell:
        RUNNER


rule claims:
    input:
        notebook="notebooks/06_claims.ipynb",
        manifest=rules.mask_database.output.manifest,
        chosen=lambda wildcards: expand(
            RESULTS / "03_fixed_sparsity_bo" / "{{protocol}}_s{s:.2f}_chosen.csv", s=SEARCH[wildcards.protocol]["sparsities"]
        ),
        compared=lambda wildcards: expand(
            RESULTS / "05_baselines" / "{{protocol}}_s{s:.2f}_results.csv", s=config["baselines"][wildcards.protocol]["sparsities"]
        ),
        motivation=RESULTS / "01_motivation" / "{protocol}_monotone.csv",
        tables=RESULTS / "04_alpha_tradeoff_bo" / "{protocol}_tables_compared.csv",
    output:
        executed=EXECUTED / "06_{protocol}.ipynb",
        tables=expand(RESULTS / "06_claims" / "{{protocol}}_{t}.csv", t=CLAIMS_TABLES),
        figures=expand(FIGURES / "06_{{protocol}}_{f}.pdf", f=CLAIMS_FIGURES),
    params:
        yaml=lambda wildcards: as_yaml(claims_parameters(wildcards)),
        engine=ENGINE_VERSION,
    threads: workflow.cores
    shell:
        RUNNER


rule your_own_network:  # its record of scores is no output: an interrupted run goes on from it
    input:
        notebook="notebooks/07_your_own_network.ipynb",
    output:
        executed=EXECUTED / "07_your_own_network.ipynb",
        tables=expand(RESULTS / "07_your_own_network" / "{t}.csv", t=["history", "fresh", "summary"]),
        figures=expand(FIGURES / "07_{f}.pdf", f=["layers", "searches", "fresh"]),
    params:
        yaml=as_yaml({"run": RUN} | config["your_own_network"]),
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
