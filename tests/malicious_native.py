"""Fitted estimators whose numbers were forged: compiled code that believes them crashes or never ends.

`FORGED[name]()` gives one, made of an honest one; no name in its file is unusual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import cluster, ensemble, feature_extraction, neighbors, pipeline, preprocessing, svm, tree
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.linear_model import LogisticRegression

FAR = 1 << 40
_ROWS = 60


def _data() -> tuple[Any, Any]:
    rng = np.random.RandomState(0)
    return rng.normal(size=(_ROWS, 4)), np.arange(_ROWS) % 3


def _change_tree(model: Any, change: Callable[[Any], None]) -> None:
    """Give a Tree its own state again, with other nodes."""
    state = model.__getstate__()
    state["nodes"] = state["nodes"].copy()
    change(state["nodes"])
    model.__setstate__(state)


def _tree(change: Callable[[Any], None], kind: Any = tree.DecisionTreeClassifier) -> Any:
    model = kind(random_state=0).fit(*_data())
    _change_tree(model.tree_, change)
    return model


def _set(nodes: Any, field: str, at: int, value: int) -> None:
    nodes[field][at] = value


def _cycle(nodes: Any) -> None:
    nodes["left_child"][0] = nodes["right_child"][0] = 0


def _every_child_shared(nodes: Any) -> None:
    """Each node has the next one twice for a child: a walk over all paths doubles at every level."""
    last = len(nodes) - 1
    nodes["left_child"][:last] = nodes["right_child"][:last] = np.arange(1, last + 1)
    nodes["feature"][:last] = 0
    nodes["left_child"][last] = nodes["right_child"][last] = -1


def _tree_without_width() -> Any:
    model = tree.DecisionTreeClassifier(random_state=0).fit(*_data())
    model.n_features_in_ = 1
    return model


def _tree_without_nodes() -> Any:
    model = tree.DecisionTreeClassifier(random_state=0).fit(*_data())
    model.tree_ = tree._tree.Tree(4, np.array([3], dtype=np.intp), 1)
    return model


def _method_replaced() -> Any:
    """The check of the rows' width is a method; an attribute of that name would be called instead."""
    model = tree.DecisionTreeClassifier(random_state=0).fit(*_data())
    model._validate_X_predict = np.abs
    return model


def _forest(change: Callable[[Any], None], kind: Any = ensemble.RandomForestClassifier) -> Any:
    model = kind(5, random_state=0).fit(*_data())
    change(model)
    return model


def _forest_narrow(model: Any) -> None:
    model.n_features_in_ = 1


def _forest_deep(model: Any) -> None:
    _change_tree(model.estimators_[3].tree_, lambda nodes: _set(nodes, "right_child", 0, FAR))


def _forest_classes(model: Any) -> None:
    model.n_classes_ = 1 << 30


def _isolation() -> Any:
    model = ensemble.IsolationForest(n_estimators=5, random_state=0, max_features=2).fit(_data()[0])
    _change_tree(model.estimators_[0].tree_, lambda nodes: _set(nodes, "left_child", 0, FAR))
    return model


def _isolation_columns() -> Any:
    model = ensemble.IsolationForest(n_estimators=5, random_state=0, max_features=4).fit(_data()[0])
    model._max_features = 1
    model.estimators_features_ = [np.array([0])] * 5
    return model


def _boosting(change: Callable[[Any], None]) -> Any:
    model = ensemble.GradientBoostingClassifier(n_estimators=3, random_state=0).fit(*_data())
    change(model)
    return model


def _boosting_none(model: Any) -> None:
    holder = model.estimators_[0, 0]
    holder.tree_ = None


def _boosting_columns(model: Any) -> None:
    model.estimators_ = np.repeat(model.estimators_, 20_000, axis=1)


def _boosting_start(model: Any) -> None:
    """The first prediction has one column, the trees write into three."""
    model.init_.class_prior_ = model.init_.class_prior_[:1]


def _boosting_cycle(model: Any) -> None:
    _change_tree(model.estimators_[0, 0].tree_, _cycle)


def _histogram(change: Callable[[Any], None], **options: Any) -> Any:
    x, y = _data()
    x[:, 0] = np.arange(_ROWS) % 5
    model = ensemble.HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=2, **options).fit(x, y)
    change(model)
    return model


def _nodes_of(model: Any) -> Any:
    return model._predictors[0][0].nodes


def _histogram_child(model: Any) -> None:
    _set(_nodes_of(model), "left", 0, 2**32 - 1)
    _set(_nodes_of(model), "right", 0, 2**32 - 1)


def _histogram_cycle(model: Any) -> None:
    _set(_nodes_of(model), "left", 0, 0)
    _set(_nodes_of(model), "right", 0, 0)


def _histogram_feature(model: Any) -> None:
    _set(_nodes_of(model), "feature_idx", 0, FAR)


def _histogram_bitset(model: Any) -> None:
    nodes = _nodes_of(model)
    nodes["is_categorical"][:] = 1
    nodes["bitset_idx"][:] = 2**31


def _histogram_empty(model: Any) -> None:
    predictor = model._predictors[0][0]
    predictor.nodes = predictor.nodes[:0].copy()


def _histogram_drop(model: Any) -> None:
    """The preprocessor drops all columns but one; the nodes read the others."""
    transformers = model._preprocessor.transformers_
    transformers[1] = ("numerical", "drop", transformers[1][2])
    _nodes_of(model)["feature_idx"][0] = 3


def _sparse_rows(change: Callable[[Any], None], kind: Any = sparse.csr_matrix) -> Any:
    x, y = _data()
    model = neighbors.KNeighborsClassifier(algorithm="brute").fit(kind(np.where(x > 0, x, 0)), y)
    change(model._fit_X)
    return model


def _indptr(matrix: Any) -> None:
    matrix.indptr[1:-1] = 1 << 30


def _indices(matrix: Any) -> None:
    matrix.indices[:] = 1 << 30


def _negative(matrix: Any) -> None:
    matrix.indices[:] = -(1 << 30)


def _wide(matrix: Any) -> None:
    matrix._shape = (matrix._shape[0], 1)


def _other_format(kind: str, change: Callable[[Any], None]) -> Any:
    """A projection whose matrix is of another format: transform multiplies with it."""
    from sklearn.random_projection import SparseRandomProjection

    model = SparseRandomProjection(3, random_state=0, density=0.5).fit(_data()[0])
    model.components_ = model.components_.asformat(kind)
    change(model.components_)
    return model


def _coo_rows(matrix: Any) -> None:
    matrix.coords[0][:] = 1 << 30


def _dia_data(matrix: Any) -> None:
    matrix.offsets = np.arange(1 << 20, dtype=np.int32) % 3


def _bsr_indices(matrix: Any) -> None:
    matrix.indices[:] = 1 << 30


def _near(kind: str, change: Callable[[list[Any]], None]) -> Any:
    x, y = _data()
    model = neighbors.KNeighborsClassifier(algorithm=kind, leaf_size=5).fit(x, y)
    state = [part.copy() if isinstance(part, np.ndarray) else part for part in model._tree.__getstate__()]
    change(state)
    model._tree.__setstate__(tuple(state))
    return model


def _order(state: list[Any]) -> None:
    state[1][:] = FAR


def _ends(state: list[Any]) -> None:
    state[2]["idx_end"][:] = FAR


def _no_leaves(state: list[Any]) -> None:
    state[2]["is_leaf"][:] = 0


def _few_nodes(state: list[Any]) -> None:
    state[2] = state[2][:1].copy()


def _few_bounds(state: list[Any]) -> None:
    state[3] = state[3][:, :1, :1].copy()


def _no_metric(state: list[Any]) -> None:
    state[11] = None


def _radius_overlap() -> Any:
    """Every leaf holds all points: more of them are found than there is room for."""
    x, y = _data()
    model = neighbors.RadiusNeighborsClassifier(radius=100.0, algorithm="kd_tree", leaf_size=1).fit(x, y)
    state = [part.copy() if isinstance(part, np.ndarray) else part for part in model._tree.__getstate__()]
    state[2]["idx_start"][:] = 0
    state[2]["idx_end"][:] = _ROWS
    state[2]["radius"][:] = 1e300
    model._tree.__setstate__(tuple(state))
    return model


def _weighted_metric() -> Any:
    x, y = _data()
    wide = np.tile(x, 5000)
    metric = {"metric": "seuclidean", "metric_params": {"V": np.ones(20_000)}}
    model = neighbors.KNeighborsClassifier(algorithm="ball_tree", **metric).fit(wide, y)
    state = list(model._tree.__getstate__())
    parts = list(state[11].__getstate__())
    parts[1] = parts[1][:1].copy()
    state[11].__setstate__(tuple(parts))
    return model


def _labels() -> Any:
    x, y = _data()
    model = neighbors.KNeighborsClassifier(algorithm="brute").fit(x, y)
    model._y = model._y + (1 << 36)
    return model


def _machine(change: Callable[[Any], None], kind: Any = svm.SVC, **options: Any) -> Any:
    model = kind(**options).fit(*_data())
    change(model)
    return model


def _support_counts(model: Any) -> None:
    model._n_support = np.array([-(2**30), 2**30, int(model._n_support.sum())], dtype=np.int32)


def _support_classes(model: Any) -> None:
    model._n_support = np.append(model._n_support, np.zeros(20_000, np.int32)).astype(np.int32)


def _support_short(model: Any) -> None:
    model.support_ = np.zeros(1 << 22, np.int32)


def _coefficients_short(model: Any) -> None:
    model._n_support = np.array([1], dtype=np.int32)
    model._intercept_ = np.zeros(1)


def _kernel_index(model: Any) -> None:
    model.kernel = "precomputed"
    model.shape_fit_ = (4, 4)
    model.support_ = np.full_like(model.support_, 2**31 - 1)


def _impl(model: Any) -> None:
    model._impl = "c_svc"
    model._n_support = np.array([2**30, -(2**30) + model.support_vectors_.shape[0]], dtype=np.int32)


def _centers() -> Any:
    wide = np.tile(_data()[0], 50)
    model = cluster.KMeans(3, n_init=1, random_state=0).fit(wide)
    model.cluster_centers_ = np.zeros((200_000, 1))
    return model


def _threads() -> Any:
    model = cluster.KMeans(3, n_init=1, random_state=0).fit(np.tile(_data()[0], (20, 1)))
    model._n_threads = 2**30
    return model


def _norms() -> Any:
    model = cluster.Birch(n_clusters=None, threshold=0.01).fit(_data()[0])
    model.subcluster_centers_ = np.zeros((3_000_000, 4))
    model._subcluster_norms = np.zeros(1)
    return model


def _one_hot() -> Any:
    model = preprocessing.OneHotEncoder(sparse_output=False).fit(_data()[1].reshape(-1, 1))
    model._n_features_outs = [1]
    model.categories_ = [np.arange(0, 1 << 20)]
    return model


def _vocabulary() -> Any:
    texts = ["one two", "two three"]
    model = pipeline.make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [0, 1])
    model[0].vocabulary_ = dict.fromkeys(model[0].vocabulary_, 2**31 - 1)
    return model


def _dictionary() -> Any:
    model = feature_extraction.DictVectorizer(sparse=False).fit([{"a": 1}])
    model.vocabulary_ = {"a": 2**31 - 1}
    return model


def _hashes() -> Any:
    model = HashingVectorizer()
    model.n_features = 0
    return model


def _spline() -> Any:
    model = preprocessing.SplineTransformer().fit(_data()[0])
    for spline in model.bsplines_:
        spline._t = spline._t[:3].copy()
        spline._c = spline._c[:1].copy()
    return model


def _twister() -> Any:
    from sklearn.decomposition import LatentDirichletAllocation

    state = np.random.RandomState(0)
    model = LatentDirichletAllocation(2, random_state=state).fit(np.abs(_data()[0]))
    bits = state._bit_generator.state
    bits["state"]["pos"] = 2**31 - 1
    model.random_state_._bit_generator.state = bits
    return model


FORGED: dict[str, Callable[[], Any]] = {
    "tree-child": lambda: _tree(lambda nodes: _set(nodes, "left_child", 0, FAR)),
    "tree-child-negative": lambda: _tree(lambda nodes: _set(nodes, "right_child", 0, -FAR)),
    "tree-feature": lambda: _tree(lambda nodes: _set(nodes, "feature", 0, FAR)),
    "tree-cycle": lambda: _tree(_cycle),
    "tree-regressor-child": lambda: _tree(
        lambda nodes: _set(nodes, "left_child", 0, FAR), kind=tree.DecisionTreeRegressor
    ),
    "tree-shared-children": lambda: _tree(_every_child_shared),
    "tree-without-width": _tree_without_width,
    "tree-without-nodes": _tree_without_nodes,
    "tree-method-replaced": _method_replaced,
    "forest-narrow": lambda: _forest(_forest_narrow),
    "forest-one-tree": lambda: _forest(_forest_deep),
    "forest-classes": lambda: _forest(_forest_classes),
    "extra-trees-one-tree": lambda: _forest(_forest_deep, ensemble.ExtraTreesRegressor),
    "isolation-child": _isolation,
    "isolation-columns": _isolation_columns,
    "boosting-none": lambda: _boosting(_boosting_none),
    "boosting-columns": lambda: _boosting(_boosting_columns),
    "boosting-start": lambda: _boosting(_boosting_start),
    "boosting-cycle": lambda: _boosting(_boosting_cycle),
    "histogram-child": lambda: _histogram(_histogram_child),
    "histogram-cycle": lambda: _histogram(_histogram_cycle),
    "histogram-feature": lambda: _histogram(_histogram_feature),
    "histogram-bitset": lambda: _histogram(_histogram_bitset, categorical_features=[0]),
    "histogram-uncategorical": lambda: _histogram(_histogram_bitset),
    "histogram-empty": lambda: _histogram(_histogram_empty),
    "histogram-drop": lambda: _histogram(_histogram_drop, categorical_features=[0]),
    "csr-indptr": lambda: _sparse_rows(_indptr),
    "csr-indices": lambda: _sparse_rows(_indices),
    "csr-negative": lambda: _sparse_rows(_negative),
    "csr-shape": lambda: _sparse_rows(_wide),
    "csr-array": lambda: _sparse_rows(_indices, sparse.csr_array),
    "csc-indices": lambda: _other_format("csc", _indices),
    "coo-coordinates": lambda: _other_format("coo", _coo_rows),
    "bsr-indices": lambda: _other_format("bsr", _bsr_indices),
    "dia-offsets": lambda: _other_format("dia", _dia_data),
    "kd-tree-order": lambda: _near("kd_tree", _order),
    "kd-tree-ends": lambda: _near("kd_tree", _ends),
    "kd-tree-no-leaves": lambda: _near("kd_tree", _no_leaves),
    "kd-tree-few-bounds": lambda: _near("kd_tree", _few_bounds),
    "ball-tree-order": lambda: _near("ball_tree", _order),
    "ball-tree-few-nodes": lambda: _near("ball_tree", _few_nodes),
    "ball-tree-no-metric": lambda: _near("ball_tree", _no_metric),
    "radius-overlap": _radius_overlap,
    "weighted-metric": _weighted_metric,
    "neighbors-labels": _labels,
    "svm-counts": lambda: _machine(_support_counts),
    "svm-classes": lambda: _machine(_support_classes),
    "svm-support": lambda: _machine(_support_short),
    "svm-regression": lambda: _machine(_coefficients_short, svm.SVR),
    "svm-kernel-index": lambda: _machine(_kernel_index),
    "svm-algorithm": lambda: _machine(_impl, svm.SVR),
    "k-means-centers": _centers,
    "k-means-threads": _threads,
    "birch-norms": _norms,
    "one-hot-columns": _one_hot,
    "vocabulary": _vocabulary,
    "dictionary": _dictionary,
    "hashes": _hashes,
    "spline": _spline,
    "twister": _twister,
}
