"""Every setting: one table from which the parser, `berth settings` and the README's reference are made.

The environment wins over the default. Unknown `BERTH_*` names stop the start: an option that is silently
ignored because of a typo is worse than a server that does not start.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from berth.errors import SettingsError
from berth.platforms import with_platform

PREFIX = "BERTH_"
# The others are options of a consumer's broker (consuming/broker_options.py), which no table lists.
_OURS = re.compile(r"BERTH_(?!KAFKA_|REDIS_)")
# Names that tutorials and platforms (PORT: Cloud Run, Heroku, App Service) set; ours win.
ALIASES = {"LOG_LEVEL": "BERTH_LOG_LEVEL", "MODEL_VERSION": "BERTH_MODEL_VERSION", "PORT": "BERTH_PORT"}
_SERVICE_LINK = re.compile(r"BERTH_(\w+_)?(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        raise ValueError("a whole number")
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?\d{1,12}(\.\d{1,12})?", text, re.ASCII):
        raise ValueError("a number")
    return float(text)


def _flag(text: str) -> bool:
    try:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    except KeyError:
        raise ValueError("true or false") from None


def _origins(text: str) -> str:
    origin = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#@]+", re.IGNORECASE)
    if any(not origin.fullmatch(part.strip()) for part in text.split(",") if part.strip()):
        raise ValueError("origins such as https://app.example.com, without a path, separated by commas; or *")
    return text


def _choice(*words: str) -> Callable[[str], str]:
    def parse_choice(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return parse_choice


def _setting(
    default: Any,
    parse: Callable[[str], Any],
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    shown: str | None = None,
) -> Any:
    """One line of the table; `shown` is how the default is written where it is not plain."""
    return field(default=default, metadata={"parse": parse, "help": text, "low": low, "high": high, "shown": shown})


def _auto(text: str, *, low: float, high: float | None = None, parse: Callable[[str], Any] = _whole) -> Any:
    """A number that the server finds out where it is None."""

    def parse_auto(value: str) -> Any:
        return None if value.lower() in ("", "auto") else parse(value)

    return _setting(None, parse_auto, text, low=low, high=high)


def _text(text: str, default: str = "", shown: str | None = None) -> Any:
    """Any text, as a path or a list of names."""
    return _setting(default, str, text, shown=shown)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server is configured with. None in a number means: found out from the machine (auto)."""

    host: str = _text("Address to listen on.", default="0.0.0.0")  # noqa: S104 - a container is reached from outside
    port: int = _setting(8000, _whole, "Port to listen on.", low=1, high=65535)
    workers: int | None = _auto(
        "gunicorn workers; auto is the CPU limit rounded down, or 1 with a GPU.", low=1, high=256
    )
    threads: int | None = _auto(
        "Threads per worker; auto is BERTH_MAX_INFLIGHT plus headroom for probes.", low=2, high=4096
    )
    cpu_threads: int | None = _auto(
        "OMP, BLAS, torch and onnxruntime threads of a worker; auto divides the CPUs by the workers.",
        low=1,
        high=1024,
    )
    grpc_port: int = _setting(
        0, _whole, "Port of the gRPC server, which needs grpcio; 0 turns it off.", low=0, high=65535
    )
    model_store: str = _text("Directory or file:// URI with NAME/VERSION folders.", default="model_store")
    models: str = _text(
        "Models to serve, as name@version,…; empty is the latest version of each. The first is the default of /predict."
    )
    model_version: str = _text("Version of the default model, if BERTH_MODELS names none.")
    accelerate: str = _setting(
        "auto", _choice("auto", "off", "require"), "Whether accelerated models are used: auto, off or require."
    )
    batch_max_rows: int | None = _auto(
        "Maximum rows of waiting requests in one model call; 1 turns batching off.", low=1, high=1_000_000
    )
    batch_wait_ms: float = _setting(0.0, _number, "Milliseconds that a batch waits for more rows.", low=0, high=1000)
    cache_bytes: int = _setting(0, _whole, "Memory for the prediction cache of each worker; 0 turns it off.", low=0)
    max_inflight: int | None = _auto(
        "Maximum predictions in flight in one worker; the next gets 429. auto is 32 or more.", low=1, high=4096
    )
    max_wait_ms: float | None = _auto(
        "Maximum expected wait; beyond it a request gets 429. auto is a tenth of BERTH_REQUEST_TIMEOUT_SECONDS.",
        low=1,
        high=3_600_000,
        parse=_number,
    )
    compute_slots: int | None = _auto(
        "Predictions that a worker computes at once; auto is its CPUs. Raise it for models that wait on services.",
        low=1,
        high=1024,
    )
    max_body_bytes: int = _setting(
        16_777_216, _whole, "Maximum size of a body, as sent and unpacked; a larger one gets 413.", low=1
    )
    max_rows: int = _setting(100_000, _whole, "Maximum rows in one request.", low=1)
    request_timeout_seconds: float = _setting(
        30.0, _number, "Time limit of a request, which then gets 504; X-Request-Timeout-Ms can shorten it.", low=0.001
    )
    stuck_seconds: float = _setting(120.0, _number, "A prediction older than this makes /livez fail.", low=1)
    graceful_timeout_seconds: float = _setting(25.0, _number, "Time that requests in flight have after SIGTERM.", low=0)
    pickle: str = _setting(
        "restricted", _choice("restricted", "off"), "How joblib and pickle files are loaded; off rejects both formats."
    )
    pickle_allow: str = _text("Additional names that pickles may use: package.module:Name,…")
    torch_factories: str = _text("Factories that safetensors models may name: package.module:name,…")
    allow_code: bool = _setting(False, _flag, "Load models of the format `python`, which run their own code.")
    version_policy: str = _setting(
        "warn",
        _choice("warn", "strict"),
        "What happens when a model was built with other library versions: warn or strict.",
    )
    signature_keys_file: str = _text(
        "File with PEM public keys; versions that none of them signed are rejected.", shown="unset"
    )
    watch_minutes: float = _setting(
        60.0, _number, "Minutes of requests that are compared with a model's sample; 0 turns watching off.", low=0
    )
    watch_rows: int = _setting(5000, _whole, "Rows that each worker counts for drift per second.", low=1)
    load_seconds: float | None = _auto(
        "Time limit for loading a model and its first prediction; auto is CPU time, by format and size.",
        low=0.1,
        high=86400,
        parse=_number,
    )
    load_memory_bytes: int | None = _auto("Memory for trying a model; auto is most of the free memory.", low=1 << 20)
    feedback_key_file: str = _text(
        "File with signing keys of 32 bytes or more; responses then carry X-Berth-Receipt.", shown="unset"
    )
    experiment_file: str = _text("JSON file with experiments: which versions share a model's requests.", shown="unset")
    experiment_state_dir: str = _text("Directory that keeps the experiments' counts across restarts.", shown="unset")
    peers: str = _text("HOST:PORT,… of the pods that share the experiments' counts; set by the chart.")
    exit_on_load_failure: bool = _setting(False, _flag, "End the server when a model cannot be loaded.")
    api_keys_file: str = _text("File with name:sha256-of-key lines; turns on authentication.", shown="unset")
    protect_metrics: bool = _setting(False, _flag, "Require a key at /metrics too.")
    cors_origins: str = _setting(
        "", _origins, "Origins whose pages may call the server, separated by commas; * is any.", shown="none"
    )
    slot: str = _text("The slot this server runs in; set by the chart.")
    fingerprint: str = _text("The slot's fingerprint; set by the chart.")
    run_dir: str = _text(
        "Directory for drain, readiness and metrics files; those of an earlier start are removed.", shown="a fresh one"
    )
    shards: int | None = _auto("Number of shards of a `berth score` run; auto is none.", low=1)
    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"), "Minimum level that is logged.")
    log_format: str = _setting("", _choice("json", "text", ""), "json or text.", shown="json, text on a terminal")
    payload_log: str = _text("Where sampled requests and responses are written: a path or an http URL.", default="off")


TABLE: tuple[Field[Any], ...] = fields(Settings)
_BY_NAME = {PREFIX + setting.name.upper(): setting for setting in TABLE}


def variable(setting: Field[Any]) -> str:
    """The environment variable of a line of the table."""
    return PREFIX + setting.name.upper()


def default_text(setting: Field[Any]) -> str:
    """The default as documentation writes it."""
    if setting.metadata["shown"] is not None:
        return str(setting.metadata["shown"])
    return write_value(setting.default) or "empty"


def write_value(value: Any) -> str:
    """A value as it stands in the environment; `parse` reads it back."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    # All digits and no exponent: `_number` reads them back.
    return f"{Decimal(repr(value)).normalize():f}" if isinstance(value, float) else str(value)


def mask(text: str) -> str:
    """A value without the credentials that a URL in it may carry."""
    return re.sub(r"([?&][^=&]*=)[^&]*", r"\1***", re.sub(r"//[^/]*@", "//***@", text))


def _refuse_unknown(name: str, value: str) -> None:
    if _SERVICE_LINK.fullmatch(name):
        raise SettingsError(
            f"{name}={value!r} looks like a Kubernetes service link; set enableServiceLinks: false on the pod"
        )
    words = [known.removeprefix(PREFIX) for known in _BY_NAME]  # with the prefix every name would look near
    near = difflib.get_close_matches(name.removeprefix(PREFIX).upper(), words, n=1)
    raise SettingsError(
        f"{name} is not a setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else "; see `berth settings`")
    )


def _parse(name: str, setting: Field[Any], text: str) -> Any:
    low, high = setting.metadata["low"], setting.metadata["high"]
    try:
        value = setting.metadata["parse"](text.strip())
        if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
            raise ValueError(f"at least {low:g}" + (f" and at most {high:g}" if high is not None else ""))
    except ValueError as error:
        link = (
            " (a Kubernetes service link? set enableServiceLinks: false)"
            if "://" in text and name == "BERTH_PORT"
            else ""
        )
        raise SettingsError(f"{name}={text!r} must be {error}{link}") from None
    return value


def parse_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` gives. Raises SettingsError naming the key, the value and what was wanted."""
    given = {name: value for name, value in environ.items() if _OURS.match(name)}
    given |= {theirs: environ[theirs] for theirs, ours in ALIASES.items() if theirs in environ and ours not in given}
    values: dict[str, Any] = {}
    for name, text in given.items():
        ours = ALIASES.get(name, name)
        if ours not in _BY_NAME:
            _refuse_unknown(name, text)
        values[_BY_NAME[ours].name] = _parse(name, _BY_NAME[ours], text)
    return Settings(**values)


def read_environment() -> Mapping[str, str]:
    """The environment with its platform's settings: only cpu.py and the gunicorn file read it elsewhere."""
    import os

    return with_platform(os.environ)


def encode_settings(settings: Settings) -> dict[str, str]:
    """The environment that gives these settings again; empty values are left out."""
    pairs = {variable(setting): getattr(settings, setting.name) for setting in TABLE}
    return {name: write_value(value) for name, value in pairs.items() if value not in (None, "")}


def describe_settings(settings: Settings, environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """(variable, value, where it came from, help) for every setting; credentials in URLs are masked."""
    rows = []
    for setting in TABLE:
        name, value = variable(setting), write_value(getattr(settings, setting.name))
        alias = next((theirs for theirs, ours in ALIASES.items() if ours == name and theirs in environ), None)
        source = "environment" if name in environ else f"environment ({alias})" if alias else "default"
        rows.append((name, mask(value), source, setting.metadata["help"]))
    return rows


def store_directory(settings: Settings) -> Path:
    """The store as a local directory. Raises SettingsError for a scheme that this version does not read."""
    uri = settings.model_store.removeprefix("file://")
    if "://" in uri:
        raise SettingsError(
            f"BERTH_MODEL_STORE={mask(settings.model_store)!r}: only a directory or file:// URI can be served"
        )
    return Path(uri)
