"""What becomes of a batch of messages: decoded as /predict decodes, one call, each message with its own outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from berth.app import create_app
from berth.consuming.broker_messages import (
    FAILED,
    PREDICTED,
    RECEIPT_HEADER,
    REFUSED,
    Message,
    with_headers,
)
from berth.consuming.message_answers import MessageAnswers
from berth.errors import InvalidInput
from berth.loaders.formats import LoadOptions
from berth.publishing.adding import AddRequest, add_version
from berth.tensors.arrays import TensorSpec

SETOSA, VIRGINICA = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
# Breaks on a batch that holds 13, and counts its calls.
_FRAGILE = """
def load(directory):
    calls = []
    def predict(inputs):
        calls.append(len(inputs["x"]))
        if 13 in inputs["x"]:
            raise RuntimeError("thirteen")
        return {"prediction": inputs["x"] * 0 + len(calls)}
    return predict
"""


def _open(store: Path, run_dir: Path, **settings: object) -> MessageAnswers:
    environ = {"BERTH_MODEL_STORE": str(store), "BERTH_RUN_DIR": str(run_dir), "BERTH_WORKERS": "1"}
    environ |= {f"BERTH_{name.upper()}": str(value) for name, value in settings.items()}
    app = create_app(environ)
    service = app.extensions["berth"]
    service.start()
    assert service.catalog.wait(20)
    return MessageAnswers(app.extensions["berth.pipeline"].backend, service.catalog.resolve(None))


@pytest.fixture(scope="module")
def iris(store: Path, tmp_path_factory: pytest.TempPathFactory) -> MessageAnswers:
    """iris@1, with receipts."""
    folder = tmp_path_factory.mktemp("iris")
    (folder / "keys").write_text("k" * 32)
    keys = {"feedback_key_file": folder / "keys", "max_body_bytes": 10_000}
    return _open(store, folder, models="iris@1", log_level="error", **keys)


def ask(answers: MessageAnswers, *values: Any) -> list[Any]:
    """The JSON of each message's outcome; for one without a prediction its code."""
    messages = [
        Message(value if value is None or isinstance(value, bytes) else json.dumps(value).encode()) for value in values
    ]
    found = []
    for outcome in answers.answer(messages):
        headers = dict(outcome.message.headers)
        if outcome.result == PREDICTED:
            found.append(json.loads(outcome.message.value or b""))
        else:
            assert outcome.result == REFUSED
            found.append(headers["berth-code"].decode())
    return found


def test_rows_records_and_bodies_in_one_batch(iris: MessageAnswers) -> None:
    rows = [SETOSA, dict(zip(NAMES, VIRGINICA, strict=True))]
    assert ask(iris, *rows) == [{"prediction": 0}, {"prediction": 2}]
    bodies = [
        {"features": SETOSA},
        {"features": [SETOSA, VIRGINICA]},
        {"inputs": {"features": [VIRGINICA]}, "outputs": ["prediction"]},
        {"features": [VIRGINICA], "outputs": ["probabilities"], "model": "iris", "version": "1"},
    ]
    who = {"model": "iris", "version": "1"}
    one, two, three, four = ask(iris, *bodies, SETOSA)[:4]
    assert (one, two) == ({"prediction": [0], **who}, {"prediction": [0, 2], **who})
    assert three == {"prediction": [2], **who}
    assert list(four) == ["probabilities", "model", "version"]
    assert sum(four["probabilities"][0]) == pytest.approx(1)


def test_bad_messages_alone_have_no_prediction(iris: MessageAnswers) -> None:
    bad: list[Any] = [
        None,
        b"[1, 2",
        b"",
        [1, 2],
        {},
        {"features": [SETOSA], "outputs": ["x"]},
        {"features": [SETOSA], "typo": 1},
    ]
    bad += [{"features": SETOSA, "model": "people"}, b"[" + b" " * 10_001 + b"]", "text", None]
    mixed = [value for each in bad for value in (each, SETOSA)]
    found = ask(iris, *mixed)
    assert found[1::2] == [{"prediction": 0}] * len(bad)
    refused = ["invalid_input", "malformed_json", "malformed_json", "invalid_input", "invalid_input", "unknown_output"]
    assert found[::2] == [*refused, *["invalid_input"] * 2, "body_too_large", *["invalid_input"] * 2]


def test_what_a_message_has_is_kept(iris: MessageAnswers) -> None:
    message = Message(json.dumps(SETOSA).encode(), b"key", 17, (("a", b"1"), ("a", b"2")), ("rows", 3, 17))
    good, bad = iris.answer([message, message._replace(value=b"x")])
    assert good.message._replace(value=message.value, headers=message.headers) == message
    assert good.message.headers[:3] == (*message.headers, ("berth-model", b"iris@1"))
    assert bad.message._replace(headers=message.headers) == message._replace(value=b"x")
    headers = dict(bad.message.headers)
    assert (headers["berth-code"], headers["berth-source"]) == (b"malformed_json", b"rows/3/17")


def test_each_prediction_has_its_own_receipt(iris: MessageAnswers) -> None:
    outcomes = iris.answer([Message(json.dumps(row).encode()) for row in (SETOSA, VIRGINICA)])
    receipts = [dict(outcome.message.headers)[RECEIPT_HEADER].decode() for outcome in outcomes]
    read = [iris._backend.tally.read_receipt(receipt) for receipt in receipts]
    assert [each.predictions for each in read] == [(0.0,), (2.0,)]


def test_a_header_that_is_sent_again_is_replaced() -> None:
    message = Message(b"1", headers=(("berth-model", b"old@1"), ("x", b"y")))
    assert with_headers(message, b"2", ("berth-model", "new@1")).headers == (("x", b"y"), ("berth-model", b"new@1"))


def test_a_model_that_breaks_on_a_batch_is_bisected_to_the_row(tmp_path: Path) -> None:
    (tmp_path / "fragile").mkdir()
    (tmp_path / "fragile" / "model.py").write_text(_FRAGILE, "utf-8")
    specs = (TensorSpec("x", "FP64", (-1,)),)
    request = AddRequest("fragile", "1", "python", inputs=specs, outputs=(TensorSpec("prediction", "FP64", (-1,)),))
    add_version(tmp_path / "store", tmp_path / "fragile", request, LoadOptions(allow_code=True))
    answers = _open(tmp_path / "store", tmp_path, allow_code=True, log_level="error")
    calm = answers.answer([Message(b'{"x": %d}' % number) for number in range(10)])
    calls = {json.loads(outcome.message.value or b"")["prediction"] for outcome in calm}
    assert len(calls) == 1  # one call for all of them
    outcomes = answers.answer([Message(b'{"x": %d}' % number) for number in range(64)])
    assert [number for number, outcome in enumerate(outcomes) if outcome.result == FAILED] == [13]
    assert {outcome.result for outcome in outcomes} == {PREDICTED, FAILED}
    headers = dict(outcomes[13].message.headers)
    assert headers["berth-code"] == b"prediction_failed"
    assert b"thirteen" in headers["berth-error"]
    assert outcomes[13].message.value == b'{"x": 13}'


def test_a_model_of_single_rows_is_refused(echo_store: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    answers = _open(echo_store, tmp_path, allow_code=True, log_level="error")
    with pytest.raises(InvalidInput, match="several rows at once"):
        MessageAnswers(answers._backend, replace(answers._model, batchable=False))
