"""Small networks and tasks that structural pruning is tried on, and networks trained on them.

>>> from bogp import zoo
>>> model = zoo.trained("resnet20", seed=0)  # in evaluation mode
>>> task = zoo.data("resnet20")  # what it learnt from: train, calibration, validation, test
"""

from bogp.zoo.pretrained import data, trained

__all__ = ["data", "trained"]
