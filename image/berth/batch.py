"""A model of the store for the batches of a data engine: Spark, Ray Data, Dask, or anything that calls a function.

    from berth.batch import Scorer
    scorer = Scorer("/models", "churn@3")
    scorer({"age": ages, "city": cities})        # {"prediction": array([...])}

A Scorer is a few strings and can be pickled; each process that calls one verifies the version and loads it once.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from berth.errors import IntegrityError, InvalidInput
from berth.load_settings import load_options
from berth.models.manifest import MANIFEST
from berth.models.model import Model
from berth.models.store import Entry, find_by_key
from berth.serving.opening import open_version
from berth.serving.predictor import Predictor
from berth.settings import parse_settings, read_environment
from berth.tensors.arrays import Array
from berth.tensors.binding import bind_tensors
from berth.tensors.schema import check_tensors, choose_outputs, column_names, usual_outputs

_MOST_ROWS = 1 << 30
# (folder, digest of model.json) -> what this process has loaded.
_LOADED: dict[tuple[str, str], tuple[Model, Predictor]] = {}
_LOADING = threading.Lock()


def _digest(entry: Entry) -> str:
    return hashlib.sha256((entry.folder / MANIFEST).read_bytes()).hexdigest()


class Scorer:
    """Predictions for batches of rows, by one version of a model that is fixed when the Scorer is made.

    `store` is a directory that every process sees, `model` NAME or NAME@VERSION. `outputs` are those to return, by
    default the prediction, or all of a model that has none; `keep` are columns to copy. Settings such as
    BERTH_PICKLE_ALLOW or BERTH_SIGNATURE_KEYS_FILE are the environment's. Raises StoreError.
    """

    def __init__(self, store: str | Path, model: str, outputs: Sequence[str] = (), keep: Sequence[str] = ()) -> None:
        entry = find_by_key(Path(str(store).removeprefix("file://")), model)
        self._entry, self._sha256 = entry, _digest(entry)
        self._outputs, self._keep = tuple(outputs), tuple(keep)

    @property
    def key(self) -> str:
        """The version, as NAME@VERSION."""
        return self._entry.key

    def _load(self) -> tuple[Model, Predictor]:
        """What this process has loaded. Raises an OperatorError, IntegrityError where the version is another by now."""
        key = (str(self._entry.folder), self._sha256)
        with _LOADING:
            if key not in _LOADED:
                if (now := _digest(self._entry)) != self._sha256:
                    raise IntegrityError(f"{MANIFEST} of {self.key} has sha256 {now} here, but {self._sha256} at first")
                settings = parse_settings(read_environment())
                model = open_version(self._entry, load_options(settings), settings.version_policy)
                _LOADED[key] = (model, Predictor(1, _MOST_ROWS))
            return _LOADED[key]

    def _predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The kept columns and the outputs, one value a row. Raises RequestError, PredictionFailed."""
        model, predictor = self._load()
        known = {*(column_names(model.inputs) or columns), *(spec.name for spec in model.inputs)}
        if missing := [name for name in self._keep if name not in columns]:
            raise InvalidInput(f"no column {missing[0]!r} to keep; the batch has {', '.join(columns)[:500]}")
        given = {name: array for name, array in columns.items() if name in known}
        if column_names(model.inputs) is None and len(model.inputs) == 1 and model.inputs[0].name not in given:
            rows = [array for name, array in columns.items() if name not in self._keep]
            given = {model.inputs[0].name: np.column_stack(rows)}
        tensors = check_tensors(bind_tensors(given, model.inputs), model.inputs, _MOST_ROWS, model.batchable)
        wanted = choose_outputs(list(self._outputs), model.outputs) if self._outputs else usual_outputs(model.outputs)
        found = predictor.predict(model, tensors, wanted, math.inf).outputs
        return {name: columns[name] for name in self._keep} | {name: np.asarray(found[name]) for name in wanted}

    def __call__(self, batch: Any) -> Any:
        """A dict of arrays for a dict of arrays, a pyarrow.RecordBatch for a RecordBatch.

        Raises RequestError for values that the model does not take, PredictionFailed where it breaks on them.
        """
        if isinstance(batch, Mapping):
            return self._predict({str(name): np.asarray(values) for name, values in batch.items()})
        import pyarrow as pa

        found = self._predict({name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names})
        kept = {name: batch.column(name) for name in self._keep}
        arrays = [kept[name] if name in kept else pa.array(list(array)) for name, array in found.items()]
        return pa.RecordBatch.from_arrays(arrays, names=list(found))

    def map_batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The predictions for each of many batches, as Spark's mapInArrow calls it; batches without rows have none."""
        return (self(batch) for batch in batches if batch.num_rows)
