"""What a long scoring has measured so far, in a file, so that it can be interrupted and go on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bogp.errors import InvalidInput
from bogp.structural.graph import ComputationGraph
from bogp.structural.traced.containers import tensors_of

_KIND = "losses without parts of a network"


class Journal:
    """Sums of losses over batches, by batch and removal, as lines of JSON.

    Args:
        path: of the file; it is made where there is none.
        belongs_to: a fingerprint of the network and the data (``fingerprint``).

    Raises:
        InvalidInput: the file belongs to another network or other data, or is no such file.
    """

    def __init__(self, path: str | Path, belongs_to: str) -> None:
        self.path = Path(path)
        self._sums: dict[str, Any] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        if not lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"kind": _KIND, "belongs_to": belongs_to}) + "\n")
        try:
            head, *rest = map(json.loads, lines or [json.dumps({"belongs_to": belongs_to})])
        except json.JSONDecodeError:
            head, rest = self._without_last(lines)
        if not isinstance(head, dict) or head.get("belongs_to") != belongs_to:
            raise InvalidInput(
                f"{self.path.name} was written for another network, other examples or another "
                "loss; give another file, or delete it."
            )
        for line in rest:
            self._sums[line["key"]] = line["sum"]

    def _without_last(self, lines: list[str]) -> tuple[Any, list[Any]]:
        """The lines but the last, which was being written when the work was interrupted."""
        try:
            head, *rest = map(json.loads, lines[:-1])
        except (ValueError, json.JSONDecodeError):
            raise InvalidInput(
                f"{self.path.name} is no record of a scoring; give another file, or delete it."
            ) from None
        self.path.write_text("".join(f"{line}\n" for line in lines[:-1]))
        return head, rest

    def __len__(self) -> int:
        return len(self._sums)

    def known(self, batch: int, closed: NDArray[Any]) -> Any:
        """The sum that was measured, a number or a list; None where there is none."""
        return self._sums.get(_key(batch, closed))

    def note(self, batch: int, closed: NDArray[Any], total: Tensor) -> None:
        """Keep a sum, at once."""
        key = _key(batch, closed)
        self._sums[key] = total.tolist()
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "sum": self._sums[key]}) + "\n")


def _key(batch: int, closed: NDArray[Any]) -> str:
    return f"{batch}:{hashlib.blake2b(closed.tobytes(), digest_size=12).hexdigest()}"


def fingerprint(graph: ComputationGraph, *others: Any) -> str:
    """A hash of a network's numbers and operations, and of other tensors and texts."""
    found = hashlib.blake2b(digest_size=16)
    found.update(graph.module.code.encode())
    for tensor in (*graph.module.state_dict().values(), *tensors_of(others)):
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    found.update(repr([o for o in others if isinstance(o, (str, int))]).encode())
    return found.hexdigest()
