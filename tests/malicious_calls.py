"""Hostile files, the simple kind: one call of one name that must never be called."""

from __future__ import annotations

from pathlib import Path

from pickle_assembler import Builder, call, code, command, marker, named, stacked, text, whole

_CODE, _COMMAND, _MARKER, _EMPTY = "<code>", "<command>", "<marker>", "<{}>"
CALLS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "os-system": ("os", "system", (_COMMAND,)),
    "os-popen": ("os", "popen", (_COMMAND,)),
    "posix-system": ("posix", "system", (_COMMAND,)),
    "nt-system": ("nt", "system", (_COMMAND,)),
    "subprocess-getoutput": ("subprocess", "getoutput", (_COMMAND,)),
    "builtins-exec": ("builtins", "exec", (_CODE,)),
    "builtins-eval": ("builtins", "eval", (_CODE,)),
    "python2-builtin-eval": ("__builtin__", "eval", (_CODE,)),
    "builtins-open": ("builtins", "open", (_MARKER, "w")),
    "builtins-import": ("builtins", "__import__", ("antigravity",)),
    "io-open": ("io", "open", (_MARKER, "w")),
    "_io-FileIO": ("_io", "FileIO", (_MARKER, "w")),
    "importlib": ("importlib", "import_module", ("antigravity",)),
    "runpy": ("runpy", "_run_code", (_CODE,)),
    "pty": ("pty", "spawn", (_COMMAND,)),
    "code": ("code", "interact", (_CODE,)),
    "timeit": ("timeit", "timeit", (_CODE, "pass")),
    "webbrowser": ("webbrowser", "open", ("http://127.0.0.1/",)),
    "ctypes": ("ctypes", "CDLL", ("libc.so.6",)),
    "socket": ("socket", "create_connection", ("127.0.0.1",)),
    "cProfile": ("cProfile", "run", (_CODE,)),
    "pdb": ("pdb", "run", (_CODE,)),
    "doctest": ("doctest", "debug_script", (_CODE,)),
    "logging-config": ("logging.config", "fileConfig", (_MARKER,)),
    "pkgutil": ("pkgutil", "resolve_name", ("os:system",)),
    "marshal": ("marshal", "loads", ("",)),
    "pickle-loads": ("pickle", "loads", ("",)),
    "_pickle-loads": ("_pickle", "loads", ("",)),
    "joblib-load": ("joblib", "load", (_MARKER,)),
    "joblib-hidden-load": ("joblib.numpy_pickle", "load", (_MARKER,)),
    "joblib-compat-load": ("joblib.numpy_pickle_compat", "load_compatibility", (_MARKER,)),
    "joblib-zfile-wrapper": ("joblib.numpy_pickle", "ZNDArrayWrapper", (_MARKER,)),
    "functools-partial": ("functools", "partial", ("x",)),
    "operator-methodcaller": ("operator", "methodcaller", ("system",)),
    "operator-attrgetter": ("operator", "attrgetter", ("system",)),
    "operator-itemgetter": ("operator", "itemgetter", ("system",)),
    "types-FunctionType": ("types", "FunctionType", ("x",)),
    "types-CodeType": ("types", "CodeType", ("x",)),
    "copyreg-add-extension": ("copyreg", "add_extension", ("os", "system")),
    "copyreg-pickle": ("copyreg", "pickle", ("os", "system")),
    "codecs-rot13": ("_codecs", "encode", ("bf.flfgrz", "rot13")),
    "builtins-getattr": ("builtins", "getattr", ("x", "system")),
    "builtins-type": ("builtins", "type", ("x",)),
    "builtins-map": ("builtins", "map", ("x",)),
    "main-class": ("__main__", "Model", ("x",)),
    "sitecustomize": ("sitecustomize", "run", ("x",)),
    "pathlib-write": ("pathlib", "PosixPath", (_MARKER,)),
    "atexit": ("atexit", "register", ("x",)),
    "numpy-load": ("numpy", "load", (_MARKER,)),
    "numpy-fromfile": ("numpy", "fromfile", (_MARKER,)),
    "numpy-save": ("numpy", "save", (_MARKER, "x")),
    "numpy-memmap": ("numpy", "memmap", (_MARKER, "uint8", "w+")),
    "numpy-open-memmap": ("numpy.lib.format", "open_memmap", (_MARKER, "w+")),
    "numpy-DataSource": ("numpy.lib.npyio", "DataSource", (_MARKER,)),
    "numpy-runstring": ("numpy.testing._private.utils", "runstring", (_CODE, _EMPTY)),
    "numpy-f2py": ("numpy.f2py.crackfortran", "myeval", (_CODE,)),
    "numpy-f2py-lincoef": ("numpy.f2py.crackfortran", "getlincoef", (_CODE, "")),
    "numpy-ufunc-reconstruct": ("numpy._core", "_ufunc_reconstruct", ("os", "system")),
    "numpy-frompyfunc": ("numpy", "frompyfunc", ("x",)),
    "numpy-vectorize": ("numpy", "vectorize", ("x",)),
    "numpy-apply": ("numpy", "apply_along_axis", ("x",)),
    "numpy-ctypeslib": ("numpy.ctypeslib", "load_library", ("libc.so.6", "/")),
    "numpy-ufunc-called": ("numpy", "log1p", ("x",)),
    "sklearn-testing": ("sklearn.utils._testing", "check_skip_network", ("x",)),
    "sklearn-datasets": ("sklearn.datasets", "load_files", (_MARKER,)),
    "sklearn-svmlight": ("sklearn.datasets._svmlight_format_io", "load_svmlight_file", (_MARKER,)),
    "sklearn-estimator-called": ("sklearn.linear_model._base", "LinearRegression", ("x",)),
    "sklearn-metric-called": ("sklearn.metrics._classification", "accuracy_score", ("x",)),
    "sklearn-hidden-joblib": ("sklearn.utils.parallel", "joblib.load", (_MARKER,)),
    "scipy-loadmat": ("scipy.io", "loadmat", (_MARKER,)),
    "pandas-read-pickle": ("pandas.io.pickle", "read_pickle", (_MARKER,)),
    "cloudpickle": ("cloudpickle.cloudpickle", "_make_function", ("x",)),
    "cloudpickle-builtin-type": ("cloudpickle.cloudpickle", "_builtin_type", ("CodeType",)),
    "dill": ("dill._dill", "_create_function", ("x",)),
    "torch-load": ("torch.serialization", "load", (_MARKER,)),
}

# Dotted names that walk out of an allowed module or class.
DOTTED = {
    "dotted-module": ("sklearn.linear_model._base", "np.testing._private.utils.runstring"),
    "dotted-estimator": ("sklearn.linear_model._base", "LinearRegression.__init__.__globals__"),
    "dotted-class": ("sklearn.tree._classes", "DecisionTreeClassifier.__subclasses__"),
    "dotted-object": ("builtins", "object.__subclasses__"),
    "dotted-builtins": ("numpy", "log1p.__class__.__base__.__subclasses__"),
    "dotted-os": ("sklearn.base", "warnings.sys.modules"),
    "dotted-numpy-builtins": ("numpy", "__builtins__"),
    "dotted-joblib": ("joblib.numpy_pickle", "os.system"),
    "dotted-wrapper": ("joblib.numpy_pickle", "NumpyArrayWrapper.read_mmap"),
}


def one_call(module: str, name: str, args: tuple[str, ...]) -> Builder:
    def build(path: Path) -> None:
        fill = {_CODE: code(path), _COMMAND: command(path), _MARKER: str(marker(path))}
        values = (b"}" if arg == _EMPTY else text(fill.get(arg, arg)) for arg in args)
        path.write_bytes(whole(call(named(module, name), *values), 2))

    return build


def dotted_call(module: str, name: str) -> Builder:
    return lambda path: path.write_bytes(whole(call(stacked(module, name), text(code(path)))))
