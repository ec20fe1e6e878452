"""What an experiment file may say, and what is said of one that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from berth.errors import SettingsError
from berth.experiments.arm_signatures import check_arms
from berth.experiments.experiment_file import Arm, Experiment, Shadow, Unit, parse_experiments
from berth.models.manifest import Manifest
from berth.tensors.arrays import TensorSpec

ARMS = [{"model": "churn@3", "weight": 90}, {"model": "churn@4", "weight": 10}]
GOOD = {"name": "q4", "model": "churn", "arms": ARMS}


def parse(*experiments: Any) -> tuple[Experiment, ...]:
    return parse_experiments(json.dumps({"experiments": list(experiments)}))


def test_the_contracts_file() -> None:
    fixed, bandit, shadow = parse(
        GOOD | {"unit": "header:X-User-Id", "policy": "fixed", "seed": "s"},
        {"name": "price", "model": "price", "arms": [{"model": "price@1"}, {"model": "price@2"}],
         "policy": "thompson", "floor": 0.01, "minimumRewards": 100, "halfLifeDays": 0},
        {"name": "next", "model": "iris", "shadow": {"model": "iris@2", "share": 0.2}},
    )  # fmt: skip
    assert fixed == Experiment(
        "q4", "churn", (Arm("churn", "3", 90), Arm("churn", "4", 10)), Unit("header", "X-User-Id"), seed="s"
    )
    assert (bandit.policy, bandit.seed, bandit.unit, [arm.weight for arm in bandit.arms]) == (
        "thompson", "price", Unit(), [1, 1],
    )  # fmt: skip
    assert (shadow.arms, shadow.shadow) == ((), Shadow(Arm("iris", "2"), 0.2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "a b"}, "experiment 1: name must be 1 to 64 letters"),
        ({"model": "churn@3"}, "experiment 'q4': model must be the public name of a model, without a version"),
        ({"arms": []}, "arms must be a list of 1 to 16, got a list of 0"),
        ({"arms": [{"model": "churn"}]}, "experiment 'q4', arm 1: model must be NAME@VERSION, got 'churn'"),
        ({"arms": [{"model": "churn@3", "weight": -1}]}, "weight must be a number from 0 up, got -1"),
        ({"arms": [{"model": "churn@3", "weight": True}]}, "weight must be a number from 0 up, got true"),
        ({"arms": [{"model": "churn@3", "weight": 0}]}, "all weights are 0"),
        ({"arms": [ARMS[0], ARMS[0]]}, "an arm is listed twice in churn@3, churn@3"),
        ({"arms": [{"model": "churn@3", "share": 1}]}, "arm 1: unknown key 'share'; known are model, weight"),
        ({"unit": "header"}, 'unit must be "header:NAME", "field:COLUMN" or "request", got \'header\''),
        ({"unit": "cookie:a"}, "unit must be"),
        ({"policy": "greedy"}, "policy must be fixed or thompson or epsilon, got 'greedy'"),
        ({"seed": 4}, "seed must be a string, got 4"),
        ({"floor": 0.6}, "floor must be a number from 0 to 0.5, got 0.6"),
        ({"epsilon": 2}, "epsilon must be a number from 0 to 1, got 2"),
        ({"halfLifeDays": 0.5}, "halfLifeDays must be 0 (off) or 1 and more"),
        ({"shadow": {"model": "churn@5", "share": 2}}, "share must be a number from 0 to 1, got 2"),
        ({"ploicy": "fixed"}, "experiment 1: unknown key 'ploicy'"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(GOOD | change)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "the file must be an object, got a list of 0"),
        ("{}", "experiments must be a list of at most 32, got null"),
        ('{"experiments": [], "experiments": []}', "the key 'experiments' is duplicated in one object"),
    ],
)
def test_a_file_that_is_none(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match="^" + said.replace("[", r"\[")):
        parse_experiments(text)


def test_names_are_used_once() -> None:
    with pytest.raises(SettingsError, match="two experiments have the name 'q4'"):
        parse(GOOD, GOOD | {"model": "other"})
    with pytest.raises(SettingsError, match="two experiments have the model 'churn'"):
        parse(GOOD, GOOD | {"name": "other"})


X = TensorSpec("x", "FP64", (-1, 2), columns=("age", "user"))
Y = TensorSpec("prediction", "INT64", (-1,), labels=(0, 1))


def manifest(x: TensorSpec = X, y: TensorSpec = Y) -> Manifest:
    return Manifest("churn", "1", "onnx", "", {}, (x,), (y,))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (manifest(TensorSpec("x", "FP32", (-1, 2), X.columns)), "the datatype of input 'x' is FP64 and FP32"),
        (manifest(TensorSpec("y", "FP64", (-1, 2))), "the inputs are x and y"),
        (manifest(TensorSpec("x", "FP64", (-1, 2))), "the columns of input 'x' is age, user and none"),
        (manifest(X, TensorSpec("prediction", "INT64", (-1,), labels=(1, 0))), "the labels of output 'prediction'"),
    ],
)
def test_arms_that_differ_are_named(other: Manifest, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_arms(parse(GOOD), {"churn@3": manifest(), "churn@4": other})
    assert f"experiment 'q4': churn@3 and churn@4 differ: {said}" in caught.value.message


def test_arms_are_served_and_have_the_units_column() -> None:
    served = {"churn@3": manifest(), "churn@4": manifest()}
    check_arms(parse(GOOD), served)
    check_arms(parse(GOOD | {"unit": "field:user"}), served)
    with pytest.raises(SettingsError, match="unit field:city is no column of its arms; columns are age, user"):
        check_arms(parse(GOOD | {"unit": "field:city"}), served)
    with pytest.raises(SettingsError, match=r"churn@4 is not served; add it to BERTH_MODELS \(served: churn@3\)"):
        check_arms(parse(GOOD), {"churn@3": manifest()})
    alone = {"name": "next", "model": "churn", "shadow": {"model": "churn@9", "share": 1}}
    with pytest.raises(SettingsError, match="churn@9 is not served"):
        check_arms(parse(alone), served)
    with pytest.raises(SettingsError, match="no version of 'nobody' is served"):
        check_arms(parse(alone | {"model": "nobody"}), served)
