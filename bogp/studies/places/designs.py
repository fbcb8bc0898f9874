"""Sizes of notebook 09, and its rules: committed before the run that they judge.

What was seen before they were written: the pilot of the plan (few seeds), and on full MNIST and
Fashion-MNIST four to six masks a setting of the generator, with six variants of MNIST and one of
Fashion-MNIST (those in ``Design.explored``). No search, no baseline and none of ``Design.held_out``
had been run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bogp.checks import choice
from bogp.graphs.placed import PlacedSettings
from bogp.search.generator import Axis

MAIN = 0.97  # the sparsity of all that is asked at one sparsity
INF = float("inf")

# The six numbers of a placed mask, and how far a search may go.
SPACE = (
    Axis("first_locality", 0.5, 16.0, log=True),
    Axis("hidden_locality", 0.5, 16.0, log=True),
    Axis("salience", 0.0, 2.0),
    Axis("spread", 0.0, 1.5),
    Axis("loops", 0.0, 1.0),
    Axis("hidden_ratio", 0.25, 16.0, log=True),
)

# Fixed settings, which differ in one thing each: nothing placed, salience, locality, and both.
FIXED: Mapping[str, PlacedSettings] = {
    "no places": PlacedSettings(INF, INF, 0.0, 0.0, 1.0, 4.0),
    "salience": PlacedSettings(INF, INF, 1.0, 0.0, 1.0, 4.0),
    "locality": PlacedSettings(1.0, 1.0, 0.0, 0.0, 1.0, 4.0),
    "both": PlacedSettings(1.0, 1.0, 1.0, 0.0, 1.0, 4.0),
}

# What decides, by the statement of question 4: above it places are said to gain, below not.
EFFECTIVE_DIMENSION = 15.0
GAIN = 0.005

RULES: Mapping[str, str] = {
    "random graphs": "the search is at least .015 above random graphs: the interval's lower end",
    "zero-shot": "the search is above ERK, SNIP, GraSP, SynFlow: each interval wholly above 0",
    "lottery ticket": "the search is above the lottery ticket: interval wholly above 0",
    "bayesian": "Bayesian optimisation is above random search in the same space, on fresh masks "
    "and seeds: paired interval wholly above 0",
    "printed": "Algorithm 3 as printed, over labelled features, is above random search in the same "
    "database, on fresh seeds: paired interval wholly above 0",
    "learned": "with pixels shuffled and places learned, two thirds of the gain of the setting "
    "`both` over random graphs is left: the interval of (gain - two thirds) wholly above 0",
    "renumbered": "with nodes renumbered no gain is left: 90 % interval within .005 of random "
    "graphs",
    "statement": "on each data set held out, places gain .005 or more if the inputs' effective "
    "dimension is above 15, and less if not: all right",
}


@dataclass(frozen=True)
class Design:
    """How much is trained.

    Attributes:
        sparsities: at which methods are compared; ``MAIN`` is among them.
        searches: of each kind, at each sparsity.
        main_searches: at ``MAIN`` on the first data set.
        initial, proposed: points of a search before and after its surrogate is fitted.
        fresh: masks and seeds that judge what a search recommends.
        iterative: seeds of methods that take as many trainings as a search.
        masks: of fixed settings, nulls and variants, a seed each.
        explored: variants of data that suggested the statement of question 4.
        held_out: data sets that it is tested on.
        searched_on: data sets other than the first on which the generator is searched, too.
        variant_searches: searches on each of them.
        graphs: of the database of question 1.
        printed: searches of it, of each kind.
        printed_initial, printed_proposed: evaluations of such a search before and after its
            surrogate is fitted; the paper's are 5 and 20.
        known_seeds: trainings of each of its graphs, for the ceiling.
    """

    sparsities: tuple[float, ...]
    searches: int
    main_searches: int
    initial: int
    proposed: int
    fresh: int
    iterative: int
    masks: int
    explored: tuple[str, ...]
    held_out: tuple[str, ...]
    searched_on: tuple[str, ...]
    variant_searches: int
    graphs: int
    printed: int
    printed_initial: int
    printed_proposed: int
    known_seeds: int

    @property
    def budget(self) -> int:
        """Trainings of a search."""
        return self.initial + self.proposed


NAMED = {
    "smoke": Design(
        sparsities=(0.9, MAIN),
        searches=2,
        main_searches=2,
        initial=3,
        proposed=1,
        fresh=1,
        iterative=2,
        masks=2,
        explored=("mnist-5k+framed",),
        held_out=("mnist-5k+edges",),
        searched_on=("mnist-5k+framed",),
        variant_searches=2,
        graphs=12,
        printed=2,
        printed_initial=3,
        printed_proposed=1,
        known_seeds=2,
    ),
    "paper": Design(
        sparsities=(0.9, 0.95, MAIN, 0.985, 0.99),
        searches=20,
        main_searches=40,
        initial=8,
        proposed=17,
        fresh=4,
        iterative=5,
        masks=16,
        explored=(
            "mnist+cut",
            "mnist+framed",
            "mnist+blurred",
            "mnist+sharpened",
            "mnist+coarser",
            "fashion-mnist",
            "fashion-mnist+framed",
        ),
        held_out=(
            "mnist+edges",
            "mnist+finer",
            "fashion-mnist+cut",
            "fashion-mnist+blurred",
            "fashion-mnist+sharpened",
            "fashion-mnist+edges",
            "fashion-mnist+coarser",
            "cifar10-12k",
            "satimage",
        ),
        searched_on=(
            "mnist+framed",
            "fashion-mnist",
            "fashion-mnist+framed",
            "fashion-mnist+edges",
            "cifar10-12k",
            "satimage",
        ),
        variant_searches=8,
        graphs=400,
        printed=40,
        printed_initial=5,
        printed_proposed=20,
        known_seeds=4,
    ),
}


def named(name: str) -> Design:
    """The design of that name.

    Raises:
        InvalidInput: there is none.
    """
    return NAMED[choice("design", name, NAMED)]
