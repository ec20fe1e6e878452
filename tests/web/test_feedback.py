"""Receipts on predictions, and labels for them at another server: counted once, exactly, and forged ones never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error

from berth.errors import DuplicateFeedback
from berth.telemetry.feedback.tally import MOST_REMEMBERED, FeedbackTally
from berth.telemetry.metrics.registry import Metrics
from berth.web.auth import encode_key
from web.asking import MakeApp, refused, told
from web.test_ways_in import CASES, GOOD
from web.ways import Case, inline

SECRET = "s" * 32
HEADER = "X-Berth-Receipt"
SERVED = "iris@1,iris@2,people,prices"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "keys"
    file.write_text(f"{SECRET}\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def maker(make_app: MakeApp, store: Path, secrets: Path) -> FlaskClient:
    """The server that predicts."""
    return make_app(store, models=SERVED, feedback_key_file=secrets)


@pytest.fixture
def other(make_app: MakeApp, store: Path, secrets: Path) -> FlaskClient:
    """Another one with the same secret, which has counted nothing yet."""
    return make_app(store, models=SERVED, feedback_key_file=secrets)


@pytest.fixture(scope="module")
def counting(make_app: MakeApp, store: Path, secrets: Path) -> FlaskClient:
    """Another one, whose counts no test looks at."""
    return make_app(store, models=SERVED, feedback_key_file=secrets)


@pytest.fixture(scope="module")
def refusing(make_app: MakeApp, store: Path, secrets: Path) -> FlaskClient:
    """Another one, which no test sends anything that counts."""
    return make_app(store, models=SERVED, feedback_key_file=secrets)


def receipt_of(client: FlaskClient, **document: Any) -> str:
    answer = client.post("/predict", json=document or GOOD)
    assert answer.status_code == 200
    return str(answer.headers[HEADER])


def counts(client: FlaskClient, name: str) -> dict[str, float]:
    """A metric's samples by their own labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def total(client: FlaskClient, name: str) -> float:
    return sum(counts(client, name).values())


def feedback_total(client: FlaskClient) -> float:
    return sum(
        total(client, f"berth_feedback_{name}")
        for name in ("total", "confusion_total", "error_count", "reward_count", "delay_seconds_count")
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.path}-{case.status}")
def test_every_way_to_predict_gives_a_receipt(maker: FlaskClient, counting: FlaskClient, case: Case) -> None:
    """But for refusals, and for requests that want no prediction to compare."""
    answer = maker.post(case.path, data=case.data, headers=case.fields)
    wants = b'"outputs": ["probabilities"]' not in case.data
    assert (HEADER in answer.headers) == (case.status == 200 and wants)
    assert (HEADER in inline(maker, case)[1]) == (HEADER in answer.headers)
    if HEADER in answer.headers:
        assert told(counting.post("/feedback", json={"receipt": answer.headers[HEADER], "truth": 0}))["accepted"] == 1


def test_there_is_none_without_the_setting(client: FlaskClient, maker: FlaskClient) -> None:
    assert HEADER not in client.post("/predict", json=GOOD).headers
    answer = client.post("/feedback", json={"receipt": receipt_of(maker), "truth": 0})
    assert "BERTH_FEEDBACK_KEY_FILE" in refused(answer, code="invalid_receipt")


def test_labels_at_another_server_give_the_accuracy(maker: FlaskClient, other: FlaskClient) -> None:
    features, target = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 150, 1000)
    truth = np.where(rng.random(1000) < 0.2, rng.integers(0, 3, 1000), target[chosen])
    items, predicted = [], []
    for start in range(0, 1000, 50):
        rows = chosen[start : start + 50]
        answer = maker.post("/predict", json={"features": features[rows].tolist()})
        predicted += told(answer)["prediction"]
        items.append({"receipt": answer.headers[HEADER], "truth": truth[start : start + 50].tolist()})
    assert told(other.post("/feedback", json=items)) == {"accepted": 20, "rejected": []}
    found = counts(other, "berth_feedback_total")
    right = sum(value for key, value in found.items() if 'result="right"' in key)
    assert right / sum(found.values()) == accuracy_score(truth, predicted)
    confusion = counts(other, "berth_feedback_confusion_total")
    for label in range(3):
        same = sum(
            rows for key, rows in confusion.items() if f'predicted="{label}"' in key and f'truth="{label}"' in key
        )
        assert same == sum(1 for one, two in zip(truth, predicted, strict=True) if one == two == label)
    assert total(other, "berth_feedback_delay_seconds_count") == 20
    again = other.post("/feedback", json=items)
    assert {item["code"] for item in again.get_json()["rejected"]} == {"duplicate_feedback"}
    assert sum(counts(other, "berth_feedback_total").values()) == 1000


def test_numbers_give_the_error(maker: FlaskClient, other: FlaskClient) -> None:
    rows = np.random.default_rng(1).normal(size=(60, 2))
    answer = maker.post("/predict", json={"model": "prices", "features": rows.tolist()})
    predicted, truth = np.array(told(answer)["prediction"]), rows.sum(axis=1) + 1
    item = {"receipt": answer.headers[HEADER], "truth": truth.tolist()}
    assert told(other.post("/feedback", json=item))["accepted"] == 1
    assert total(other, "berth_feedback_error_count") == total(other, "berth_feedback_squared_error_count") == 60
    squares = total(other, "berth_feedback_squared_error_sum")
    assert total(other, "berth_feedback_error_sum") / 60 == pytest.approx(
        mean_absolute_error(truth, predicted), rel=1e-5
    )
    assert squares / 60 == pytest.approx(mean_squared_error(truth, predicted), rel=1e-5)


def test_rewards_and_named_predictions(maker: FlaskClient, other: FlaskClient) -> None:
    text = receipt_of(maker)
    assert told(other.post("/feedback", json={"receipt": text, "reward": 0.25}))["accepted"] == 1
    assert total(other, "berth_feedback_reward_sum") == 0.25
    assert total(other, "berth_feedback_reward_count") == 1
    assert told(other.post("/feedback", json={"receipt": text, "truth": 0}))["accepted"] == 1  # of another kind
    named = {"model": "iris", "version": "2", "prediction": [0, 1], "truth": [0, 2]}
    assert told(other.post("/feedback", json=named))["accepted"] == 1
    assert sorted(counts(other, "berth_feedback_total").values()) == [1, 1, 1]
    assert all(f'version="{version}"' in " ".join(counts(other, "berth_feedback_total")) for version in (1, 2))


def test_equal_predictions_have_receipts_of_their_own(maker: FlaskClient, counting: FlaskClient) -> None:
    items = [{"receipt": receipt_of(maker), "truth": 0} for _ in range(20)]
    assert len({item["receipt"] for item in items}) == 20
    assert told(counting.post("/feedback", json=items))["accepted"] == 20


def test_changed_receipts_count_nothing(maker: FlaskClient, refusing: FlaskClient) -> None:
    text, rng = receipt_of(maker), np.random.default_rng(0)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    items: list[dict[str, Any]] = []
    while len(items) < 1000:
        at, letter = int(rng.integers(len(text))), letters[int(rng.integers(64))]
        if text[at] != letter:
            items.append({"receipt": text[:at] + letter + text[at + 1 :], "truth": 0})
    answer = refusing.post("/feedback", json=items)
    assert answer.status_code == 400
    assert answer.get_json()["accepted"] == 0
    assert {item["code"] for item in answer.get_json()["rejected"]} == {"invalid_receipt"}
    assert feedback_total(refusing) == 0


def test_some_of_a_list_may_be_rejected(maker: FlaskClient, counting: FlaskClient) -> None:
    items = [{"receipt": receipt_of(maker), "truth": 0}, {"receipt": "x", "truth": 0}, 7]
    document = told(counting.post("/feedback", json=items), 207)
    assert document["accepted"] == 1
    assert [(item["index"], item["code"]) for item in document["rejected"]] == [
        (1, "invalid_receipt"),
        (2, "invalid_input"),
    ]


NAMED = {"model": "iris", "version": "1", "prediction": 0}


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"truth": "rose"}, "invalid_input", "truth 'rose' is not a class of this model; send one of 0, 1, 2"),
        ({"truth": [[0]]}, "invalid_input", "is not a class"),
        ({"truth": [0, 1]}, "invalid_input", "truth has 2 values for 1 predictions"),
        ({"truth": 0, "prediction": 9}, "invalid_input", "prediction 9 is not a class"),
        ({"truth": 0, "model": "roses"}, "model_not_found", "roses"),
        ({"truth": 0, "model": "prices", "prediction": "high"}, "invalid_input", "prediction must be a number"),
        ({"truth": 0, "version": None}, "invalid_input", "model and version must be strings"),
        ({"truth": 0, "when": "now"}, "invalid_input", "send receipt with truth or reward"),
        ({}, "invalid_input", "send receipt with truth or reward"),
    ],
)
def test_what_is_wrong_is_said(refusing: FlaskClient, change: dict[str, Any], code: str, said: str) -> None:
    assert said in refused(refusing.post("/feedback", json=NAMED | change), code=code)
    assert feedback_total(refusing) == 0


@pytest.mark.parametrize("reward", [-0.1, 1.1, True, "1", None])
def test_a_reward_is_between_0_and_1(maker: FlaskClient, refusing: FlaskClient, reward: Any) -> None:
    answer = refusing.post("/feedback", json={"receipt": receipt_of(maker), "reward": reward})
    assert "from 0 to 1" in refused(answer)


@pytest.mark.parametrize("items", [[], [NAMED | {"truth": 0}] * 10_001], ids=["none", "10001"])
def test_a_list_has_1_to_10000_items(refusing: FlaskClient, items: list[Any]) -> None:
    assert "send 1 to 10000 items" in refused(refusing.post("/feedback", json=items))


def test_a_key_counts_for_its_models_only(make_app: MakeApp, store: Path, secrets: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"bob:{encode_key('two')}:people\n", "utf-8")
    guarded = make_app(store, models=SERVED, feedback_key_file=secrets, api_keys_file=tmp_path / "keys")
    assert guarded.post("/feedback", json=NAMED | {"truth": 0}).status_code == 401
    answer = guarded.post("/feedback", json=NAMED | {"truth": 0}, headers={"X-Api-Key": "two"})
    assert answer.get_json()["rejected"][0]["code"] == "forbidden"


def test_only_the_last_receipts_are_remembered() -> None:
    tally = FeedbackTally(Metrics().bind)
    tally.claim("truth", "first")
    with pytest.raises(DuplicateFeedback):
        tally.claim("truth", "first")
    for number in range(MOST_REMEMBERED):
        tally.claim("truth", f"receipt-{number}")
    tally.claim("truth", "first")


def test_a_number_that_is_too_large_is_not_compared(other: FlaskClient) -> None:
    named = {"model": "prices", "version": "1", "prediction": [1e300, 1.0], "truth": [0, 1.5]}
    assert told(other.post("/feedback", json=named))["accepted"] == 1
    assert total(other, "berth_feedback_error_count") == 1
    assert total(other, "berth_feedback_squared_error_sum") == 0.25


def test_the_document_s_example_is_counted(counting: FlaskClient) -> None:
    content = counting.get("/openapi.json").get_json()["paths"]["/feedback"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    assert set(examples) == {"iris@1", "iris@2", "people@1", "prices@1"}
    for example in examples.values():
        assert told(counting.post("/feedback", json=example["value"]))["accepted"] == 1


def test_a_key_sees_the_quality_of_its_models(make_app: MakeApp, store: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"all:{encode_key('a')}\nann:{encode_key('b')}:people\n", "utf-8")
    client = make_app(store, models=SERVED, api_keys_file=tmp_path / "keys")
    label = {"model": "iris", "version": "1", "prediction": [0, 1], "truth": [0, 2]}
    assert client.post("/feedback", json=label, headers={"X-Api-Key": "a"}).status_code == 200
    assert client.get("/quality").status_code == 401
    (seen,) = told(client.get("/quality", headers={"X-Api-Key": "a"}))["models"]
    assert (seen["model"], seen["right"], seen["wrong"], seen["worse"]) == ("iris", 1, 1, None)
    hidden = told(client.get("/quality", headers={"X-Api-Key": "b"}))
    assert hidden["models"] == []
    assert "POST /feedback" in hidden["reason"]
    assert client.get("/quality?model=iris", headers={"X-Api-Key": "b"}).status_code == 403
