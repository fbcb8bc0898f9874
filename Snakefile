# The papers as a workflow: a rule runs one notebook through the strict runner (bogp.run), or
# gathers what notebooks wrote. The names of a notebook's tables and figures are read from its code.
# A new notebook NN_name.ipynb needs no rule, only a section `name` in a profile.
#
#   profile.yaml ─> 01_motivation (one job per protocol)
#                ─> 02_mask_database
#                ─> 03_fixed_sparsity_bo (a job per protocol and sparsity) ──> fixed_sparsity
#                     └─> 05_baselines (a job per protocol and sparsity) ──> Table 1
#                ─> 04_alpha_tradeoff_bo (one job per alpha) ──> 04_alpha_tradeoff_bo: Table 2
#                ─> 06_claims, which reads the results of 01, 03, 04 and 05
#                ─> 07_your_own_network, and 10 to 15 (structural pruning): each stands alone
#
# Run it with `make reproduce PROFILE=smoke` or `make reproduce PROFILE=paper`. A result is stale
# when a parameter, an input, the notebook's code or the engine version changed. So a notebook is
# `ancient`: what counts of it stands in the parameters, not in the time of a file. A mask database
# is no input either: it follows from the parameters, and a notebook builds it if it is not there.
# What a notebook records while it runs is no output: an interrupted run goes on from it.
import json
import sys
from functools import partial
from pathlib import Path

from bogp import paths
from bogp.graphs.database import SCHEMA_VERSION
from bogp.graphs.database import named as database_spec
from bogp.training.engine import ENGINE_VERSION
from bogp.workflow.notebook import code_digest, declared_parameters, output_names

# What makes a notebook's results another thing than before. Most train with the engine; 02 builds a
# database, and those from 07 on have trainers of their own: the number is the one that was recorded
# when they did name the engine.
OWN_TRAINERS = {number: 2 for number in ("07", "10", "11", "12", "13", "14", "15")}
VERSIONS = {"02": SCHEMA_VERSION} | OWN_TRAINERS


workdir: str(paths.home())


wildcard_constraints:
    protocol="[a-z]+",
    sparsity=r"\d\.\d+",
    alpha=r"\d\.\d+",


def from_home(path):  # Snakemake's records then hold in any checkout, wherever it lies
    return path.relative_to(paths.home()) if path.is_relative_to(paths.home()) else path


RUN = config["run"]
RESULTS, FIGURES = from_home(paths.results_dir(RUN)), from_home(paths.figures_dir(RUN))
EVALUATIONS = from_home(paths.evaluations_dir(RUN))
MANIFEST = from_home(paths.database_dir(config["database"]["database"])) / "manifest.json"
EXECUTED, BUILD, FAILED = Path(config["executed"]), Path("build/cells") / RUN, paths.failed_dir(RUN)
FOUND = sorted(Path(workflow.basedir).glob("notebooks/*.ipynb"))
NOTEBOOKS = {path.stem[:2]: from_home(path) for path in FOUND}
RUNNER = (
    f"{sys.executable} -m bogp.run --no-progress --failed {{FAILED:q}}"
    " {input.notebook:q} {output.executed:q} -y {params.yaml:q}"
)

# Rules and sections of a profile have the names of notebooks, but for these.
NAMES = {number: path.stem[3:] for number, path in NOTEBOOKS.items()} | {"04": "tradeoff"}
SECTIONS = NAMES | {"02": "database", "03": "fixed_sparsity"}
# What the files of a job begin with, where a notebook has several jobs.
CASES = dict.fromkeys(["01", "04", "05", "06"], "{protocol}") | {"03": "{protocol}_s{sparsity}"}
ONE_ALPHA, ONE_SPARSITY = "{protocol}_a{alpha}", "{protocol}_s{sparsity}"
# Small notebooks wait for imports and compilers more than they compute: several share the cores.
THREADS = config.get("threads", workflow.cores)
PRIORITIES = {"02": 2, "03": 1}  # so that the first figures are there in a minute

HISTORY = RESULTS / "04_alpha_tradeoff_bo" / f"{ONE_ALPHA}_history.csv"
SEARCHED = EVALUATIONS / f"04_alpha_tradeoff_bo_{ONE_ALPHA}.parquet"
CHOSEN = RESULTS / "03_fixed_sparsity_bo" / f"{ONE_SPARSITY}_chosen.csv"
COMPARED = RESULTS / "05_baselines" / f"{ONE_SPARSITY}_results.csv"
COMPARISONS = EVALUATIONS / f"05_baselines_{ONE_SPARSITY}.parquet"
SUMMARIES = RESULTS / "03_fixed_sparsity_bo" / f"{ONE_SPARSITY}_summary.csv"
GATHERED = [RESULTS / "fixed_sparsity.csv", RESULTS / "fixed_sparsity.json"]
GATHERED += [FIGURES / "03_fixed_sparsity_bo.pdf", FIGURES / "03_fixed_sparsity_bo.png"]


def jobs(number):
    """The wildcards of each job of a notebook in this profile."""
    section = config.get(SECTIONS[number]) or {}
    if number == "03":
        of = {protocol: search["sparsities"] for protocol, search in section.items()}
        return [{"protocol": p, "sparsity": f"{s:.2f}"} for p in of for s in of[p]]
    return [{"protocol": p} for p in section] if number in CASES else [{}] if section else []


def tables(number, case):
    """Patterns of a notebook's tables; the names are read from its code."""
    names = output_names(NOTEBOOKS[number], "table")
    folder, begin = RESULTS / NOTEBOOKS[number].stem, f"{case}_" if case else ""
    return [folder / f"{begin}{name}.{ending}" for name in names for ending in ("csv", "json")]


def figures(number, case):
    """Patterns of a notebook's figures; the names are read from its code."""
    names = output_names(NOTEBOOKS[number], "figure")
    begin = f"{number}_{case}_" if case else f"{number}_"
    return [FIGURES / f"{begin}{name}.{ending}" for name in names for ending in ("pdf", "png")]


def executed(number):
    return EXECUTED / f"{number}_{CASES.get(number, NAMES[number])}.ipynb"


def each(pattern, section, grid, wildcards):
    """One file for each value of a protocol's grid: ``sparsities`` or ``alphas``."""
    values = [f"{value:.2f}" for value in config[section][wildcards.protocol][grid]]
    return expand(pattern, protocol=wildcards.protocol, sparsity=values, alpha=values)


def results(number, wildcards):
    """Results of other jobs that a notebook reads."""
    if number == "04":
        own = partial(each, section="tradeoff", grid="alphas", wildcards=wildcards)
        return own(HISTORY) + own(SEARCHED)
    if number in ("05", "06"):
        found = each(COMPARED, "baselines", "sparsities", wildcards)
    if number == "06":
        found += each(CHOSEN, "fixed_sparsity", "sparsities", wildcards)
        found += expand(RESULTS / "01_motivation" / "{protocol}_monotone.csv", **wildcards)
        compared = RESULTS / "04_alpha_tradeoff_bo" / "{protocol}_tables_compared.csv"
        found += expand(compared, **wildcards)
    return found if number in ("05", "06") else []


def parameters(number, wildcards, cell=None):
    """A notebook's parameters, as JSON, which is YAML."""
    declared, own, shared = declared_parameters(NOTEBOOKS[number]), config[SECTIONS[number]], {}
    if number in CASES:
        own = {"protocol": wildcards.protocol} | own[wildcards.protocol]
    if number in ("03", "05", "06"):  # they search the masks of notebook 02
        name = config["database"]["database"]
        spec = database_spec(name)
        shared = {"database": name, "masks_per_sparsity": spec.masks_per_sparsity}
        shared["database_sparsities"] = list(spec.sparsities)
    if number == "05":  # with the settings of notebook 03
        shared |= config["fixed_sparsity"][wildcards.protocol]
    if number == "03":
        own = own | {"sparsity": float(wildcards.sparsity)}
        own = {name: own[name] for name in own if name in declared}
    shared = {name: value for name, value in shared.items() if name in declared}
    return json.dumps({"run": RUN} | shared | own | (cell or {}))


def everything(number):
    case = CASES.get(number)
    return [executed(number), *tables(number, case), *figures(number, case)]


rule all:
    input:
        GATHERED,
        [expand(everything(number), **job) for number in NOTEBOOKS for job in jobs(number)],


for number, notebook in NOTEBOOKS.items():

    rule:
        name:
            NAMES[number]
        input:
            notebook=ancient(notebook),
            results=partial(results, number),
        output:
            executed=executed(number),
            tables=tables(number, CASES.get(number)),
            figures=figures(number, CASES.get(number)),
            database=[MANIFEST] if number == "02" else [],
        params:
            yaml=partial(parameters, number),
            version=VERSIONS.get(number, ENGINE_VERSION),
            code=code_digest(notebook),
        priority: PRIORITIES.get(number, 0)
        threads: THREADS
        shell:
            RUNNER


rule tradeoff_cell:  # one alpha of Table 2
    input:
        notebook=ancient(NOTEBOOKS["04"]),
    output:
        history=HISTORY,
        evaluations=temp(SEARCHED),
        executed=temp(BUILD / f"04_{ONE_ALPHA}.ipynb"),
        tables=temp(tables("04", ONE_ALPHA)),
        figures=temp(figures("04", ONE_ALPHA)),
    params:
        yaml=lambda wildcards: parameters(
            "04", wildcards, cell={"alphas": [float(wildcards.alpha)], "cell": True}
        ),
        version=ENGINE_VERSION,
        code=code_digest(NOTEBOOKS["04"]),
    threads: THREADS
    shell:
        RUNNER


rule baselines_cell:  # one sparsity of Table 1; what the whole table says better is deleted at once
    input:
        notebook=ancient(NOTEBOOKS["05"]),
        chosen=CHOSEN,
    output:
        results=COMPARED,
        evaluations=update(COMPARISONS),  # it starts from those that are there
        emptied=temp(EVALUATIONS / f"05_baselines_{ONE_SPARSITY}_emptied.parquet"),
        executed=temp(BUILD / f"05_{ONE_SPARSITY}.ipynb"),
        tables=temp(tables("05", ONE_SPARSITY)),
        figures=temp(figures("05", ONE_SPARSITY)),
    params:
        yaml=lambda wildcards: parameters(
            "05", wildcards, cell={"sparsities": [float(wildcards.sparsity)], "cell": True}
        ),
        version=ENGINE_VERSION,
        code=code_digest(NOTEBOOKS["05"]),
    threads: THREADS
    shell:
        RUNNER


rule fixed_sparsity:
    input:
        [expand(SUMMARIES, **job) for job in jobs("03")],
    output:
        GATHERED,
    priority: 1
    shell:
        f"{sys.executable} -m bogp.studies.fixed_sparsity.tables {{RUN}}"
