"""Requests that clients of other servers send: the same right response on every way in.

A file of corpus/field/requests is for one protocol; `about` says which. A case is sent to its `model`, the default of
the server it goes to, on the `route` of the case or the file, as `body` (JSON) or `text`. It has a `status` of 200 and
a `reply`, which may have more keys, or another status and what the message `says`; numbers are equal within 1e-6.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from requested_models import add_requested_models
from web.asking import MakeApp
from web.ways import Case, inline, pooled, routed, without_id

FOLDER = Path(__file__).parents[1] / "corpus" / "field" / "requests"
CASES = [
    shared | case | {"id": f"{path.stem}: {case['id']}"}
    for path in sorted(FOLDER.glob("*.json"))
    for shared in [{"headers": {}, "status": 200} | json.loads(path.read_text("utf-8"))]
    for case in shared.pop("cases")
]


@pytest.fixture(scope="module")
def serve(make_app: MakeApp, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FlaskClient]:
    """serve(name): an application with every model, whose default is this one."""
    store = tmp_path_factory.mktemp("requested")
    add_requested_models(store, tmp_path_factory.mktemp("files"))
    apps: dict[str, FlaskClient] = {}

    def make(name: str) -> FlaskClient:
        if name not in apps:
            apps[name] = make_app(store, models=name, allow_code=True, batch_max_rows=1)
        return apps[name]

    return make


def differs(got: Any, want: Any, at: str = "") -> str:
    """Where a document is not what was wanted; empty where it is."""
    if isinstance(want, dict) and isinstance(got, dict):
        found = (
            differs(got[key], value, f"{at}.{key}") if key in got else f"{at}.{key}" for key, value in want.items()
        )
        return next(filter(None, found), "")
    if isinstance(want, list) and isinstance(got, list) and len(got) == len(want):
        found = (differs(one, other, f"{at}[{n}]") for n, (one, other) in enumerate(zip(got, want, strict=True)))
        return next(filter(None, found), "")
    numbers = type(want) in (int, float) and type(got) in (int, float)
    same = math.isclose(got, want, rel_tol=1e-6, abs_tol=1e-6) if numbers else got == want
    return "" if same else f"{at}: {got!r} is not {want!r}"


def _case(known: dict[str, Any]) -> Case:
    body = known["text"].encode() if "text" in known else known.get("body")
    return Case(known["route"].replace("MODEL", known["model"]), body, known["status"], known["headers"])


@pytest.mark.parametrize("known", CASES, ids=[case["id"] for case in CASES])
def test_field_requests(serve: Callable[[str], FlaskClient], known: dict[str, Any]) -> None:
    client, case = serve(known["model"]), _case(known)
    answers = [way(client, case) for way in (pooled, routed)]
    service = client.application.extensions["berth"]
    if service.express._backend.predictor.may_answer_at_once(service.catalog.resolve(None)):
        answers.append(inline(client, case))
    status, _, body = answers[0]
    assert status == known["status"], body
    assert all(without_id(answer, case) == without_id(answers[0], case) for answer in answers)
    document = json.loads(body)
    if "reply" in known:
        assert differs(document, known["reply"]) == ""
        assert set(document) - set(known["reply"]) <= {"id", "model", "version", "model_name", "model_version"}
    else:
        assert known["says"] in document["error"]


def test_quick_models_answer_them_on_the_main_thread(serve: Callable[[str], FlaskClient]) -> None:
    client = serve("iris")
    service = client.application.extensions["berth"]
    assert service.express._backend.predictor.may_answer_at_once(service.catalog.resolve("iris"))
