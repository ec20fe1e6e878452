"""Files scored offline: equal to the server's answers, whatever the chunks, however often the run is killed."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.errors import InvalidInput, OperatorError
from berth.loaders.formats import LoadOptions
from berth.models.model import Model
from berth.models.store import find_version
from berth.publishing.adding import AddRequest, add_version
from berth.score.chunks import RowSource
from berth.score.file_formats import FORMATS, find_format
from berth.score.job import Job, score_file
from berth.score.parts import Places, open_part
from berth.score.progress import Done
from berth.serving.opening import open_version
from berth.tensors.arrays import Array, Tensors, TensorSpec
from estimator_frames import FRAMES
from web.asking import MakeApp

BOTH = ("prediction", "probabilities")
PEOPLE: list[Any] = [
    {"age": 20.5, "city": "Rome", "member": 1},
    {"age": 50, "city": "Oslo", "member": 0.0},
    {"age": "old", "city": "Oslo", "member": 0.0},
    {"age": 30, "city": "Nowhere", "member": 1},
    {"age": 30, "city": 7, "member": 1},
    {"age": None, "city": "Rome", "member": 1},
    {"age": 30, "member": 1},
    [41.5, "Bern", 0],
    [41.5, "Bern"],
    "a word",
    {"age": 33.125, "city": 'Größe, "Å"\n', "member": 1},
]


def score(job: Job, model: Model, on_chunk: Callable[[Done], None] = lambda done: None) -> Done:
    """The job, done."""
    return score_file(job, model, lambda source, done: None, on_chunk)


def job_of(input_: Path, output: str = "out.jsonl", outputs: Sequence[str] = BOTH, **more: Any) -> Job:
    """A job whose files stand beside its input."""
    place = input_.with_name(output)
    formats = [find_format(path) for path in (input_, place)]
    assert formats[0]
    assert formats[1]
    places = Places(place, place.with_name(place.name + ".errors.jsonl"))
    return Job(input_, places, formats[0], formats[1], tuple(outputs), **more)


def written(path: Path, rows: Sequence[Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def lines(path: Path) -> list[Any]:
    """The documents of a file of JSON lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


@pytest.fixture(scope="module")
def opened(store: Path) -> Callable[[str], Model]:
    """opened("iris@1"): a model of the store."""
    models: dict[str, Model] = {}

    def find(key: str) -> Model:
        if key not in models:
            models[key] = open_version(find_version(store, *key.split("@")), LoadOptions(), "warn")
        return models[key]

    return find


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A store with a model that takes missing strings and numbers, and rows of both."""
    estimator, frame = FRAMES["columns"]()
    folder, store = tmp_path_factory.mktemp("gaps"), tmp_path_factory.mktemp("gaps-store")
    joblib.dump(estimator, folder / "gaps.joblib")
    frame.dropna().to_csv(folder / "gaps.csv", index=False)
    add_version(store, folder / "gaps.joblib", AddRequest("gaps", "1", sample=folder / "gaps.csv"), LoadOptions())
    return store, json.loads(frame.to_json(orient="records"))


def ask(client: FlaskClient, model: str, rows: Any) -> Any:
    """The server's answer."""
    name, _, version = model.partition("@")
    body = {"features": rows, "model": name, "version": version, "outputs": list(BOTH)}
    return client.post("/predict", json=body).get_json()


def start(job: Job, model: Model) -> Done:
    """The job, done; how far it was at its start."""
    started: list[Done] = []
    score_file(job, model, lambda source, done: started.append(done), lambda done: None)
    return started[0]


def pairs(answer: Mapping[str, Any]) -> Iterable[tuple[Any, Any]]:
    """Both outputs of each row."""
    return zip(*(answer[name] for name in BOTH), strict=True)


def test_each_row_is_answered_as_a_request(client: FlaskClient, opened: Callable[[str], Model], tmp_path: Path) -> None:
    job = job_of(written(tmp_path / "in.jsonl", PEOPLE), chunk_rows=1)
    done = score(job, opened("people@1"))
    assert (done.rows, done.failed) == (len(PEOPLE), 6)
    failures = {failure["row"]: failure for failure in lines(job.places.errors)}
    for number, (row, found) in enumerate(zip(PEOPLE, lines(job.places.output), strict=True), 1):
        answer = ask(client, "people@1", [row])
        if "error" in answer:
            assert found == {"prediction": None, "probabilities": None}
            if isinstance(row, dict | list):  # /predict has other words for what is no row at all
                assert failures[number] == {"row": number, "code": answer["code"], "message": answer["error"]}
        else:
            assert found == {name: answer[name][0] for name in BOTH}
            assert number not in failures


@pytest.mark.parametrize("key", ["people@1", "iris@1", "iris@2"])
def test_a_chunk_is_answered_as_a_request(
    client: FlaskClient, opened: Callable[[str], Model], iris_rows: list[Any], tmp_path: Path, key: str
) -> None:
    rows = (
        [PEOPLE[at] for at in (0, 1, 3, 10)] if key == "people@1" else [[*row[:3], row[3] + 0.1] for row in iris_rows]
    )
    outputs = {output.name for output in opened(key).outputs}
    assert set(BOTH) <= outputs
    job = job_of(written(tmp_path / "in.jsonl", rows))
    assert score(job, opened(key)).failed == 0
    answer = ask(client, key, rows)
    assert lines(job.places.output) == [dict(zip(BOTH, row, strict=True)) for row in pairs(answer)]


def test_missing_values_are_answered_as_requests(
    gaps: tuple[Path, list[dict[str, Any]]], make_app: MakeApp, tmp_path: Path
) -> None:
    store, rows = gaps
    assert any(row["town"] is None for row in rows)
    assert any(row["income"] is None for row in rows)
    model = open_version(find_version(store, "gaps"), LoadOptions(), "warn")
    answer = ask(make_app(store), "gaps@1", rows)
    job = job_of(written(tmp_path / "in.jsonl", rows))
    assert score(job, model).failed == 0
    found = lines(job.places.output)
    assert found == [dict(zip(BOTH, row, strict=True)) for row in pairs(answer)]
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    from_csv = job_of(tmp_path / "in.csv", "csv.jsonl")
    assert score(from_csv, model).failed == 0
    assert lines(from_csv.places.output) == found


LINES = [
    "[5.1,3.5,1.4,0.2]", '{"features":[6.1,2.9,4.7,1.4]}', "[7,3.2,6,2.5]", "[1,2,3]", "[1,2,3,4,5]", '["a",2,3,4]',
    "[null,2,3,4]", "{", "7", '{"x":1}', "", "   ", '{"features":[1,2],"features":[1]}', "[[1,2,3,4]]", "NaN",
]  # fmt: skip
CELLS = [
    "5.1,3.5,1.4,0.2", '"6.1",2.9, 4.7 ,1.4', "7,3.2,6,2.5", "1,2,3", "1,2,3,4,5", "a,2,3,4", ",2,3,4", '"a\n",1,2,3',
    "", '1,2,"3"x,4', "inf,1,2,3", "1,2,3,\xe4",
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=12), st.integers(2, 13))
def test_chunks_change_nothing_in_jsonl(opened: Callable[[str], Model], rows: list[str], chunk_rows: int) -> None:
    _same_whatever_the_chunks(opened("iris@2"), "in.jsonl", "\n".join(rows).encode(), chunk_rows)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(CELLS), max_size=12), st.integers(2, 13))
def test_chunks_change_nothing_in_csv(opened: Callable[[str], Model], rows: list[str], chunk_rows: int) -> None:
    content = "\n".join(["a,b,c,d", *rows]).encode("latin-1")
    _same_whatever_the_chunks(opened("iris@2"), "in.csv", content, chunk_rows)


def _same_whatever_the_chunks(model: Model, name: str, content: bytes, chunk_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        input_ = Path(folder, name)
        input_.write_bytes(content)
        jobs = [job_of(input_, f"{rows}.csv", chunk_rows=rows) for rows in (1, chunk_rows)]
        done = [score(job, model) for job in jobs]
        assert (done[0].rows, done[0].failed) == (done[1].rows, done[1].failed)
        assert jobs[0].places.output.read_bytes() == jobs[1].places.output.read_bytes()
        assert lines(jobs[0].places.errors) == lines(jobs[1].places.errors)
        assert len(lines(jobs[0].places.errors)) == done[0].failed
        assert len(table(jobs[0].places.output)) == done[0].rows


class Killed(BaseException):
    """The run ends here."""


def killed_after(chunks: int) -> Callable[[Done], None]:
    """An end after so many chunks."""
    seen: list[Done] = []

    def on_chunk(done: Done) -> None:
        seen.append(done)
        if len(seen) == chunks:
            raise Killed

    return on_chunk


def mixed(folder: Path, ending: str) -> Path:
    """Twenty-three rows for iris, the tenth of which are bad, with an `id` beside them."""
    if ending == "parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
        features = [[row * 0.3 + at for at in range(3 + (row % 10 != 9))] for row in range(23)]
        path = folder / "in.parquet"
        parquet.write_table(
            pa.table({"id": [f"r{row}" for row in range(23)], "features": features}), path, row_group_size=11
        )
        return path
    if ending == "jsonl":
        rows = [[row * 0.3 + at for at in range(4)] for row in range(23)]
        return written(
            folder / "in.jsonl",
            [{"id": f"r{at}", "features": row[: 3 + (at % 10 != 9)]} for at, row in enumerate(rows)],
        )
    text = "".join(f'"r\n{row}",{row * 0.3},{row},{"x" if row % 10 == 9 else 1},4\n' for row in range(23))
    (folder / "in.csv").write_text("id,a,b,c,d\n" + text)
    return folder / "in.csv"


@pytest.mark.parametrize("output", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_killed_run_goes_on(opened: Callable[[str], Model], tmp_path: Path, ending: str, output: str) -> None:
    if output == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    model = opened("iris@2")
    whole = job_of(mixed(tmp_path, ending), f"whole.{output}", chunk_rows=4, keep=("id",))
    calls: list[Done] = []
    whole_done = score(whole, model, calls.append)
    assert 0 < whole_done.failed < 4
    for chunks in range(1, len(calls) + 1):
        job = job_of(tmp_path / whole.input.name, f"{chunks}.{output}", chunk_rows=4, keep=("id",))
        with pytest.raises(Killed):
            score(job, model, killed_after(chunks))
        assert not job.places.output.exists()
        for part in (job.places.part, job.places.errors_part):  # the disk had more than the state tells
            part.write_bytes(part.read_bytes() + b"half a li")
        assert start(job, model) == calls[chunks - 1]
        assert job.places.output.read_bytes() == whole.places.output.read_bytes()
        assert job.places.errors.read_bytes() == whole.places.errors.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []


@pytest.mark.parametrize("moved", [(), ("errors",), ("errors", "output")])
def test_a_run_killed_at_its_very_end(opened: Callable[[str], Model], tmp_path: Path, moved: Sequence[str]) -> None:
    model, input_ = opened("iris@2"), mixed(tmp_path, "jsonl")
    whole, job = job_of(input_, "whole.csv", chunk_rows=4), job_of(input_, "out.csv", chunk_rows=4)
    score(whole, model)
    with pytest.raises(Killed):
        score(job, model, killed_after(6))
    state = json.loads(job.places.state.read_text())
    state["done"]["finished"] = True
    job.places.state.write_text(json.dumps(state))
    if "errors" in moved:
        job.places.errors_part.rename(job.places.errors)
    if "output" in moved:
        job.places.part.rename(job.places.output)
    assert score(job, model).rows == 23
    assert job.places.output.read_bytes() == whole.places.output.read_bytes()
    assert job.places.errors.read_bytes() == whole.places.errors.read_bytes()
    assert not job.places.state.exists()
    assert not job.places.part.exists()


def begun(opened: Callable[[str], Model], folder: Path) -> Job:
    """A job that was killed after its second chunk."""
    job = job_of(mixed(folder, "jsonl"), "out.csv", chunk_rows=4, keep=("id",))
    with pytest.raises(Killed):
        score(job, opened("iris@2"), killed_after(2))
    return job


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: os.utime(job.input, (0, 0)), "input mtime_ns was "),
        (lambda job: job.input.write_text(job.input.read_text() + "[1,2,3,4]\n"), "input bytes was "),
        (lambda job: replace(job, outputs=("prediction",)), "outputs was ['prediction', 'probabilities'] and is "),
        (lambda job: replace(job, chunk_rows=5), "chunk rows was 4 and is 5"),
        (lambda job: replace(job, keep=()), "keep was ['id'] and is []"),
        (lambda job: job.places.part.write_bytes(b"x"), "is shorter than"),
        (lambda job: job.places.errors_part.unlink(), None),
    ],
)  # fmt: skip
def test_a_run_goes_on_only_with_what_it_began_with(
    opened: Callable[[str], Model], tmp_path: Path, change: Callable[[Job], Any], said: str | None
) -> None:
    job, model = begun(opened, tmp_path), opened("iris@2")
    changed = change(job)
    job = changed if isinstance(changed, Job) else job
    if said is None:  # no row had failed yet, so nothing is lost
        assert score(job, model).rows == 23
        return
    before = job.places.state.read_bytes()
    with pytest.raises(OperatorError, match="--overwrite") as refused:
        score(job, model)
    assert said in refused.value.message
    assert job.places.state.read_bytes() == before
    assert start(replace(job, overwrite=True), model) == Done()
    assert len(table(job.places.output)) >= 23


def test_a_run_does_not_go_on_with_another_model(opened: Callable[[str], Model], tmp_path: Path) -> None:
    job, model = begun(opened, tmp_path), opened("iris@2")
    with pytest.raises(OperatorError, match=r"model sha256 was .* and is 'ffff"):
        score(job, replace(model, sha256="f" * 64))
    with pytest.raises(OperatorError, match="accelerated was"):
        score(job, replace(model, accelerated=not model.accelerated))
    assert score(job, model).rows == 23


def test_overwrite_goes_on_where_it_can(opened: Callable[[str], Model], tmp_path: Path) -> None:
    job = replace(begun(opened, tmp_path), overwrite=True)
    assert start(job, opened("iris@2")).rows == 8


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "facts": {}, "done": {"x": 1}}'])
def test_a_state_that_is_not_ours(opened: Callable[[str], Model], tmp_path: Path, state: str) -> None:
    job = begun(opened, tmp_path)
    job.places.state.write_text(state)
    with pytest.raises(OperatorError, match="remove it to begin again"):
        score(job, opened("iris@2"))


def test_an_output_is_replaced_only_when_told_and_whole(opened: Callable[[str], Model], tmp_path: Path) -> None:
    job, model = job_of(mixed(tmp_path, "jsonl"), "out.csv", chunk_rows=4), opened("iris@2")
    for path in (job.places.output, job.places.errors):
        path.write_text("old")
        with pytest.raises(OperatorError, match="is there already; choose another name, or replace it"):
            score(job, model)
        assert [found.name for found in tmp_path.iterdir() if ".part" in found.name] == []
        path.unlink()
    job.places.output.write_text("old")
    over = replace(job, overwrite=True)
    with pytest.raises(Killed):
        score(over, model, killed_after(6))
    assert job.places.output.read_text() == "old"
    assert score(over, model).rows == 23
    assert len(table(job.places.output)) == 23
    written(tmp_path / "fine.jsonl", [[1, 2, 3, 4]])
    assert score(replace(over, input=tmp_path / "fine.jsonl", reads=FORMATS["jsonl"]), model).failed == 0
    assert not job.places.errors.exists()  # they were another run's


def test_an_input_that_changes_meanwhile_is_told(opened: Callable[[str], Model], tmp_path: Path) -> None:
    job = job_of(mixed(tmp_path, "jsonl"), "out.csv", chunk_rows=4)

    def change(done: Done) -> None:
        os.utime(str(job.input), (done.rows, done.rows))

    with pytest.raises(OperatorError, match="input mtime_ns was"):
        score(job, opened("iris@2"), change)
    assert not job.places.output.exists()


def test_two_runs_do_not_write_one_file(opened: Callable[[str], Model], tmp_path: Path) -> None:
    job = job_of(mixed(tmp_path, "jsonl"), "out.csv")
    with open_part(job.places.part), pytest.raises(OperatorError, match="is being written by another run"):
        score(job, opened("iris@2"))
    assert score(job, opened("iris@2")).rows == 23


def test_the_file_is_never_in_memory(opened: Callable[[str], Model], tmp_path: Path) -> None:
    row = "5.1,3.5,1.4," + "0" * 2000 + ".2\n"
    (tmp_path / "in.csv").write_text("a,b,c,d\n" + row * 3_000)
    job = job_of(tmp_path / "in.csv", chunk_rows=100)
    score(job_of(written(tmp_path / "first.jsonl", [[1, 2, 3, 4]]), "first.csv"), opened("iris@2"))
    tracemalloc.start()
    try:
        assert score(job, opened("iris@2")).rows == 3_000
        assert tracemalloc.get_traced_memory()[1] < 1_500_000 < job.input.stat().st_size / 4
    finally:
        tracemalloc.stop()


def test_csv_with_all_that_csv_may_have(opened: Callable[[str], Model], tmp_path: Path) -> None:
    text = (
        "\ufeffid, city,age,member,comment\r\n"
        '1,"Rome",20.5,1,"two\nlines, and ""quotes"""\r\n\r\n'
        "2,Oslo,old,0,\r\n3,Oslo,50\r\n4,Oslo,50,0,ok\r\n"
    ).encode()
    (tmp_path / "in.csv").write_bytes(text + b"5,\xffslo,50,0,\n6,Oslo,50,0,last")
    job = job_of(tmp_path / "in.csv", "out.csv", keep=("comment", "id"))
    sources: list[RowSource] = []
    score_file(job, opened("people@1"), lambda source, done: sources.append(source), lambda done: None)
    assert sources[0].unused == ()
    rows = table(job.places.output)
    assert list(rows[0]) == ["comment", "id", "prediction", "probabilities_no", "probabilities_yes"]
    assert [(row["id"], row["comment"], row["prediction"]) for row in rows] == [
        ("1", 'two\nlines, and "quotes"', "no"), ("2", "", ""), ("", "", ""), ("4", "ok", "yes"), ("", "", ""),
        ("6", "last", "yes"),
    ]  # fmt: skip
    assert lines(job.places.errors) == [
        {"row": 2, "code": "invalid_input", "message": "column 'age', row 2: want a number (FP64), got 'old'"},
        {"row": 3, "code": "invalid_input", "message": "the row has 3 values, but the header has 5 columns"},
        {"row": 5, "code": "invalid_input", "message": "the row is not UTF-8: invalid start byte"},
    ]


@pytest.mark.parametrize(
    ("model", "text", "keep", "said"),
    [
        ("people@1", "", (), "the CSV is empty"),
        ("people@1", "age,city\n1,2\n", (), "missing column 'member'"),
        ("people@1", "age,city,member,age\n1,2,3,4\n", (), "'age' is duplicated"),
        ("people@1", "age,city,member\n1,2,3\n", ("id",), "no column 'id' to keep; the input has age, city, member"),
        ("iris@2", "id,a,b,c,d\n1,2,3,4,5\n", (), "expects 4 columns, which have no names, but the input has 5"),
    ],
)
def test_a_table_that_no_row_of_can_be_asked(
    opened: Callable[[str], Model], tmp_path: Path, model: str, text: str, keep: tuple[str, ...], said: str
) -> None:
    (tmp_path / "in.csv").write_text(text)
    job = job_of(tmp_path / "in.csv", keep=keep)
    with pytest.raises(InvalidInput) as refused:
        score(job, opened(model))
    assert said in refused.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(("name", "text"), [("in.csv", "a,b,c,d\n"), ("in.jsonl", ""), ("in.jsonl", "\n \n")])
def test_no_rows_are_no_error(opened: Callable[[str], Model], tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    for output in ("out.csv", "out.jsonl"):
        job = job_of(tmp_path / name, output)
        assert score(job, opened("iris@2")) == replace(Done(), finished=True) or job.places.output.stat().st_size
        assert job.places.output.read_text().count("\n") == (output == "out.csv")


def test_columns_that_nobody_wants_are_left_out(opened: Callable[[str], Model], tmp_path: Path) -> None:
    rows = [{**PEOPLE[0], "id": 1, "tags": ["a", None]}, {**PEOPLE[1], "why": 1.5}]
    job = job_of(written(tmp_path / "in.jsonl", rows), "out.csv", outputs=("prediction",), keep=("id", "tags", "why"))
    assert score(job, opened("people@1")).failed == 0
    assert table(job.places.output) == [
        {"id": "1", "tags": '["a",null]', "why": "", "prediction": "no"},
        {"id": "", "tags": "", "why": "1.5", "prediction": "yes"},
    ]
    (tmp_path / "in.csv").write_text("age,x,city,member\n20.5,9,Rome,1\n")
    sources: list[RowSource] = []
    job = job_of(tmp_path / "in.csv", "second.csv")
    score_file(job, opened("people@1"), lambda source, done: sources.append(source), lambda done: None)
    assert sources[0].unused == ("x",)


def model_of(predict: Callable[[Tensors, Sequence[str]], Mapping[str, Array]], shape: tuple[int, ...]) -> Model:
    """A model that takes tensors of a shape."""
    specs = (TensorSpec("x", "FP64", shape),), (TensorSpec("y", "FP64", (-1,)), TensorSpec("z", "FP32", (-1, 2, 2)))
    return Model("own", "1", "python", "0" * 64, *specs, lambda tensors, outputs: dict(predict(tensors, outputs)))


def test_a_model_that_breaks_on_some_rows(tmp_path: Path) -> None:
    sizes: list[int] = []

    def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        x = tensors["x"]
        sizes.append(len(x))
        if (x == 7).any():
            raise RuntimeError("seven")
        return {"y": np.where(x[:, 0] == 3, np.nan, x[:, 0]), "z": np.full((len(x), 2, 2), 0.1, np.float32)}

    model = model_of(predict, (-1, 1))
    job = job_of(written(tmp_path / "in.jsonl", [[n] for n in range(16)]), outputs=("y", "z"))
    assert score(job, model).failed == 1
    rows = lines(job.places.output)
    assert rows[7] == {"y": None, "z": None}
    assert rows[3]["y"] is None
    assert [row["y"] for row in rows[8:]] == [float(n) for n in range(8, 16)]
    assert rows[0]["z"] == [[0.1, 0.1], [0.1, 0.1]]
    message = "the model broke on these values: RuntimeError('seven')"
    assert lines(job.places.errors) == [{"row": 8, "code": "prediction_failed", "message": message}]
    assert sizes[0] == 16
    assert len(sizes) == 9  # 16; 8, 4, 4, 2, 2, 1, 1; 8
    as_csv = job_of(Path(str(job.input)), "out.csv", outputs=("y", "z"))
    score(as_csv, model)
    assert table(as_csv.places.output)[0] == {"y": "0.0", "z": "[[0.1,0.1],[0.1,0.1]]"}


def test_a_model_of_a_fixed_number_of_rows(tmp_path: Path) -> None:
    sizes: list[int] = []

    def predict(tensors: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        sizes.append(len(tensors["x"]))
        return {"y": tensors["x"][:, 0, 0]}

    job = job_of(written(tmp_path / "in.jsonl", [[[1, 2]], [[3, 4]], [[5, 6]]]), outputs=("y",))
    assert score(job, model_of(predict, (2, 1, 2))).failed == 1
    assert [row["y"] for row in lines(job.places.output)] == [1.0, 3.0, None]
    assert sizes == [2]


def test_answers_that_are_not_one_a_row_are_errors(tmp_path: Path) -> None:
    job = job_of(written(tmp_path / "in.jsonl", [[1], [2]]), outputs=("y",))
    done = score(job, model_of(lambda tensors, outputs: {"y": np.zeros(3)}, (-1, 1)))
    assert done.failed == 2
    assert lines(job.places.errors)[0]["message"] == "1 rows have 3 values of y; want one a row"


def test_parquet_keeps_types(opened: Callable[[str], Model], tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    kinds = pa.array(["a", "b", "a"]).dictionary_encode()
    when = pa.array([1, None, 3], pa.timestamp("ns"))
    content = {
        "age": [20.5, float("nan"), 50.0],
        "city": ["Rome", "Oslo", "Oslo"],
        "member": [1, 1, 0],
        "kind": kinds,
        "when": when,
    }
    parquet.write_table(pa.table(content), tmp_path / "in.parquet")
    job = job_of(tmp_path / "in.parquet", "out.parquet", keep=("member", "kind", "when"))
    assert score(job, opened("people@1")).failed == 1
    found = parquet.read_table(job.places.output)
    assert [str(field.type) for field in found.schema][:4] == ["int64", "string", "string", "string"]
    rows = found.to_pylist()
    assert [row["prediction"] for row in rows] == ["no", None, "yes"]
    assert [len(row["probabilities"] or ()) for row in rows] == [2, 0, 2]
    assert [row["kind"] for row in rows] == ["a", "b", "a"]
    assert rows[2]["when"].endswith(".000000003")
    as_lines = job_of(tmp_path / "in.parquet", "out.jsonl", keep=("member",))
    score(as_lines, opened("people@1"))
    assert [row["probabilities"] for row in lines(as_lines.places.output)] == [row["probabilities"] for row in rows]
    (tmp_path / "in.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(OperatorError, match="cannot be read as parquet"):
        score(replace(job, overwrite=True), opened("people@1"))


def test_parquet_with_lists_as_tensors(opened: Callable[[str], Model], tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    parquet.write_table(pa.table({"features": [[5.1, 3.5, 1.4, 0.2], [1.0], [7.0, 3.2, 6.0, 2.5]]}), tmp_path / "in.pq")
    job = job_of(tmp_path / "in.pq", "out.jsonl", outputs=("prediction",))
    assert score(job, opened("iris@2")).failed == 1
    assert [row["prediction"] for row in lines(job.places.output)] == [0, None, 2]
