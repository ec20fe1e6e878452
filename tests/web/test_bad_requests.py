"""Every request of the corpus gets the error it should, in the one shape, and the next good one is answered."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from bad_requests import FILES, read_bad_requests

LEAST_CASES = 300


@pytest.mark.parametrize("file", FILES)
def test_every_bad_request_gets_its_error(client: FlaskClient, file: str) -> None:
    wrong = []
    for bad in read_bad_requests(file):
        answer = client.open(bad.route, method=bad.method, headers=dict(bad.headers), data=bad.body)
        wrong += [
            f"{bad.name}: {fault}"
            for fault in bad.faults(answer.status_code, answer.headers["X-Request-Id"], answer.data)
        ]
    assert not wrong, "\n".join(wrong)
    good = client.post("/predict", json={"features": [5.1, 3.5, 1.4, 0.2]})
    assert good.json == {"prediction": [0], "model": "iris", "version": "1"}


def test_the_corpus_is_large_and_names_each_case_once() -> None:
    names = [bad.name for file in FILES for bad in read_bad_requests(file)]
    assert len(names) == len(set(names)) >= LEAST_CASES
