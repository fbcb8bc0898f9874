# The paper as a workflow: each rule runs one notebook through the strict runner (bogp.run), or gathers what notebooks wrote.
#
#   profile.yaml ─> 01_motivation (one job per protocol)
#                ─> 02_mask_database
#                ─> 03_fixed_sparsity_bo (one job per protocol and sparsity) ──> fixed_sparsity
#                                         └──> 05_baselines (one job per protocol and sparsity) ──> 05_baselines: Table 1
#                ─> 04_alpha_tradeoff_bo (one job per alpha) ──> 04_alpha_tradeoff_bo: Table 2
#                ─> 06_claims, which reads the results of 01, 03, 04 and 05
#                ─> 07_your_own_network (no claim of the paper; stands alone)
#                ─> 10_computation_graphs to 14_surrogate_search (the second paper: structural pruning; each stands alone)
#
# Run it with `make reproduce PROFILE=smoke` or `make reproduce PROFILE=paper`. A result is stale when a parameter, an input, the notebook's code or the engine
# version changed; so a notebook is `ancient`: what counts of it stands in the parameters, not in the time of a file. The same with a mask database: it is no
# input, for it follows from the parameters, and a notebook that does not find it builds it.
import json
import sys
from pathlib import Path

from bogp import paths
from bogp.graphs.database import SCHEMA_VERSION
from bogp.training.engine import ENGINE_VERSION
from bogp.workflow.notebook import code_digest


workdir: str(paths.home())


def from_home(path):  # Snakemake's records then hold in any checkout, wherever it lies
    return path.relative_to(paths.home()) if path.is_relative_to(paths.home()) else path


RUN = config["run"]
RESULTS, FIGURES, EVALUATIONS = (from_home(d(RUN)) for d in (paths.results_dir, paths.figures_dir, paths.evaluations_dir))
DATABASE, NOTEBOOKS = from_home(paths.database_dir(config["database"]["database"])), from_home(Path(workflow.basedir) / "notebooks")
EXECUTED, BUILD, FAILED = Path(config["executed"]), Path("build") / "cells" / RUN, paths.failed_dir(RUN)
CODE = {path.stem[:2]: code_digest(path) for path in sorted((Path(workflow.basedir) / "notebooks").glob("*.ipynb"))}
TABLE, FIGURE = ["csv", "json"], ["pdf", "png"]  # what each is written as
SEARCH = {name: search for name, search in config["fixed_sparsity"].items()}  # by protocol
NAMES = [f"{protocol}_s{s:.2f}" for protocol, search in SEARCH.items() for s in search["sparsities"]]
TABLE_1_TABLES, TABLE_1_FIGURES = ["table1", "layers", "emptied"], ["layers", "table1", "like_for_like", "gaps", "gaps_paper"]
TABLE_2_TABLES = ["chosen", "table2", "front", "alpha_ranges", "tables_compared", "reference"]
TABLE_2_FIGURES = ["front", "table2", "reference"]
CLAIMS_TABLES = ["answer", "claims", "evidence", "audit", "settings", "crossed", "parts", "spreads", "predicted", "twins", "changed", "changed_parts"]
CLAIMS_TABLES += ["replayed", "searches", "against_permuted", "cursed", "compared", "defects", "defect_effects"]
CLAIMS_TABLES += ["regions", "regions_parts", "regions_replayed", "regions_related", "advantages", "converged", "converged_trainings"]
if all({0.15, 0.75} & set(config["baselines"][p]["sparsities"]) for p in config["claims"]):  # where the paper claims to be best: else claim 9 is not asked
    CLAIMS_TABLES += ["best_of_all"]
CLAIMS_FIGURES = ["settings", "components", "masks_sorted", "prediction", "twins", "nested", "regret", "curse", "gaps", "defects"]
CLAIMS_FIGURES += ["region_spread", "regions", "related"]
SCENARIO_TABLES, SCENARIO_FIGURES = ["measured", "areas", "against_random", "closing", "verdicts"], ["edges", "parameters", "areas", "tuning"]
IMPORTANCE_TABLES = ["single", "several", "summary", "summary_absolute", "summary_several", "by_examples", "differences", "references", "costs", "target_1"]
RUNNER = sys.executable + " -m bogp.run --no-progress --failed {FAILED:q} {input.notebook:q} {output.executed:q} -y {params.yaml:q}"


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


def tables_and_figures(rule, **wildcards):
    return expand([*rule.output.tables, *rule.output.figures], **wildcards)


def structural_rules():  # notebooks 10 to 14, as far as the profile has them
    names = ["computation_graphs", "edge_importance", "cifar10_scenarios", "wikitext", "surrogate_search"]
    return [getattr(rules, name) for name in names if config.get(name)]


rule all:
    input:
        RESULTS / "fixed_sparsity.csv",
        expand(EXECUTED / "01_{protocol}.ipynb", protocol=config["motivation"]),
        EXECUTED / "02_mask_database.ipynb",
        expand(EXECUTED / "03_{name}.ipynb", name=NAMES),
        expand(EXECUTED / "04_{protocol}.ipynb", protocol=config["tradeoff"]),
        expand(EXECUTED / "05_{protocol}.ipynb", protocol=config["baselines"]),
        expand(EXECUTED / "06_{protocol}.ipynb", protocol=config["claims"]),
        [EXECUTED / "07_your_own_network.ipynb"] if config["your_own_network"] else [],
        lambda _: rules.fixed_sparsity.output,
        lambda _: tables_and_figures(rules.motivation, protocol=config["motivation"]),
        lambda _: tables_and_figures(rules.mask_database),
        lambda _: [f for p, s in SEARCH.items() for f in tables_and_figures(rules.fixed_sparsity_bo, protocol=p, sparsity=[f"{x:.2f}" for x in s["sparsities"]])],
        lambda _: tables_and_figures(rules.tradeoff, protocol=config["tradeoff"]),
        lambda _: tables_and_figures(rules.baselines, protocol=config["baselines"]),
        lambda _: tables_and_figures(rules.claims, protocol=config["claims"]),
        lambda _: tables_and_figures(rules.your_own_network) if config["your_own_network"] else [],
        lambda _: [f for rule in structural_rules() for f in [rule.output.executed, *tables_and_figures(rule)]],


rule motivation:
    input:
        notebook=ancient(NOTEBOOKS / "01_motivation.ipynb"),
    output:
        executed=EXECUTED / "01_{protocol}.ipynb",
        tables=expand(RESULTS / "01_motivation" / "{{protocol}}_{t}.{e}", t=["graphs", "trainings", "correlations", "monotone"], e=TABLE),
        figures=expand(FIGURES / "01_{{protocol}}_{f}.{e}", f=["graphs", "figures_5_to_7", "other_properties", "matched_width", "correlations"], e=FIGURE),
    params:
        yaml=lambda wildcards: as_yaml({"run": RUN, "protocol": wildcards.protocol} | config["motivation"][wildcards.protocol]),
        engine=ENGINE_VERSION,
        code=CODE["01"],
    threads: workflow.cores
    shell:
        RUNNER


rule mask_database:
    input:
        notebook=ancient(NOTEBOOKS / "02_mask_database.ipynb"),
    output:
        executed=EXECUTED / "02_mask_database.ipynb",
        manifest=DATABASE / "manifest.json",
        tables=expand(RESULTS / "02_mask_database" / "{t}.{e}", t=["properties", "correlation_pooled", "correlation_within", "reach"], e=TABLE),
        figures=expand(FIGURES / "02_{f}.{e}", f=["example_mask", "property_ranges", "correlations", "reach"], e=FIGURE),
    params:
        yaml=as_yaml(database_parameters()),
        schema=SCHEMA_VERSION,
        code=CODE["02"],
    threads: workflow.cores
    shell:
        RUNNER


rule fixed_sparsity_bo:
    input:
        notebook=ancient(NOTEBOOKS / "03_fixed_sparsity_bo.ipynb"),
    output:
        executed=EXECUTED / "03_{protocol}_s{sparsity}.ipynb",
        tables=expand(RESULTS / "03_fixed_sparsity_bo" / "{{protocol}}_s{{sparsity}}_{t}.{e}", t=["history", "chosen", "summary"], e=TABLE),
        figures=expand(FIGURES / "03_{{protocol}}_s{{sparsity}}_{f}.{e}", f=["trace", "against_random", "chosen_mask", "chosen"], e=FIGURE),
    params:
        yaml=lambda wildcards: as_yaml(search_parameters(wildcards)),
        engine=ENGINE_VERSION,
        code=CODE["03"],
    threads: workflow.cores  # the engine uses them all
    shell:
        RUNNER


rule baselines_cell:  # one sparsity of Table 1; what the whole table says better is deleted at once
    input:
        notebook=ancient(NOTEBOOKS / "05_baselines.ipynb"),
        chosen=RESULTS / "03_fixed_sparsity_bo" / "{protocol}_s{sparsity}_chosen.csv",
    output:
        results=RESULTS / "05_baselines" / "{protocol}_s{sparsity}_results.csv",
        evaluations=update(EVALUATIONS / "05_baselines_{protocol}_s{sparsity}.parquet"),  # the notebook starts from those that are there
        executed=temp(BUILD / "05_{protocol}_s{sparsity}.ipynb"),
        tables=temp(expand(RESULTS / "05_baselines" / "{{protocol}}_s{{sparsity}}_{t}.{e}", t=TABLE_1_TABLES, e=TABLE)),
        figures=temp(expand(FIGURES / "05_{{protocol}}_s{{sparsity}}_{f}.{e}", f=TABLE_1_FIGURES, e=FIGURE)),
        emptied=temp(EVALUATIONS / "05_baselines_{protocol}_s{sparsity}_emptied.parquet"),
    params:
        yaml=lambda wildcards: as_yaml(baselines_parameters(wildcards.protocol, [float(wildcards.sparsity)], cell=True)),
        engine=ENGINE_VERSION,
        code=CODE["05"],
    threads: workflow.cores
    shell:
        RUNNER


rule baselines:
    input:
        notebook=ancient(NOTEBOOKS / "05_baselines.ipynb"),
        cells=lambda wildcards: expand(
            RESULTS / "05_baselines" / "{{protocol}}_s{s:.2f}_results.csv", s=config["baselines"][wildcards.protocol]["sparsities"]
        ),
    output:
        executed=EXECUTED / "05_{protocol}.ipynb",
        tables=expand(RESULTS / "05_baselines" / "{{protocol}}_{t}.{e}", t=TABLE_1_TABLES, e=TABLE),
        figures=expand(FIGURES / "05_{{protocol}}_{f}.{e}", f=TABLE_1_FIGURES, e=FIGURE),
    wildcard_constraints:
        protocol="[a-z]+",
    params:
        yaml=lambda wildcards: as_yaml(
            baselines_parameters(wildcards.protocol, config["baselines"][wildcards.protocol]["sparsities"], cell=False)
        ),
        engine=ENGINE_VERSION,
        code=CODE["05"],
    threads: workflow.cores
    shell:
        RUNNER


rule tradeoff_cell:  # one alpha of Table 2
    input:
        notebook=ancient(NOTEBOOKS / "04_alpha_tradeoff_bo.ipynb"),
    output:
        history=RESULTS / "04_alpha_tradeoff_bo" / "{protocol}_a{alpha}_history.csv",
        executed=temp(BUILD / "04_{protocol}_a{alpha}.ipynb"),
        tables=temp(expand(RESULTS / "04_alpha_tradeoff_bo" / "{{protocol}}_a{{alpha}}_{t}.{e}", t=TABLE_2_TABLES, e=TABLE)),
        figures=temp(expand(FIGURES / "04_{{protocol}}_a{{alpha}}_{f}.{e}", f=TABLE_2_FIGURES, e=FIGURE)),
        evaluations=temp(EVALUATIONS / "04_alpha_tradeoff_bo_{protocol}_a{alpha}.parquet"),
    params:
        yaml=lambda wildcards: as_yaml(tradeoff_parameters(wildcards.protocol, [float(wildcards.alpha)], cell=True)),
        engine=ENGINE_VERSION,
        code=CODE["04"],
    threads: workflow.cores
    shell:
        RUNNER


rule tradeoff:
    input:
        notebook=ancient(NOTEBOOKS / "04_alpha_tradeoff_bo.ipynb"),
        cells=lambda wildcards: expand(
            RESULTS / "04_alpha_tradeoff_bo" / "{{protocol}}_a{a:.2f}_history.csv", a=config["tradeoff"][wildcards.protocol]["alphas"]
        ),
        evaluations=lambda wildcards: expand(
            EVALUATIONS / "04_alpha_tradeoff_bo_{{protocol}}_a{a:.2f}.parquet", a=config["tradeoff"][wildcards.protocol]["alphas"]
        ),
    output:
        executed=EXECUTED / "04_{protocol}.ipynb",
        tables=expand(RESULTS / "04_alpha_tradeoff_bo" / "{{protocol}}_{t}.{e}", t=TABLE_2_TABLES, e=TABLE),
        figures=expand(FIGURES / "04_{{protocol}}_{f}.{e}", f=TABLE_2_FIGURES, e=FIGURE),
    wildcard_constraints:
        protocol="[a-z]+",
    params:
        yaml=lambda wildcards: as_yaml(tradeoff_parameters(wildcards.protocol, config["tradeoff"][wildcards.protocol]["alphas"], cell=False)),
        engine=ENGINE_VERSION,
        code=CODE["04"],
    threads: workflow.cores
    shell:
        RUNNER


rule claims:
    input:
        notebook=ancient(NOTEBOOKS / "06_claims.ipynb"),
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
        tables=expand(RESULTS / "06_claims" / "{{protocol}}_{t}.{e}", t=CLAIMS_TABLES, e=TABLE),
        figures=expand(FIGURES / "06_{{protocol}}_{f}.{e}", f=CLAIMS_FIGURES, e=FIGURE),
    params:
        yaml=lambda wildcards: as_yaml(claims_parameters(wildcards)),
        engine=ENGINE_VERSION,
        code=CODE["06"],
    threads: workflow.cores
    shell:
        RUNNER


rule your_own_network:  # its record of scores is no output: an interrupted run goes on from it
    input:
        notebook=ancient(NOTEBOOKS / "07_your_own_network.ipynb"),
    output:
        executed=EXECUTED / "07_your_own_network.ipynb",
        tables=expand(RESULTS / "07_your_own_network" / "{t}.{e}", t=["history", "fresh", "summary"], e=TABLE),
        figures=expand(FIGURES / "07_{f}.{e}", f=["layers", "searches", "fresh"], e=FIGURE),
    params:
        yaml=as_yaml({"run": RUN} | config["your_own_network"]),
        code=CODE["07"],
    threads: workflow.cores
    shell:
        RUNNER


rule computation_graphs:
    input:
        notebook=ancient(NOTEBOOKS / "10_computation_graphs.ipynb"),
    output:
        executed=EXECUTED / "10_computation_graphs.ipynb",
        tables=expand(RESULTS / "10_computation_graphs" / "{t}.{e}", t=["graphs", "scores", "surgery", "latency", "captured"], e=TABLE),
        figures=expand(FIGURES / "10_{f}.{e}", f=["random_graph", "residual", "inception", "transformer"], e=FIGURE),
    params:
        yaml=as_yaml({"run": RUN} | config.get("computation_graphs", {})),
        code=CODE["10"],
    threads: workflow.cores  # latency is measured
    shell:
        RUNNER


rule edge_importance:  # the units that it keeps are no outputs: an interrupted run goes on from them
    input:
        notebook=ancient(NOTEBOOKS / "11_edge_importance.ipynb"),
    output:
        executed=EXECUTED / "11_edge_importance.ipynb",
        tables=expand(RESULTS / "11_edge_importance" / "{t}.{e}", t=IMPORTANCE_TABLES, e=TABLE),
        figures=expand(FIGURES / "11_{f}.{e}", f=["single", "predictions", "examples", "several", "costs"], e=FIGURE),
    params:
        yaml=as_yaml({"run": RUN} | config.get("edge_importance", {})),
        code=CODE["11"],
    threads: workflow.cores
    shell:
        RUNNER


rule cifar10_scenarios:  # its recorded units are no output: an interrupted run goes on from them
    input:
        notebook=ancient(NOTEBOOKS / "12_cifar10_scenarios.ipynb"),
    output:
        executed=EXECUTED / "12_cifar10_scenarios.ipynb",
        tables=expand(RESULTS / "12_cifar10_scenarios" / "{t}.{e}", t=[*SCENARIO_TABLES, "transferred"], e=TABLE),
        figures=expand(FIGURES / "12_{f}.{e}", f=[*SCENARIO_FIGURES, "transfer"], e=FIGURE),
    params:
        yaml=as_yaml({"run": RUN} | config.get("cifar10_scenarios", {})),
        code=CODE["12"],
    threads: workflow.cores
    shell:
        RUNNER


rule wikitext:
    input:
        notebook=ancient(NOTEBOOKS / "13_wikitext.ipynb"),
    output:
        executed=EXECUTED / "13_wikitext.ipynb",
        tables=expand(RESULTS / "13_wikitext" / "{t}.{e}", t=[*SCENARIO_TABLES, "at_share"], e=TABLE),
        figures=expand(FIGURES / "13_{f}.{e}", f=SCENARIO_FIGURES, e=FIGURE),
    params:
        yaml=as_yaml({"run": RUN} | config.get("wikitext", {})),
        code=CODE["13"],
    threads: workflow.cores
    shell:
        RUNNER


rule surrogate_search:  # the tables of its networks are no outputs: an interrupted run goes on from them
    input:
        notebook=ancient(NOTEBOOKS / "14_surrogate_search.ipynb"),
    output:
        executed=EXECUTED / "14_surrogate_search.ipynb",
        tables=expand(RESULTS / "14_surrogate_search" / "{t}.{e}", t=["ranks", "summary", "searches", "reached", "signed", "verdicts"], e=TABLE),
        figures=expand(FIGURES / "14_{f}.{e}", f=["correlations", "predictions", "regret"], e=FIGURE),
    params:
        yaml=as_yaml({"run": RUN} | config.get("surrogate_search", {})),
        code=CODE["14"],
    threads: workflow.cores
    shell:
        RUNNER


rule fixed_sparsity:
    input:
        expand(RESULTS / "03_fixed_sparsity_bo" / "{name}_summary.csv", name=NAMES),
    output:
        expand(RESULTS / "fixed_sparsity.{e}", e=TABLE),
        expand(FIGURES / "03_fixed_sparsity_bo.{e}", e=FIGURE),
    shell:
        sys.executable + " -m bogp.studies.fixed_sparsity.tables {RUN}"
