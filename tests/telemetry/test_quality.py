"""What labels say: figures equal to scikit-learn's, intervals that hold, counts of pods that add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, root_mean_squared_error

from berth.errors import OperatorError
from berth.telemetry.feedback.intervals import estimate_mean, estimate_root, estimate_share
from berth.telemetry.feedback.labelled import Label, Labels, join_labels, read_labels
from berth.telemetry.feedback.offline_quality import describe_version, find_class_order, has_classes, split_versions
from berth.telemetry.feedback.quality import add_quality, describe_quality, is_worse_share, read_reference
from berth.telemetry.metrics.registry import Metrics
from berth.telemetry.payloads.logged_bodies import find_columns, find_outputs, read_payloads

RNG = np.random.default_rng(0)


def line(request_id: str, response: Any, request: Any = None, **fields: Any) -> dict[str, Any]:
    known = {"ts": "2026-11-30T12:00:00Z", "model": "iris", "version": "1", "status": 200, "slot": "blue"}
    return {**known, "request_id": request_id, "request": request, "response": response, **fields}


def write_truth(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows, ""]), "utf-8")
    return path


def _labels(by_key: dict[str, list[Label]]) -> Labels:
    return Labels(by_key, ("request_id", "truth"))


def test_wilsons_interval_is_the_published_one() -> None:
    """81 of 263: 0.2553 to 0.3662 (R. Newcombe, Statistics in Medicine 17, 1998, method 3)."""
    found = estimate_share(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert estimate_share(0, 20).low == pytest.approx(0, abs=1e-12)
    assert estimate_share(20, 20).high == pytest.approx(1)


def test_intervals_of_means_hold() -> None:
    held = [0, 0]
    for _ in range(2000):
        errors = RNG.exponential(1, 300)
        squares = errors**2
        mean = estimate_mean(300, errors.sum(), squares.sum())
        root = estimate_root(300, squares.sum(), (squares**2).sum())
        held[0] += mean.low <= 1 <= mean.high
        held[1] += root.low <= np.sqrt(2) <= root.high
    assert held[0] / 2000 > 0.93
    assert held[1] / 2000 > 0.85  # fourth powers of exponentials have long tails
    assert estimate_mean(1, 3.0, 9.0).describe() == {"value": 3.0, "low": None, "high": None}


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 0.98])
def test_an_equal_model_is_rarely_worse_and_a_bad_one_surely(share: float) -> None:
    equal = [is_worse_share(float(right), 200, share) for right in RNG.binomial(200, share, 4000)]
    assert np.mean(equal) < 0.012
    bad = [is_worse_share(float(right), 2000, share) for right in RNG.binomial(2000, share - 0.1, 1000)]
    assert np.mean(bad) > 0.99
    close = [is_worse_share(float(right), 100_000, share) for right in RNG.binomial(100_000, share - 0.02, 100)]
    assert not any(close)  # certain, and of no consequence


def test_a_reference_is_a_number() -> None:
    assert read_reference({"metrics": {"accuracy": 0.9, "mae": 1, "f1": 0.5}}) == {"accuracy": 0.9, "mae": 1.0}
    for bad in ({}, {"metrics": 3}, {"metrics": {"accuracy": "0.9", "mae": True}}, {"metrics": {"mae": -1}}):
        assert read_reference(bad) == {}


def report(right: int, wrong: int, reference: float | None = None) -> dict[str, Any]:
    metrics = Metrics()
    bound = metrics.bind("iris", "1")
    bound.count_truths("0", "0", True, right)
    bound.count_truths("0", "1", False, wrong)
    if reference is not None:
        bound.set_reference("accuracy", reference)
    return describe_quality(metrics.read("berth_feedback"))[0]


def test_reports_of_pods_add_up() -> None:
    one, other = report(90, 10, 0.9), report(60, 140, 0.9)
    added = add_quality([one, other])
    assert added == report(150, 150, 0.9)
    assert (added["labels"], added["accuracy"]["value"], added["worse"]) == (300, 0.5, True)
    assert (one["worse"], report(190, 10)["worse"]) == (None, None)
    assert {"predicted": "0", "truth": "1", "rows": 150} in added["confusion"]


def test_errors_and_rewards_of_pods_add_up() -> None:
    def observe(errors: list[float], rewards: list[float]) -> dict[str, Any]:
        metrics = Metrics()
        bound = metrics.bind("prices", "1")
        bound.observe_errors(errors)
        bound.set_reference("mae", 1.0)
        for reward in rewards:
            bound.observe_reward(reward)
        return describe_quality(metrics.read("berth_feedback"))[0]

    errors = [abs(value) for value in RNG.normal(0, 3, 400).tolist()]
    added = add_quality([observe(errors[:100], [1.0]), observe(errors[100:], [0.0, 0.5])])
    assert added["mae"]["value"] == pytest.approx(np.mean(errors))
    assert added["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert (added["reward"], added["worse"], added["labels"]) == (0.5, True, 400)
    assert sum(each["rows"] for each in added["errors"][-1:]) == 400


RESPONSES = [
    ({"prediction": [2], "probabilities": [[0.1, 0.2, 0.7]], "model": "iris"}, [2]),
    ({"outputs": {"prediction": [2, 1]}, "model": "iris"}, [2, 1]),
    ({"predictions": [2]}, [2]),
    ({"predictions": [{"prediction": 2, "probabilities": [0.1, 0.9]}]}, [2]),
    ({"outputs": [{"name": "prediction", "shape": [2], "datatype": "INT64", "data": [2, 0]}]}, [2, 0]),
]


@pytest.mark.parametrize(("response", "wanted"), RESPONSES)
def test_predictions_are_found_in_every_protocol(response: Any, wanted: list[Any]) -> None:
    assert find_outputs(line("a", response))["prediction"] == wanted


def test_probabilities_of_v2_are_rows() -> None:
    tensor = {"name": "probabilities", "shape": [2, 2], "data": [0.1, 0.9, 0.6, 0.4]}
    assert find_outputs(line("a", {"outputs": [tensor]}))["probabilities"] == [[0.1, 0.9], [0.6, 0.4]]
    assert find_outputs(line("a", {"truncated": True, "bytes": 9})) == {}


REQUESTS = [
    {"features": {"city": "Rom", "age": 3}},
    {"features": [{"city": "Rom"}]},
    {"inputs": {"city": ["Rom"]}},
    {"inputs": [{"name": "city", "shape": [1], "data": ["Rom"]}]},
    {"instances": [{"city": "Rom"}]},
    {"dataframe_split": {"columns": ["city"], "data": [["Rom"]]}},
    {"dataframe_records": [{"city": "Rom"}]},
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_named_columns_are_found_in_every_protocol(request_: Any) -> None:
    assert find_columns(line("a", None, request_))["city"] == ["Rom"]


@pytest.mark.parametrize("request_", [None, {"features": [[1, 2]]}, {"inputs": []}, {"truncated": True}])
def test_rows_without_names_have_no_columns(request_: Any) -> None:
    assert find_columns(line("a", None, request_)) == {}


def test_labels_are_joined_by_request_and_row(tmp_path: Path) -> None:
    lines = [
        line("a", {"prediction": [0, 1]}, {"features": [{"city": "Rom"}, {"city": "Ulm"}]}),
        line("a", {"prediction": [9, 9]}),  # sent again
        line("b", {"prediction": [2]}, ts="2026-12-01T00:00:01Z"),
        line("c", {"error": "no"}, status=400),
        line("d", {"binary": True}),
        line("e", {"prediction": [2]}),
    ]
    truth = write_truth(tmp_path / "t.csv", "request_id,truth,row", "a,1,1", "a,0,0", "b,1,", "d,1,", "x,1,", "e,,")
    joined = join_labels(lines, read_labels(truth, "request_id", "truth"), "request_id", "city")
    assert [(row.predicted, row.truth, row.part, row.day) for row in joined.rows] == [
        (1, "1", "Ulm", "2026-11-30"), (0, "0", "Rom", "2026-11-30"), (2, "1", "unknown", "2026-12-01"),
    ]  # fmt: skip
    assert (joined.labels, joined.requests, joined.unlabelled, joined.unreadable) == (5, 5, 2, 1)
    in_order = write_truth(tmp_path / "o.csv", "id,y", "a,0", "a,1", "a,7")
    rows = join_labels(lines, read_labels(in_order, "id", "y"), "request_id", "slot").rows
    assert [(row.predicted, row.truth, row.part) for row in rows] == [(0, "0", "blue"), (1, "1", "blue")]


def test_classes_are_measured_as_scikit_learn_does() -> None:
    features = RNG.normal(size=(400, 3))
    target = np.array(["low", "mid", "top"])[
        np.clip(np.round(features.sum(axis=1) + RNG.normal(size=400)), -1, 1).astype(int) + 1
    ]
    model = LogisticRegression().fit(features[:300], target[:300])
    scores, predicted = model.predict_proba(features), model.predict(features)
    lines = [
        line(str(at), {"prediction": [predicted[at]], "probabilities": [scores[at].tolist()]}) for at in range(400)
    ]
    labels: dict[str, list[Label]] = {str(at): [(None, str(target[at]), {})] for at in range(400)}
    rows = join_labels(lines, _labels(labels), "request_id").rows
    found = describe_version(rows, {"accuracy": 0.99})
    whole = found["groups"][-1]
    assert whole["accuracy"]["value"] == accuracy_score(target, predicted)
    assert whole["log_loss"]["value"] == pytest.approx(log_loss(target, scores))
    assert found["worse"] is True
    assert [group["day"] for group in found["groups"]] == ["2026-11-30", "all"]


def test_numbers_are_measured_as_scikit_learn_does() -> None:
    truth = RNG.normal(size=300)
    predicted = truth + RNG.normal(size=300)
    lines = [line(str(at), {"prediction": [float(predicted[at])]}) for at in range(300)]
    rows = join_labels(
        lines, _labels({str(at): [(None, repr(float(truth[at])), {})] for at in range(300)}), "request_id"
    ).rows
    assert not has_classes(rows)
    found = describe_version(rows, {"mae": 10.0})
    assert found["whole"]["mae"]["value"] == pytest.approx(mean_absolute_error(truth, predicted))
    assert found["whole"]["rmse"]["value"] == pytest.approx(root_mean_squared_error(truth, predicted))
    assert found["worse"] is False
    words = join_labels(lines[:1], _labels({"0": [(None, "high", {})]}), "request_id").rows
    with pytest.raises(OperatorError, match="is no number"):
        describe_version(words, {})


def test_without_the_classes_there_is_no_log_loss() -> None:
    """Of three probabilities one class was never predicted nor true: nobody knows which."""
    lines = [line("a", {"prediction": [0], "probabilities": [[0.8, 0.1, 0.1]]})]
    rows = join_labels(lines, _labels({"a": [(None, "0", {})]}), "request_id").rows
    assert find_class_order(rows) == ()
    assert "log_loss" not in describe_version(rows, {})["whole"]


def test_versions_are_apart() -> None:
    lines = [line("a", {"prediction": [0]}), line("b", {"prediction": [0]}, version="2")]
    rows = join_labels(lines, _labels({key: [(None, "0", {})] for key in "ab"}), "request_id").rows
    assert list(split_versions(rows)) == [("iris", "1"), ("iris", "2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,truth\n1,2\n", "no column 'request_id', only id, truth"),
        ("", "only none"),
        ("request_id,truth,row\na,1,x\n", "row 'x' is no"),
        ('request_id,truth\n"a,1\n', "cannot be read as CSV"),
    ],
)
def test_a_file_without_labels_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(OperatorError, match=message):
        read_labels(tmp_path / "t.csv", "request_id", "truth")


def test_a_file_that_is_no_payload_log_is_named(tmp_path: Path) -> None:
    log = tmp_path / "p.jsonl"
    good = b'{"request_id": "a", "status": 200, "request": null, "response": null}\n'
    log.write_bytes(good + b'\n{"request_id": "b", "sta')
    assert len(list(read_payloads(log))) == 1  # the writer was killed
    log.write_bytes(good + b"nothing\n")
    with pytest.raises(OperatorError, match=r"p.jsonl, line 2: not JSON"):
        list(read_payloads(log))
    log.write_bytes(b'{"a": 1}\n')
    with pytest.raises(OperatorError, match="line 1: no request_id, status and response"):
        list(read_payloads(log))
