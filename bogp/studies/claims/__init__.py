"""The paper's claims, tested (notebook 06): a module for each experiment, and the rules.

- ``designs``: how many masks, seeds and searches each experiment has
- ``settings``: which training settings give which unpruned accuracy
- ``crossed``: every mask trained from every seed: what is the mask, what is the seed
- ``prediction``: what graph properties say of accuracy
- ``exchangeable``: networks that graph properties cannot tell apart, and the other way round
- ``replay``: searches on a table of measured (or planted) accuracies, with their controls
- ``controls``: searches on planted slopes of all signs, and what look-ups return
- ``reported``: what was reported, against fresh seeds; Table 1 with equivalence tests
- ``defects``: the defects of the released code, switched on
- ``regions``: where graphs differ
- ``pools``: graph or pixels? What a choice by properties gains, by independent pools
- ``evidence``: from the tables of all experiments to evidence on each claim
- ``verdicts``: the rules that turn evidence into verdicts
- ``plots``: the figures
"""

NOTEBOOK = (
    "06_claims"  # folder of its results, and start of the names of its figures and evaluations
)
