from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from bogp.graphs.relational import layer_masks
from bogp.studies.claims import settings
from bogp.training.evaluation import Job, Recipe
from bogp.training.protocols import CALIBRATED, CONVERGED, LITERAL, PAPER, RELEASED, Protocol

SMALL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=4)


def changed(before, after):
    """The fields, without the name, that differ, with their new values."""
    old, new = asdict(before), asdict(after)
    return {field: new[field] for field in new if field != "name" and new[field] != old[field]}


def test_the_path_leads_from_paper_to_calibrated_by_one_change_at_a_time_which_the_name_says():
    path = settings.path()
    assert (path[0], path[-1]) == (PAPER, CALIBRATED)
    steps = {
        after.name: changed(before, after) for before, after in zip(path, path[1:], strict=False)
    }
    assert steps == {
        "... held-out images": {"split": "held_out"},
        "... learning rate 0.01": {"learning_rate": 0.01},
        "... batches of 128": {"batch_size": 128},
        "... 780 steps": {"steps": 780},
        "calibrated": {"schedule": "linear"},
    }


def test_readings_differ_from_paper_in_what_they_say_alone():
    readings = settings.readings()
    assert readings[-3:] == (RELEASED, LITERAL, CONVERGED)
    assert {p.name: changed(PAPER, p) for p in readings[:-1]} == {
        "paper, learning rate 3e-3": {"learning_rate": 0.003},
        "paper, learning rate 3e-2": {"learning_rate": 0.03},
        "paper, learning rate 3e-1": {"learning_rate": 0.3},
        "paper, learning rate 3e4, as printed": {"learning_rate": 30_000.0},
        # 468 whole batches in 60,000 images
        "paper, 50 epochs in batches of 128": {"batch_size": 128, "steps": 23_400},
        "paper, raw inputs": {"input_scaling": "raw"},
        "paper, softmax twice": {"loss": "softmax_cross_entropy"},
        "released": {"input_scaling": "raw", "loss": "softmax_cross_entropy"},
        "literal": {"widths": (784, 128, 10), "scope": "input"},
    }


def test_an_epoch_of_batches_is_of_the_images_that_there_are():
    whole, small = settings.readings(), settings.readings(4_000)
    assert [p.steps for p, q in zip(small, whole, strict=True) if p != q] == [50 * 31]


def test_the_audited_protocols_are_the_path_and_the_readings_of_a_data_set(digits):
    found = settings.protocols(digits, 16)
    images = len(digits.train) + len(digits.validation)
    assert found == (*settings.path(), *settings.readings(images)) and images < 5_000
    assert settings.protocols(digits, 6) == settings.path()


def test_no_two_protocols_of_the_audit_have_one_name_or_one_meaning():
    everything = (*settings.path(), *settings.readings())
    assert len({p.name for p in everything}) == len({p.id for p in everything}) == len(everything)


def test_the_audit_trains_the_unpruned_network_under_each_protocol_from_each_seed(evaluator):
    protocols = (
        replace(SMALL, name="b"),
        replace(SMALL, name="a", split="reported"),
        replace(SMALL, name="c", widths=(784, 8, 10), scope="all"),
    )
    audited = settings.audit(protocols, 2, "mnist-5k", evaluator)
    assert list(audited.columns) == [
        "protocol",
        "seed",
        "validation_accuracy",
        "test_accuracy",
        "key",
    ]
    assert audited[["protocol", "seed"]].to_numpy().tolist() == [
        [name, seed] for name in "bac" for seed in (0, 1)
    ]
    assert evaluator.trained == 6
    jobs = [
        Job(Recipe(layer_masks(None, p.widths, ())), seed, p, "mnist-5k")
        for p in protocols
        for seed in (0, 1)
    ]
    known = evaluator.evaluate(jobs)
    assert evaluator.trained == 6  # the very same trainings
    pd.testing.assert_frame_equal(
        audited[["validation_accuracy", "test_accuracy", "key"]],
        known[["validation_accuracy", "test_accuracy", "key"]],
    )
    assert (known["model_sparsity"] == 0).all()
    reported = audited["protocol"] == "a"
    # there these are the same images
    np.testing.assert_array_equal(
        audited["validation_accuracy"] == audited["test_accuracy"], reported
    )


def test_audits_of_some_protocols_and_of_more_agree(evaluator):
    protocols = [replace(SMALL, name=str(steps), steps=steps) for steps in (2, 3)]
    alone = settings.audit(protocols[1:], 2, "mnist-5k", evaluator)
    both = settings.audit(protocols, 2, "mnist-5k", evaluator)
    pd.testing.assert_frame_equal(alone, both.tail(2).reset_index(drop=True))


def test_a_summary_has_the_mean_of_each_protocol_in_the_order_of_the_audit():
    audited = pd.DataFrame(
        {"protocol": ["z", "z", "a", "a"], "test_accuracy": [0.5, 0.7, 0.9, 0.9]}
    )
    found = settings.summary(audited)
    assert found["protocol"].tolist() == ["z", "a"]
    assert found["mean"].tolist() == pytest.approx([0.6, 0.9])
    half = 12.706204736 * 0.1  # t quantile of 1 degree of freedom, times the standard error
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([0.6 - half, 0.6 + half])
    assert found["n"].tolist() == [2, 2]
