"""Fills ``docs/_templates/*.md`` with the committed results and writes them as ``docs/*.md``
(``make results``).

The templates hold the prose, this module every number and table in it. A test compares the
committed pages with what is made here.
"""

import json
import re
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bogp import benchmark
from bogp.graphs.pixel_features import FEATURES
from bogp.outputs import as_markdown, with_interval
from bogp.statistics import Interval, paired_difference
from bogp.studies import answers
from bogp.studies.baselines import tables as table_1
from bogp.studies.baselines.measure import LIKE, PAPER
from bogp.studies.claims import reported, verdicts
from bogp.studies.claims.prediction import NESTED
from bogp.studies.depth_pruning import forms, subsets
from bogp.studies.edge_importance import plots as edge_importance
from bogp.studies.fixed_sparsity import tables as fixed_sparsity
from bogp.studies.mask_benchmark import tables as mask_tables
from bogp.studies.motivation import tables as motivation
from bogp.studies.places import designs as places_designs
from bogp.studies.places import tables as places_tables
from bogp.studies.scenarios import measure as scenarios
from bogp.studies.surrogates import fresh_tables, hard_search
from bogp.studies.surrogates.fresh import PRIORS
from bogp.studies.symmetries import measure as symmetries
from bogp.studies.symmetries import tables as symmetries_tables
from bogp.studies.tradeoff import pareto
from bogp.studies.tradeoff import tables as table_2
from bogp.training.engine import ENGINE_VERSION
from docs import measured
from docs.common import DOCS
from docs.measured import EVALUATIONS, RESULTS

TEMPLATES = DOCS / "_templates"
WIDTH = 100
GREEDY = ("flow_greedy", "exact_greedy")  # methods that look again after each removal


@cache
def table(name: str) -> pd.DataFrame:
    """A committed table, by its path below ``data/results/paper`` without ending."""
    return pd.read_csv(RESULTS / f"{name}.csv")


def linked(claims: pd.DataFrame) -> pd.DataFrame:
    """The table of claims with links to the tables behind them, under short names."""

    def link(name: str) -> str:
        return f"[{Path(name).stem.removeprefix('calibrated_')}](../data/results/paper/{name})"

    return claims.assign(table=[", ".join(map(link, n.split(", "))) for n in claims["table"]])


def claims() -> dict[str, str]:
    """The verdicts on the paper's claims, and what stands behind them (notebook 06)."""

    def committed(name: str) -> pd.DataFrame:
        return table(f"06_claims/calibrated_{name}")

    parts = committed("parts").set_index(["set", "part"])
    released, rest = (parts.loc[("released, s = 0.60", part)] for part in ("masks", "residual"))
    found = {
        "claims": as_markdown(linked(measured.claims_table())),
        "claims_findings": verdicts.findings(verdicts.overall(measured.judged())),
        "twins": f"{committed('twins').difference.max():.0e}",
        "released_design": f"{released.n_masks:.0f} masks x {released.n_seeds:.0f} seeds",
        "released_masks": f"{released['value']:.3f} [{released['low']:.3f}, "
        f"{released['high']:.3f}]",
        "released_p": f"{released['p']:.3f}",
        "released_rest": f"{rest['value']:.3f}",
    }
    for s in (60, 90):
        masks, rest = (parts.loc[(f"bernoulli, s = 0.{s}", part)] for part in ("masks", "residual"))
        found |= {f"masks_{s}": f"{masks['value']:.5f}", f"masks_{s}_high": f"{masks['high']:.5f}"}
        found |= {f"rest_{s}": f"{rest['value']:.5f}"}
    searches = committed("searches").set_index(["table", "method", "recommender"])
    gain = searches.loc[("s = 0.60", "box", "observed")]
    found |= {"gain_60": f"{gain.advantage:+.5f}"}
    found |= {"gain_60_low": f"{gain.low:+.5f}", "gain_60_high": f"{gain.high:+.5f}"}
    related = committed("regions_related")
    graph = related[(related.dataset == "mnist") & ~related["column"].isin(FEATURES)]
    largest = (
        graph.assign(size=graph["mean"].abs()).groupby(["numbering", "sparsity"])["size"].max()
    )
    for s in (75, 97):
        found |= {f"related_{s}": f"{largest['native', s / 100]:.2f}"}
        found |= {f"related_{s}_renumbered": f"{largest['relabelled', s / 100]:.2f}"}
    return found | beside_the_verdicts(committed)


def beside_the_verdicts(committed: Callable[[str], pd.DataFrame]) -> dict[str, str]:
    """What stands beside the verdicts of notebook 06: controls, ceilings, and the pools."""
    climbed = committed("slope_summary").rename(columns={"advantage": "mean"})
    top = committed("concentration").groupby("metric")["top"]
    predicted = committed("predicted")
    predicted = predicted[(predicted["predictor"] == "all") & (predicted["model"] == NESTED)]
    hidden = predicted[predicted["set"].str.startswith(("bernoulli", "all families"))]
    best = hidden.loc[hidden["rho"].idxmax()]
    gains, fresh = committed("pools"), committed("pools_fresh")
    shown = {
        "arm": gains["arm"],
        "sparsity": gains["sparsity"].map("{:.2f}".format),
        "gain": [
            with_interval(one.rename({"estimate": "mean"}), "+.4f") for _, one in gains.iterrows()
        ],
        "ceiling": [
            f"{one.ceiling:+.4f} [{one.ceiling_low:+.4f}, {one.ceiling_high:+.4f}]"
            for one in gains.itertuples()
        ],
    }
    return {
        "slopes": gains_of(climbed[climbed["method"] == "box"]),
        "slopes_l2": gains_of(climbed[climbed["method"] == "box_l2"]),
        "top_cosine": shares_of(top.get_group("cosine")),
        "top_l2": shares_of(top.get_group("l2")),
        "predicted": f"{best.rho:+.2f} [{best.rho_low:+.2f}, {best.rho_high:+.2f}] ({best['set']})",
        "predicted_ceiling": f"{best.rho_ceiling:.2f}",
        "informative": reported.informative(committed("margins")),
        "pool_count": f"{gains['n'].max()}",
        "pool_graphs": f"{committed('pools_tried')['graphs'].max():,}",
        "pool_chosen": f"{fresh.groupby(['sparsity', 'pool', 'arm'])['graph'].nunique().max()}",
        "pools": as_markdown(pd.DataFrame(shown)),
    }


def gains_of(climbed: pd.DataFrame) -> str:
    """What a search gains over chance on slopes, at each sparsity."""
    found = [f"{with_interval(one, '+.5f')} ({one['table']})" for _, one in climbed.iterrows()]
    return " and ".join(found)


def shares_of(values: pd.Series) -> str:
    """The range of shares, as percentages."""
    ends = [f"{end:.0%}" for end in (values.min(), values.max())]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def monotone() -> dict[str, str]:
    """Accuracy and graph properties on five nodes (notebook 01)."""
    names = ("graphs", "trainings", "correlations", "monotone")
    graphs, trainings, correlations, judged = (
        table(f"01_motivation/calibrated_{n}") for n in names
    )
    means = trainings[trainings.variant == "same"].groupby("graph").test_accuracy.mean()
    return {
        "monotone": as_markdown(
            motivation.beside_the_paper(graphs, trainings, correlations, judged)
        ),
        "monotone_conclusion": motivation.conclusion(correlations, judged),
        "motivation_seeds": f"{trainings.seed.nunique()}",
        "motivation_graphs": f"{len(means)}",
        "motivation_lowest": f"{means.min():.4f}",
        "motivation_highest": f"{means.max():.4f}",
    }


def known() -> dict[str, str]:
    """What a network can know of its mask (notebook 08)."""
    found = table("08_what_a_network_knows/known")
    rules = table("08_what_a_network_knows/rules")
    unknowable = symmetries_tables.unknowable(found, symmetries.CASES[0])
    related = table("08_what_a_network_knows/correlations").dropna(subset="mean")
    most = related.loc[related["mean"].abs().idxmax()]
    return {
        "known_most": f"{most['property']}, {with_interval(most, '+.2f')}",
        "known_graphs": f"{related['graphs'].max()}",
        "known": as_markdown(symmetries_tables.invariants(found)),
        "unknowable": ", ".join(unknowable),
        "unknowable_count": f"{len(unknowable)}",
        "known_rules": f"{(rules.verdict == 'met').sum()} of {len(rules)}",
    }


def searches() -> dict[str, str]:
    """The searches at a fixed sparsity, Table 1 and Table 2 (notebooks 03 to 05)."""
    fixed = table("fixed_sparsity")
    pruned, under_paper = (table(f"05_baselines/{p}_table1") for p in ("calibrated", "paper"))
    base = under_paper.query("method == 'base' and measure == 'test'")
    chosen = table("04_alpha_tradeoff_bo/calibrated_table2")
    compared = table("04_alpha_tradeoff_bo/calibrated_tables_compared")

    def accuracies(results: pd.DataFrame, accounting: str) -> str:
        return as_markdown(table_1.rendered(results, accounting, methods=set(table_1.LABELS)))

    return {
        "paper_base": f"{base['mean'].iloc[0]:.2f}",
        "fixed_sparsity": as_markdown(fixed_sparsity.rendered(fixed)),
        "fixed_sparsity_findings": fixed_sparsity.findings(fixed),
        "table_1_paper": accuracies(pruned, PAPER),
        "table_1_like": accuracies(pruned, LIKE),
        "table_1_paper_under_paper": accuracies(under_paper, PAPER),
        "table_1_like_under_paper": accuracies(under_paper, LIKE),
        "table_1_findings": table_1.findings(pruned),
        "table_2": as_markdown(table_2.rendered(chosen)),
        "tradeoff_searches": f"{chosen.n.min()}",
        "alpha_ranges": pareto.meaningless(table("04_alpha_tradeoff_bo/calibrated_alpha_ranges")),
        "tables_compared": table_2.can_both_be_true(compared),
    }


def speed() -> dict[str, str]:
    """Measured speed, where the time goes, and what bfloat16 changes."""
    from benchmarks import depth, versions
    from benchmarks.speed import markdown

    rates, before = table("speed").set_index("what"), table("speed_versions").earlier[0]
    found = {
        "speed": markdown(table("speed")),
        "processor": processor(),
        "shares": shares(table("speed_shares")),
        "versions": versions.markdown(table("speed_versions")),
        "kinds": kinds(table("speed_kinds")),
        "flow": flow(table("speed_flow")),
        "before_plain": f"{rates.plain.iloc[0] / before:.1f}",
        "depth": depth.markdown({name: table(name) for name in depth.TABLES}),
    }
    one = table("precision_calibrated").set_index("measure").loc["validation_accuracy"]
    return found | {
        "bfloat16_difference": f"{one.difference:+.5f}",
        "bfloat16_interval": f"[{one.low_90:+.5f}, {one.high_90:+.5f}]",
        "bfloat16_equivalent": "equivalent" if one.equivalent else "not shown to be equivalent",
        "bfloat16_spread": f"{one.spread_ratio:.2f} [{one.spread_low_95:.2f}, "
        f"{one.spread_high_95:.2f}]",
    }


def processor() -> str:
    """What the speed was measured on, as its record says."""
    about = json.loads((RESULTS / "speed.json").read_text())
    return str(about["hardware"]["processor"]).replace("(R)", "").replace(" Processor", "")


def shares(measured: pd.DataFrame) -> str:
    """Milliseconds of each part of a training, one column a protocol."""
    wide = measured.pivot(index="part", columns="protocol", values="ms")
    parts, protocols = measured["part"].unique(), measured["protocol"].unique()
    wide = wide.loc[parts, protocols]
    return as_markdown(wide.map(lambda ms: "" if pd.isna(ms) else f"{ms:.0f}").reset_index())


def kinds(measured: pd.DataFrame) -> str:
    """The two ways of each layer side by side, the one that the engine takes in bold."""
    ms = [f"{ms:.2f}" for ms in measured["ms"]]
    shown = measured.assign(
        ms=[f"**{x}**" if chosen else x for x, chosen in zip(ms, measured["chosen"], strict=True)],
        share=[f"{share:.0%}" for share in measured["share"]],
    )
    order = shown[["layer", "share"]].drop_duplicates()
    wide = shown.pivot(index=["layer", "share"], columns="way", values="ms").fillna("")
    wide = wide.reindex(pd.MultiIndex.from_frame(order))
    return as_markdown(wide[["kept weights", "lit pixels", "BLAS"]].reset_index())


def places() -> dict[str, str]:
    """Graphs with places: the rules, the field, other data, and nulls (notebook 09)."""

    def committed(name: str) -> pd.DataFrame:
        return table(f"09_graphs_with_places/{name}")

    rules, against, gained = (committed(name) for name in ("rules", "against", "gained"))
    main = places_designs.MAIN
    standing = places_tables.standing(committed("methods"), against, main)
    elsewhere = committed("against_elsewhere")
    left = committed("taken_away")
    keys, on_fashion = ["dataset", "against"], ("fashion-mnist", "random graph")
    at_main = against[against.sparsity == main].set_index("against")
    fixed = against[against.against == "placed: both"].set_index("sparsity")
    over = at_main["mean"]
    shown = gained.sort_values("effective_dimension", ascending=False)
    other = elsewhere[elsewhere.against.isin(["random graph", "lottery", "lamp"])]
    return {
        "places_rules": as_markdown(rules[["rule", "found", "verdict"]]),
        "places_methods": as_markdown(standing.drop(columns=["dataset", "sparsity"])),
        "places_data": as_markdown(places_tables.in_words(shown)),
        "places_elsewhere": as_markdown(places_tables.beside(other)),
        "places_left": as_markdown(
            pd.DataFrame(
                {
                    "what": left["kind"],
                    "over random graphs": [
                        with_interval(r, "+.4f") for r in left.to_dict("records")
                    ],
                }
            )
        ),
        "places_over_random": f"{over['random graph']:+.4f}",
        "places_over_lottery": f"{over['lottery']:+.4f}",
        "places_over_fixed_99": with_interval(fixed.loc[0.99], "+.4f"),
        "places_over_fixed": with_interval(fixed.loc[main], "+.4f"),
        "places_fashion_searched": with_interval(elsewhere.set_index(keys).loc[on_fashion], "+.4f"),
        "places_fashion_over_random": f"{elsewhere.set_index(keys)['mean'][on_fashion]:+.4f}",
        "places_fashion": f"{gained.set_index('dataset')['mean']['fashion-mnist']:+.4f}",
        "places_right": rules.set_index("rule")["found"]["statement"],
    }


def residual() -> dict[str, str]:
    """One graph on every block of a residual stream: rules, map and predictors (notebook 16)."""

    def committed(name: str) -> pd.DataFrame:
        return table(f"16_residual_stream/{name}")

    rules, cells, predicted = (committed(name) for name in ("rules", "shares", "predictors"))
    rarity, against = committed("rarity").set_index("database"), committed("against")
    printed = against.set_index(["searched", "database"]).loc["nine properties"]
    live = committed("confirmed").set_index("graphs of").loc["fresh"]
    spread = committed("fresh").groupby("family")["test_accuracy"].mean()
    text = committed("by_embeddings").set_index("embeddings")
    shown = cells.sort_values("icc", ascending=False)
    return {
        "stream_rules": as_markdown(rules[["rule", "found", "verdict"]]),
        "stream_cell": str(live["cell"]),
        "stream_best": f"{spread.idxmax()} {spread.max():.4f}",
        "stream_worst": f"{spread.idxmin()} {spread.min():.4f}",
        "stream_between": f"{live['between']:.4f}",
        "stream_rest": f"{live['rest']:.4f}",
        "stream_cells": as_markdown(
            pd.DataFrame(
                {
                    "network": shown["cell"],
                    "mean accuracy": [f"{x:.4f}" for x in shown["mean"]],
                    "sd of graphs": [f"{x:.4f}" for x in shown["between"]],
                    "sd of a training": [f"{x:.4f}" for x in shown["rest"]],
                    "intraclass correlation": [
                        f"{r.icc:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in shown.itertuples()
                    ],
                }
            )
        ),
        "stream_predictors": as_markdown(
            pd.DataFrame(
                {
                    "property": predicted["property"],
                    "Watts-Strogatz graphs": [
                        "undefined" if pd.isna(x) else f"{x:+.2f}" for x in predicted["known"]
                    ],
                    "other families, fresh": [
                        with_interval(r, "+.2f") for r in predicted.to_dict("records")
                    ],
                    "holds": ["yes" if x else "no" for x in predicted["agrees"]],
                }
            )
        ),
        "stream_share": f"{live['icc']:.2f}",
        "stream_gain": f"{printed['mean']['rarer']:+.4f}",
        "stream_permuted": with_interval(
            against.set_index(["searched", "database"]).loc["permuted properties", "rarer"], "+.4f"
        ),
        "stream_printed": as_markdown(
            pd.DataFrame(
                {
                    "database": list(rarity.index),
                    "graphs near the best": [f"{x:.1%}" for x in rarity["near_best"]],
                    "oracle over random search": [
                        f"{x:.4f}" for x in rarity["ceiling"] - rarity["best_of_25"]
                    ],
                    "printed algorithm over random search": [
                        with_interval(printed.loc[name], "+.4f") for name in rarity.index
                    ],
                }
            )
        ),
        "stream_text": f"{text['icc']['fixed']:.2f} [{text['low']['fixed']:.2f}, "
        f"{text['high']['fixed']:.2f}]",
        "stream_text_trained": f"{text['icc']['trained']:.2f} [{text['low']['trained']:.2f}, "
        f"{text['high']['trained']:.2f}]",
    }


def mask_benchmark() -> dict[str, str]:
    """The benchmark's data sheet and its first table of methods (notebook 17)."""

    def committed(name: str) -> pd.DataFrame:
        return table(f"17_mask_benchmark/{name}")

    masks, known, over = benchmark.load(), committed("known"), committed("against_random")
    agreement, ends = committed("agreement"), committed("ends")
    task = known["dataset"] + ", " + known["sparsity"].map("{:g}".format)
    counts = masks.table.pivot_table(
        index="family", columns="sparsity", values="id", aggfunc="size", sort=False
    )
    regret = 100 * ends.pivot_table(
        index="arm", columns=["dataset", "sparsity"], values="regret", sort=False
    )
    regret.columns = [f"{dataset}, {sparsity:g}" for dataset, sparsity in regret.columns]
    predicted = mask_tables.transfer(committed("predicted")).reset_index()
    record = masks.record
    taken = table("speed_masks").set_index("action")["seconds"]
    apart = over[(over["low"] > 0) | (over["high"] < 0)]["arm"]
    return {
        "mask_count": f"{len(masks):,}",
        "mask_load": f"{taken['load']:.2f}",
        "mask_query": f"{1e6 * taken['query']:.0f}",
        "mask_graphs": f"{1e3 * taken['graphs']:.1f}",
        "mask_search": f"{1e3 * taken['search']:.1f}",
        "mask_megabytes": f"{benchmark.data.FILE.stat().st_size / 1e6:.1f}",
        "mask_sha": f"{record['sha256']}",
        "mask_protocol": record["protocol"]["name"],
        "mask_engine": str(record["evaluations"]["mnist"]["engine_version"]),
        "mask_columns": str(len(masks.columns)),
        "mask_ceiling": f"{known['ceiling'].min():.2f} to {known['ceiling'].max():.2f}",
        "mask_told": "Told apart from random search after 25 masks (uncorrected for their number): "
        f"{', '.join(apart)}."
        if len(apart)
        else "No method is told apart from random search after 25 masks.",
        "mask_density": mask_tables.densities(masks.table),
        "mask_by_weights": f"{mask_tables.by_weights(masks):.2f}",
        "mask_counts": as_markdown(
            counts.fillna(0).astype(int).rename(columns="{:g}".format).reset_index()
        ),
        "mask_known": as_markdown(
            pd.DataFrame(
                {"pool": task}
                | {
                    name: (100 * known[name]).map("{:.2f}".format)
                    for name in ("mean", "oracle", "best")
                }
                | {
                    "between masks": (100 * known["between"]).map("{:.2f}".format),
                    "between trainings": (100 * known["rest"]).map("{:.2f}".format),
                    "share": known["icc"].map("{:.2f}".format),
                    "rank ceiling": known["rank_ceiling"].map("{:.2f}".format),
                }
            )
        ),
        "mask_agreement": as_markdown(
            agreement.map("{:.2f}".format).rename(
                columns={
                    "data_sets": "MNIST with Fashion-MNIST",
                    "mnist": "trainings on MNIST",
                    "fashion-mnist": "trainings on Fashion-MNIST",
                }
            )
        ),
        "mask_methods": as_markdown(
            pd.DataFrame(
                {
                    "method": over["arm"],
                    "over random search": [
                        with_interval({k: 100 * r[k] for k in ("mean", "low", "high")}, "+.2f")
                        for r in over.to_dict("records")
                    ],
                    "found with 80 % power": (100 * over["detectable"]).map("{:.2f}".format),
                    "ahead in": [f"{r.wins} of {r.n}" for r in over.itertuples()],
                    "of the gap": over["of_the_gap"].map("{:.0%}".format),
                }
            )
        ),
        "mask_regret": as_markdown(regret.map("{:.2f}".format).rename_axis("method").reset_index()),
        "mask_predicted": as_markdown(
            predicted.assign(
                **{c: predicted[c].map("{:.2f}".format) for c in ("fixed", "other families")}
            )
        ),
    }


def blocks() -> dict[str, str]:
    """How well the loss of sets of blocks is predicted, given their number (notebook 15)."""
    names = {"resnet20": "ResNet-20", "vit": "vision transformer"}
    names |= {"char_transformer": "transformer that reads characters"}

    def compared(found: pd.DataFrame, labels: dict[str, str]) -> str:
        shown = found.assign(network=found["network"].map(names), text=with_intervals(found))
        wide = shown.pivot(index="method", columns="network", values="text")
        rows = wide.loc[list(found["method"].unique()), list(names.values())]
        return as_markdown(rows.rename(index=labels).rename_axis("method").reset_index())

    given, other = (
        table(f"15_depth_pruning/{name}").query("measure == 'given'")
        for name in ("ranked_sets", "forms")
    )
    own = given[given["method"] == "flow"]
    return {
        "flow_blocks": ", ".join(
            f"{with_interval(one, '.2f')} ({names[one['network']]})"
            for one in own.to_dict("records")
        ),
        "flow_beside": compared(given, subsets.PREDICTORS),
        "flow_forms": compared(other, forms.FORMS),
    }


def trained_networks() -> dict[str, str]:
    """How well several removals from new trained networks are ranked (notebook 11)."""
    judged, found = (table(f"11_edge_importance/{n}") for n in ("flow_verdicts", "summary_fresh"))
    given = found[(found["measure"] == "given") & found["method"].isin(edge_importance.METHODS)]
    wide = given.assign(text=with_intervals(given)).pivot(
        index="method", columns="network", values="text"
    )
    order = [m for m in edge_importance.METHODS if m in wide.index]
    rows = wide.loc[order, list(judged["network"])].rename(edge_importance.TOGETHER)
    return {
        "flow_networks": ", ".join(
            f"{with_interval(one, '.2f')} ({one['network']}, wanted {one['wanted']}: "
            f"{one['verdict']})"
            for one in judged.to_dict("records")
        ),
        "flow_networks_n": f"{judged['n'].min():.0f}",
        "flow_over_losses": with_interval(vars(_over_losses("transformer")), "+.2f"),
        "flow_networks_compared": as_markdown(rows.rename_axis("method").reset_index()),
    }


def removal_costs() -> dict[str, str]:
    """What removal costs by each method, before and after fine-tuning (notebooks 12 and 13)."""
    found, tuned, closed, areas, fixed = (
        pd.concat([table(f"12_cifar10_scenarios/{name}"), table(f"13_wikitext/{name}")])
        for name in ("against_random", "tuned", "closing", "areas", "fixed_share")
    )
    kinds, names = list(closed["network"]), scenarios.METHODS
    after = tuned[tuned["against"] == "random"]
    new = tuned[tuned["against"] == "fine-tuned"].assign(method="new weights")
    new_name = {"new weights": "new weights in that of measured loss, less its fine-tuned ones"}
    some = [*GREEDY, "magnitude"]
    left = pd.concat([after[after["method"].isin(some)], new])
    gone = fixed.query("scenario == 'removal' and weights == 'kept'")
    parts = gone.groupby(["method", "network"])["share_parameters"].mean().unstack()
    by = areas.pivot(index=["network", "seed"], columns="method", values=["change", "accuracy"])
    flow, exact = GREEDY
    gaps = {n: paired_difference(by["change", flow][n], by["change", exact][n]) for n in kinds}
    shares = {value: _shares_saved(by[value], kinds) for value in ("change", "accuracy")}
    return {
        "removal_costs": as_markdown(_differences(found, kinds, list(names), names)),
        "removal_networks": f"{found['n'].min()}",
        "flow_saves": ", ".join(
            f"{shares['change'][n]:.0f} % ({n}, {with_interval(vars(gap), '+.2f')})"
            for n, gap in gaps.items()
        ),
        "flow_saves_accuracy": ", ".join(f"{shares['accuracy'][n]:.0f} % ({n})" for n in kinds),
        "parameters_gone": as_markdown(
            parts.loc[[*some, "random"], kinds]
            .map("{:.0%}".format)
            .rename(index=names)
            .rename_axis("method")
            .reset_index()
        ),
        "tuned_costs": as_markdown(
            _differences(left, kinds, [*some, "new weights"], names | new_name)
        ),
        "spreads": ", ".join(
            f"{one.before:.2f} to {one.after:.2f} ({one.network})" for one in closed.itertuples()
        ),
    }


def _shares_saved(by: pd.DataFrame, kinds: list[str]) -> dict[str, float]:
    """Of what measured losses, edge after edge, save against random removal, the part (%) that flow
    saves; means over networks.
    """
    mean = by.groupby("network").mean()
    saved = mean.sub(mean["random"], axis=0)
    flow, exact = GREEDY
    return (100 * saved[flow] / saved[exact])[kinds].to_dict()


def _differences(
    found: pd.DataFrame, kinds: list[str], methods: list[str], names: dict[str, str]
) -> pd.DataFrame:
    """Differences with their intervals, a row a method, a column a network."""
    ends = {"difference_low": "low", "difference_high": "high"}
    less = found.drop(columns=["low", "high"]).rename(columns=ends)
    texts = less.assign(text=with_intervals(less, "difference", "+.2f"))
    wide = texts.pivot(index="method", columns="network", values="text")
    rows = wide.loc[[m for m in methods if m in wide.index], kinds]
    return rows.rename(index=names).rename_axis("method").reset_index()


def _over_losses(network: str) -> Interval:
    """Flow less the sum of measured losses, paired over networks of a kind (notebook 11)."""
    found = table("11_edge_importance/fresh_several").query("network == @network")
    wide = found.pivot(index="seed", columns="method", values="given")
    return paired_difference(wide["flow"], wide["leave_one_out"])


def random_graphs() -> dict[str, str]:
    """How well masks and single edges of new random graphs are ranked (notebook 14)."""
    ranked, summary, signs, priors = (
        table(f"14_surrogate_search/{name}")
        for name in ("fresh_ranks", "fresh_summary", "fresh_signs", "priors")
    )
    of = summary[summary["masks"] == "connected"].set_index(["predictor", "measure"]).sort_index()
    flow, path = of.loc[("flow", "given")], of.loc[("path", "spearman")]
    sizes = list(ranked["size"].unique())
    flow, path = (one.set_index("size").loc[sizes] for one in (flow, path))
    without = [fresh_tables.LABELS[f"process_{prior}"] for prior in PRIORS]
    compared = fresh_tables.wide(summary).drop(index=without, level="predictor")
    gaps = signs[signs["measure"] == "given"]
    gaps = gaps.assign(text=with_intervals(gaps, "difference", "+.2f"))
    shown = priors.assign(text=with_intervals(priors, "difference", "+.2f"))
    return {
        "flow_graphs": f"{flow['n'].min():.0f}",
        "flow_given": ", ".join(f"{one.mean:.3f} ({one.Index})" for one in flow.itertuples()),
        "path_spearman": ", ".join(path["mean"].map("{:.2f}".format)),
        "path_evaluations": ", ".join(path["evaluations"].map("{:.0f}".format)),
        "flow_compared": _two_digits(compared).replace(
            f"| {path['evaluations'].max():.0f} |",
            f"| {path['evaluations'].min():.0f} to {path['evaluations'].max():.0f} |",
        ),
        **better_than_sample(table("14_surrogate_search/hard_searches")),
        "flow_signs": as_markdown(
            gaps.pivot(index="size", columns="logits", values="text")
            .loc[sizes]
            .reset_index()
            .rename(columns={"divided": "logits / 3"})
        ),
        "flow_priors": as_markdown(
            shown[shown["prior"] != "permuted"]
            .pivot(index=["task", "size", "evaluations"], columns="prior", values="text")
            .add_suffix(" less permuted")
            .reset_index()
        ),
        "flow_single": _two_digits(fresh_tables.singles(summary).rename(fresh_tables.LABELS)),
    }


def better_than_sample(searched: pd.DataFrame) -> dict[str, str]:
    """On how many large graphs a search from each prior found a better mask than the sample has."""
    last = searched.groupby(["prior", "size", "seed"])["regret"].last()
    found = (last < 0).groupby("prior").agg(["sum", "size"])
    others = {"taylor": "Taylor", "permuted": "permuted flow", "constant": "constant"}
    most = searched["evaluation"].max()
    return {
        "better_flow": f"{found.loc['flow', 'sum']} of {found.loc['flow', 'size']}",
        "better_others": ", ".join(
            f"{name} {found.loc[prior, 'sum']}" for prior, name in others.items()
        ),
        "hard_evaluations": f"{most}",
        "hard_sample": f"{most / hard_search.SHARE:,.0f}",
    }


def _two_digits(wide: pd.DataFrame) -> str:
    """A table of numbers by predictor (and evaluations), a column a class of graphs."""
    text = wide.map("{:.2f}".format).reset_index()
    if "evaluations" in text:
        text["evaluations"] = text["evaluations"].map("{:.0f}".format)
    return as_markdown(text.rename(columns={"predictor": "method"}))


def with_intervals(table: pd.DataFrame, value: str = "mean", form: str = ".2f") -> list[str]:
    """``with_interval`` of each row."""
    return [with_interval(one | {"mean": one[value]}, form) for one in table.to_dict("records")]


def flow(measured: pd.DataFrame) -> str:
    """What reading a flow model costs, network by network."""
    shown = pd.DataFrame(
        {
            "network": measured["network"],
            "forward pass": measured["forward_ms"].map("{:.0f} ms".format),
            "reading": measured["reading_ms"].map("{:.0f} ms".format),
            "in forward passes": measured["forward_passes"].map("{:.2f}".format),
            "at most": measured["at_most"],
            "verdict": measured["verdict"],
            "a prediction": measured["prediction_ms"].map("{:.0f} ms".format),
        }
    )
    return as_markdown(shown)


def cost() -> dict[str, str]:
    """How many networks were trained for notebooks 01 to 06, and how long that takes."""
    files = sorted(EVALUATIONS.glob("0[1-6]*.parquet"))
    rows = pd.concat([pd.read_parquet(f) for f in files]).drop_duplicates("key", ignore_index=True)
    # of the settings with small batches only this one makes so few steps
    full = rows[(rows.steps <= 50) & (rows.protocol_name != "... batches of 128")]
    (version,) = rows.engine_version.unique()
    return {
        "trainings": f"{rows.trainings.sum():,}",
        "full_batch": f"{full.trainings.sum():,}",
        "of_version": f"They were made by version {version} of the engine; the present one is "
        f"version {ENGINE_VERSION}, and they are being made again."
        if version != ENGINE_VERSION
        else "",
        "hours_recorded": f"{rows.seconds.sum() / 3600:.1f}",
    }


@cache
def values() -> dict[str, str]:
    """Every number and table that a template names."""
    structural = {"structural": answers.in_short(answers.answers(RESULTS))}
    first = claims() | known() | places() | residual() | monotone() | searches()
    first |= mask_benchmark() | blocks() | trained_networks() | random_graphs() | removal_costs()
    return first | structural | speed() | cost()


def wrapped(text: str) -> str:
    """Markdown with its prose and lists at most ``WIDTH`` wide; tables, code, images and headings
    stay.
    """
    blocks = re.split(r"(```.*?```)|\n\n+", text, flags=re.S)
    return "\n\n".join(_block(b.strip()) for b in blocks if b and b.strip()) + "\n"


def _block(block: str) -> str:
    if re.match(r"[|#`!]", block):
        return block
    options: dict[str, Any] = {"width": WIDTH, "break_long_words": False, "break_on_hyphens": False}
    items = re.split(r"\n(?=- )", block)
    lines = (" ".join(item.split()) for item in items)
    return "\n".join(
        textwrap.fill(i, subsequent_indent="  " * i.startswith("- "), **options) for i in lines
    )


def pages() -> dict[str, str]:
    """The pages by file name: each template, filled in.

    Raises:
        KeyError: a template names something that ``values`` does not have.
    """
    texts = {p.name: p.read_text(encoding="utf-8") for p in sorted(TEMPLATES.glob("*.md"))}
    return {name: wrapped(text.format_map(values())) for name, text in texts.items()}


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"docs/{name}")
