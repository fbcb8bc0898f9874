"""torchvision without its compiled operators.

torchvision's wheels are compiled against one build of torch each. Beside another one, such as a CPU
build of the same version, the library of operators cannot be loaded, and the import then fails: two
operators get a rule for shapes at once, without a question whether they are there. No network of
the table uses them; all that is needed is that they have a name.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

# As torchvision 0.28 defines them. The rest of its operators are guarded by itself.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT: list[torch.library.Library] = []  # what is defined goes when its library is collected


def make_importable() -> bool:
    """Let ``import torchvision`` work; call it before.

    Returns:
        Whether names had to be made up, because the compiled operators cannot be loaded.
    """
    if _KEPT or _compiled():
        return bool(_KEPT)
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _KEPT.append(library)
    return True


def _compiled() -> bool:
    """Whether the compiled operators are there and can be loaded."""
    found = importlib.util.find_spec("torchvision")
    folder = Path(found.origin).parent if found and found.origin else None
    for path in sorted(folder.glob("_C*.so")) if folder else ():
        try:
            torch.ops.load_library(str(path))
        except (ImportError, OSError):
            continue
        return True
    return False
