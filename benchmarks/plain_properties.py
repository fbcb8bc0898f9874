"""The plain way of measuring graphs, which the benchmarks compare with: networkx, one graph after
another.

As a script it is Algorithm 1: draws masks, measures them, writes a table.

    python -m benchmarks.plain_properties MASKS_PER_SPARSITY OUTPUT.csv
"""

import csv
import sys

import networkx as nx
import numpy as np

SPARSITIES = (0.15, 0.30, 0.45, 0.60, 0.75, 0.90, 0.95)


def five_properties(mask: np.ndarray) -> tuple[float, ...]:
    """The paper's five properties of one mask."""
    return _five(nx.from_numpy_array(mask.astype(int)))


def nine_properties(mask: np.ndarray) -> tuple[float, ...]:
    """All nine; NaN where the graph is disconnected."""
    graph = nx.from_numpy_array(mask.astype(int))
    connected = nx.is_connected(graph)
    return (
        *_five(graph),
        float(np.mean(list(nx.average_degree_connectivity(graph).values()))),
        nx.average_shortest_path_length(graph) if connected else float("nan"),
        nx.s_metric(graph),
        nx.wiener_index(graph) if connected else float("nan"),
    )


def _five(graph: nx.Graph) -> tuple[float, ...]:
    return (
        float(np.mean(list(nx.degree_centrality(graph).values()))),
        nx.average_clustering(graph),
        nx.edge_connectivity(graph),
        float(np.mean(list(nx.eigenvector_centrality(graph, max_iter=10_000).values()))),
        _cycle_length(graph),
    )


def _cycle_length(graph: nx.Graph) -> int:
    try:
        return len(nx.find_cycle(graph))
    except nx.NetworkXNoCycle:
        return 0


def main(masks: int, output: str) -> None:
    """Draw, measure, write."""
    rng = np.random.default_rng(0)
    with open(output, "w", newline="") as file:  # noqa: PTH123
        writer = csv.writer(file)
        for sparsity in SPARSITIES:
            for _ in range(masks):
                upper = np.triu(rng.random((128, 128)) < 1 - sparsity)
                mask = upper | upper.T
                writer.writerow(
                    [sparsity, *nine_properties(mask), np.packbits(mask).tobytes().hex()]
                )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
