"""Files that run something when a plain unpickler reads them: MALICIOUS maps a name to the function that writes one.

Each payload, if it runs, makes the file `marker(path)`; it does nothing else. None is ever loaded by anything but Berth,
except in the child process of one test that sees that these payloads are real.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import numpy as np

Builder: TypeAlias = Callable[[Path], None]


def marker(path: Path) -> Path:
    """The file that appears if the payload of `path` has run."""
    return path.with_name(path.name + ".ran")


# A small assembler for pickles


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


def command(path: Path) -> str:
    return f"touch '{marker(path)}'"


def code(path: Path) -> str:
    return f"open({str(marker(path))!r}, 'w').close()"


def system(path: Path) -> bytes:
    return call(named("posix", "system"), text(command(path)))


def whole(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


class Payload:
    """Pickles as a call of os.system."""

    def __init__(self, path: Path) -> None:
        self.command = command(path)

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


# One call of one name

_CODE, _COMMAND, _MARKER = "<code>", "<command>", "<marker>"
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
    "numpy-runstring": ("numpy.testing._private.utils", "runstring", (_CODE,)),
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


def _call(module: str, name: str, args: tuple[str, ...]) -> Builder:
    def build(path: Path) -> None:
        fill = {_CODE: code(path), _COMMAND: command(path), _MARKER: str(marker(path))}
        path.write_bytes(whole(call(named(module, name), *(text(fill.get(arg, arg)) for arg in args)), 3))

    return build


def _dotted(module: str, name: str) -> Builder:
    return lambda path: path.write_bytes(whole(call(stacked(module, name), text(code(path))))) and None


# Ways to hide a call


def _body(make: Callable[[Path], bytes], protocol: int = 4) -> Builder:
    return lambda path: path.write_bytes(whole(make(path), protocol)) and None


# Whoever loads the extension opcodes must have registered this, or there is nothing behind the code.
EXTENSION = ("posix", "system", 0xF5)


def _extension(opcode: bytes) -> Builder:
    return lambda path: path.write_bytes(whole(call(opcode, text(command(path))), 2)) and None


def _memo(path: Path) -> bytes:
    """The name lies in the memo long before it is used, and other strings come between."""
    parts = text("posix") + b"q\x00" + text("system") + b"q\x01" + text("sklearn.svm") + text("SVC")
    return parts + b"0000" + call(b"h\x00h\x01\x93", text(command(path)))


def _overwritten_memo(path: Path) -> bytes:
    return (
        text("sklearn")
        + b"q\x000"
        + text("posix")
        + b"q\x000"
        + call(b"h\x00" + text("system") + b"\x93", text(command(path)))
    )


def _computed(path: Path) -> bytes:
    """The module's name is made by a call, so that no string of the file reads posix."""
    made = call(named("_codecs", "encode"), text("cbfvk"), text("rot13"))
    return call(made + text("system") + b"\x93", text(command(path)))


def _state_on_class(path: Path) -> bytes:
    kind = stacked("sklearn.linear_model._base", "LinearRegression")
    return kind + b"N}" + text("predict") + named("posix", "system") + b"s\x86b" + system(path)


def _state_on_allowed_class(path: Path) -> bytes:
    kind = stacked("sklearn.linear_model._base", "LinearRegression")
    return kind + b"N}" + text("predict") + named("numpy", "log1p") + b"s\x86b"


def _state_on_function(path: Path) -> bytes:
    """Gives numpy.mean a name of the builtins, as one known attack on scanners does."""
    return named("numpy", "mean") + b"N}" + text("__wrapped__") + named("numpy", "log1p") + b"s\x86b"


def _setstate_attribute(path: Path) -> bytes:
    """First a state that plants __setstate__ in the instance, then a state that would be its argument."""
    new = stacked("sklearn.utils._bunch", "Bunch") + b")\x81"
    return new + b"}" + text("__setstate__") + named("posix", "system") + b"sb" + text(command(path)) + b"b"


def _setstate_allowed(path: Path) -> bytes:
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    return new + b"}" + text("__setstate__") + named("numpy", "log1p") + b"sb"


def _append_attribute(path: Path) -> bytes:
    """APPEND calls whatever `append` is: here an attribute that the file has set."""
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    return new + b"}" + text("append") + named("posix", "system") + b"sb" + text(command(path)) + b"a"


def _append_allowed(path: Path) -> bytes:
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    return new + b"}" + text("append") + named("numpy", "log1p") + b"sbK\x01a"


def _class_attribute(path: Path) -> bytes:
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    return new + b"N}" + text("__class__") + named("posix", "DirEntry") + b"s\x86b"


def _slot_class_attribute(path: Path) -> bytes:
    new = stacked("sklearn.tree._tree", "TreeNode") + b")\x81"
    return new + b"N}" + text("__class__") + named("numpy", "float64") + b"s\x86b"


def _partial_of_system(path: Path) -> bytes:
    return call(call(named("functools", "partial"), named("posix", "system"), text(command(path))))


def _partial_state(path: Path) -> bytes:
    """The partial is made of the one function that may stand in it; its state then names another."""
    made = call(named("functools", "partial"), named("sklearn.utils.validation", "check_array"))
    return made + b"(" + named("posix", "system") + b"(" + text(command(path)) + b"t}Ntb"


def _partial_of_allowed(path: Path) -> bytes:
    return call(named("functools", "partial"), named("numpy", "log1p"))


def _called_instance(path: Path) -> bytes:
    return call(stacked("sklearn.gaussian_process.kernels", "RBF") + b")\x81", text(command(path)))


def _generator_maker(path: Path) -> bytes:
    """numpy's maker of generators calls its second argument with its first."""
    return call(named("numpy.random._pickle", "__generator_ctor"), text(command(path)), named("posix", "system"))


def _stats(path: Path) -> None:
    """A scipy.stats distribution runs a string of its state through exec when it is unpickled."""
    from scipy import stats

    state = {**stats.norm.__getstate__(), "_parse_arg_template": code(path)}
    body = stacked("scipy.stats._continuous_distns", "norm_gen") + b")\x81" + pickle.dumps(state, 2)[2:-1] + b"b"
    path.write_bytes(whole(body))


def _reconstructor(path: Path) -> bytes:
    kinds = named("subprocess", "Popen") + named("builtins", "object") + b"N"
    return call(named("copyreg", "_reconstructor"), kinds)


def _default_factory(path: Path) -> bytes:
    return call(named("collections", "defaultdict"), named("posix", "getpid"))


# Numbers that are pointers: numpy believes these, and a crash or worse follows


def _dtype_without_object_flag(path: Path) -> bytes:
    dtype = call(named("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    dtype += b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = call(named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    return array + b"(K\x01K\x01\x85" + dtype + b"\x89C\x08AAAAAAAAtb"


def _short_object_list(path: Path) -> bytes:
    dtype = call(named("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    array = call(named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    return array + b"(K\x01M\xe8\x03\x85" + dtype + b"\x89](K\x01etb"


def _overlapping_fields(path: Path) -> bytes:
    part = (
        call(named("numpy", "dtype"), text("O8"), b"\x89", b"\x88"),
        call(named("numpy", "dtype"), text("i8"), b"\x89", b"\x88"),
    )
    dtype = call(named("numpy", "dtype"), text("V8"), b"\x89", b"\x88")
    fields = b"}(" + text("a") + b"(" + part[0] + b"K\x00t" + text("b") + b"(" + part[1] + b"K\x00tu"
    return dtype + b"(K\x03" + text("|") + b"N(" + text("a") + text("b") + b"t" + fields + b"K\x08K\x01K\x10tb"


def _array_state_twice(path: Path) -> bytes:
    dtype = call(named("numpy", "dtype"), text("u1"), b"\x89", b"\x88")
    array = call(named("numpy._core.multiarray", "_reconstruct"), named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    state = b"(K\x01K\x02\x85" + dtype + b"\x89C\x02AAtb"
    return array + state + state


def _buffer_of_pointers(path: Path) -> bytes:
    dtype = call(named("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    return call(named("numpy._core.numeric", "_frombuffer"), b"C\x08AAAAAAAA", dtype, b"K\x01\x85", text("C"))


# joblib


def _nested(path: Path) -> None:
    joblib.dump({"model": 1, "classes": np.array([Payload(path)], dtype=object)}, path)


def _nested_old(path: Path) -> None:
    """As joblib before 1.2 wrote it: no padding; its reader used a second, plain unpickler for the objects."""
    from joblib.numpy_pickle import NumpyArrayWrapper

    wrapper = NumpyArrayWrapper(np.ndarray, (1,), "C", np.dtype("O"), allow_mmap=False)
    del wrapper.numpy_array_alignment_bytes
    inner = pickle.dumps(np.array([Payload(path)], dtype=object), 2)
    path.write_bytes(pickle.dumps(wrapper, 3)[:-1] + inner + b".")


def _nested_after_numbers(path: Path) -> None:
    """Behind raw bytes that look like opcodes, where a walk over opcodes loses its way."""
    noise = np.frombuffer(b"." * 64 + b"cos\nsystem\n" * 5, dtype=np.uint8)
    joblib.dump([noise, np.array([[Payload(path)]], dtype=object)], path)


def _nested_twice(path: Path) -> None:
    inner = np.empty(1, dtype=object)
    inner[0] = np.array([Payload(path), 1], dtype=object)
    joblib.dump([inner], path)


def _joblib_outside(path: Path) -> None:
    joblib.dump([np.zeros(3), Payload(path), np.ones(3)], path)


def _old_wrapper(path: Path) -> bytes:
    """joblib 0.9 read the array from any file that the wrapper names, with allow_pickle."""
    new = named("joblib.numpy_pickle", "NDArrayWrapper") + b")\x81"
    return (
        new + b"}(" + text("filename") + text(str(marker(path))) + text("subclass") + named("numpy", "ndarray") + b"ub"
    )


def _mapped(path: Path) -> None:
    """A wrapper whose subclass is numpy.memmap, followed by a payload."""
    joblib.dump([np.zeros(4), Payload(path)], path, protocol=2)


def _packed(pack: Callable[[bytes], bytes]) -> Builder:
    def build(path: Path) -> None:
        _nested(path)
        path.write_bytes(pack(path.read_bytes()))

    return build


# Shapes of files


def _after_stop(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2]) + whole(system(path)))


def _torch_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", whole(system(path)))


def _zfile(path: Path) -> None:
    data = whole(system(path))
    path.write_bytes(b"ZF" + f"{len(data):#x}".ljust(19).encode() + zlib.compress(data))


MALICIOUS: dict[str, Builder] = {
    **{f"call-{label}": _call(*entry) for label, entry in CALLS.items()},
    **{label: _dotted(*entry) for label, entry in DOTTED.items()},
    "reduce-protocol-0": lambda path: path.write_bytes(pickle.dumps(Payload(path), 0)) and None,
    "reduce-protocol-2": lambda path: path.write_bytes(pickle.dumps(Payload(path), 2)) and None,
    "reduce-protocol-5": lambda path: path.write_bytes(pickle.dumps(Payload(path), 5)) and None,
    "discarded": _body(lambda path: system(path) + b"0N"),
    "inside-estimator": _body(
        lambda path: stacked("sklearn.svm._classes", "SVC") + b")\x81}" + text("C") + system(path) + b"sb"
    ),
    "as-key": _body(lambda path: b"}" + system(path) + b"K\x01s"),
    "inst": _body(lambda path: b"(" + text(command(path)) + b"iposix\nsystem\n", 2),
    "obj": _body(lambda path: b"(" + named("posix", "system") + text(command(path)) + b"o", 2),
    "inst-allowed": _body(lambda path: b"(isklearn.svm._classes\nSVC\n", 2),
    "newobj": _body(lambda path: named("subprocess", "Popen") + b"(" + text(command(path)) + b"t\x81"),
    "newobj-ex": _body(lambda path: named("subprocess", "Popen") + b"(" + text(command(path)) + b"t}\x92"),
    "newobj-memory": _body(lambda path: named("numpy", "ndarray") + b"(\x8a\x06\x00\x00\x00\x00\x00\x10t\x81"),
    "ext1": _extension(b"\x82\xf5"),
    "ext2": _extension(b"\x83\xf5\x00"),
    "ext4": _extension(b"\x84\xf5\x00\x00\x00"),
    "persid": _body(lambda path: b"Pposix.system\n", 0),
    "binpersid": _body(lambda path: text("posix.system") + b"Q"),
    "memo": _body(_memo),
    "memo-overwritten": _body(_overwritten_memo),
    "computed-name": _body(_computed),
    "state-on-class": _body(_state_on_class),
    "state-on-allowed-class": _body(_state_on_allowed_class),
    "state-on-function": _body(_state_on_function),
    "setstate-attribute": _body(_setstate_attribute),
    "setstate-allowed": _body(_setstate_allowed),
    "append-attribute": _body(_append_attribute),
    "append-allowed": _body(_append_allowed),
    "class-attribute": _body(_class_attribute),
    "partial-of-system": _body(_partial_of_system),
    "partial-state": _body(_partial_state),
    "partial-of-allowed": _body(_partial_of_allowed),
    "called-instance": _body(_called_instance),
    "generator-maker": _body(_generator_maker),
    "stats-exec": _stats,
    "reconstructor": _body(_reconstructor),
    "default-factory": _body(_default_factory),
    "dtype-without-object-flag": _body(_dtype_without_object_flag),
    "short-object-list": _body(_short_object_list),
    "overlapping-fields": _body(_overlapping_fields),
    "array-state-twice": _body(_array_state_twice),
    "buffer-of-pointers": _body(_buffer_of_pointers),
    "joblib-nested": _nested,
    "joblib-nested-old": _nested_old,
    "joblib-nested-after-numbers": _nested_after_numbers,
    "joblib-nested-twice": _nested_twice,
    "joblib-outside": _joblib_outside,
    "joblib-old-wrapper": _body(_old_wrapper, 2),
    "joblib-mapped": _mapped,
    "joblib-zlib": _packed(zlib.compress),
    "joblib-gzip": _packed(gzip.compress),
    "joblib-bz2": _packed(bz2.compress),
    "joblib-xz": _packed(lzma.compress),
    "joblib-lzma": _packed(lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE)),
    "after-stop": _after_stop,
    "torch-zip": _torch_zip,
    "joblib-zfile": _zfile,
}

# Those that a plain reader surely runs: what shows that the payloads are real.
REAL = (
    "call-os-system", "call-builtins-exec", "call-builtins-eval", "call-python2-builtin-eval", "call-builtins-open",
    "call-io-open", "call-numpy-memmap", "call-numpy-runstring", "reduce-protocol-0", "reduce-protocol-5", "discarded",
    "inside-estimator", "inst", "obj", "ext1", "ext2", "ext4", "memo", "memo-overwritten", "setstate-attribute",
    "append-attribute", "partial-of-system", "generator-maker", "stats-exec", "joblib-nested", "joblib-nested-old",
    "joblib-nested-after-numbers", "joblib-nested-twice", "joblib-outside", "joblib-zlib", "joblib-gzip", "joblib-bz2",
    "joblib-xz", "joblib-lzma", "joblib-zfile",
)  # fmt: skip
