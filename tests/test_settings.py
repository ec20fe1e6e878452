"""The settings table: what is taken, what stops the start and what it says, and the way back to the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.errors import SettingsError
from berth.settings import (
    TABLE,
    Settings,
    default_text,
    describe_settings,
    encode_settings,
    parse_settings,
    store_directory,
    variable,
    write_value,
)

# The contract's table: names and defaults are fixed.
DEFAULTS = {
    "BERTH_HOST": "0.0.0.0",
    "BERTH_PORT": "8000",
    "BERTH_WORKERS": "auto",
    "BERTH_THREADS": "auto",
    "BERTH_CPU_THREADS": "auto",
    "BERTH_MODEL_STORE": "model_store",
    "BERTH_MODELS": "empty",
    "BERTH_ACCELERATE": "auto",
    "BERTH_BATCH_MAX_ROWS": "auto",
    "BERTH_BATCH_WAIT_MS": "0",
    "BERTH_CACHE_BYTES": "0",
    "BERTH_MAX_INFLIGHT": "auto",
    "BERTH_MAX_BODY_BYTES": "16777216",
    "BERTH_MAX_ROWS": "100000",
    "BERTH_REQUEST_TIMEOUT_SECONDS": "30",
    "BERTH_STUCK_SECONDS": "120",
    "BERTH_GRACEFUL_TIMEOUT_SECONDS": "25",
    "BERTH_PICKLE": "restricted",
    "BERTH_PICKLE_ALLOW": "empty",
    "BERTH_ALLOW_CODE": "false",
    "BERTH_VERSION_POLICY": "warn",
    "BERTH_LOAD_SECONDS": "auto",
    "BERTH_LOAD_MEMORY_BYTES": "auto",
    "BERTH_EXIT_ON_LOAD_FAILURE": "false",
    "BERTH_API_KEYS_FILE": "unset",
    "BERTH_PROTECT_METRICS": "false",
    "BERTH_SLOT": "empty",
    "BERTH_FINGERPRINT": "empty",
    "BERTH_LOG_LEVEL": "info",
    "BERTH_LOG_FORMAT": "json, text on a terminal",
    "BERTH_PAYLOAD_LOG": "off",
}


def test_names_and_defaults_are_the_contracts() -> None:
    told = {variable(setting): default_text(setting) for setting in TABLE}
    assert told.items() >= DEFAULTS.items()
    assert all(setting.metadata["help"].endswith((".", "…")) for setting in TABLE)


def test_nothing_given_is_the_defaults() -> None:
    assert parse_settings({}) == parse_settings({"PATH": "/bin", "BERT_PORT": "1"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", " 9000 ", 9000),
        ("workers", "auto", None),
        ("workers", "", None),
        ("workers", "3", 3),
        ("batch_wait_ms", "2.5", 2.5),
        ("allow_code", "True", True),
        ("allow_code", "0", False),
        ("pickle", "OFF", "off"),
        ("models", "iris@3,churn", "iris@3,churn"),
    ],
)
def test_values(name: str, text: str, value: Any) -> None:
    assert getattr(parse_settings({f"BERTH_{name.upper()}": text}), name) == value


def test_the_names_of_platforms_are_taken_where_ours_are_not_set() -> None:
    assert parse_settings({"PORT": "8080"}).port == 8080
    assert parse_settings({"PORT": "8080", "BERTH_PORT": "9000"}).port == 9000
    with pytest.raises(SettingsError, match="PORT='tcp://1:2' must be a whole number"):
        parse_settings({"PORT": "tcp://1:2"})


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("BERTH_PORT", "http", "a whole number"),
        ("BERTH_PORT", "0", "at least 1 and at most 65535"),
        ("BERTH_PORT", "65536", "at least 1 and at most 65535"),
        ("BERTH_PORT", "٣", "a whole number"),
        ("BERTH_PORT", "8_000", "a whole number"),
        ("BERTH_WORKERS", "many", "a whole number"),
        ("BERTH_MAX_ROWS", "-1", "at least 1"),
        ("BERTH_BATCH_WAIT_MS", "1e2", "a number"),
        ("BERTH_BATCH_WAIT_MS", "nan", "a number"),
        ("BERTH_REQUEST_TIMEOUT_SECONDS", "inf", "a number"),
        ("BERTH_REQUEST_TIMEOUT_SECONDS", "9" * 400, "a number"),
        ("BERTH_ALLOW_CODE", "maybe", "true or false"),
        ("BERTH_ALLOW_CODE", "", "true or false"),
        ("BERTH_VERSION_POLICY", "loose", "one of warn, strict"),
    ],
)
def test_a_bad_value_is_named_with_what_is_wanted(name: str, text: str, wanted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings({name: text})
    assert caught.value.message == f"{name}={text!r} must be {wanted}"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("BERTH_BATCH_MAXROWS", "BERTH_BATCH_MAX_ROWS"),
        ("BERTH_TIMEOUT_SECONDS", "BERTH_REQUEST_TIMEOUT_SECONDS"),
        ("BERTH_port", "BERTH_PORT"),
        ("BERTH_API_KEY_FILE", "BERTH_API_KEYS_FILE"),
    ],
)
def test_an_unknown_name_stops_the_start_and_tells_the_nearest(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not a setting; did you mean {near}"):
        parse_settings({name: "1"})


def test_a_name_that_is_near_to_none() -> None:
    with pytest.raises(SettingsError, match="BERTH_Ω is not a setting; see `berth settings`"):
        parse_settings({"BERTH_Ω": "1"})


@pytest.mark.parametrize(
    "name",
    [
        "BERTH_SERVICE_HOST",
        "BERTH_SERVICE_PORT_HTTP",
        "BERTH_PORT_8000_TCP",
        "BERTH_PORT_8000_TCP_ADDR",
        "BERTH_BLUE_SERVICE_HOST",
        "BERTH_BLUE_PORT",
    ],
)
def test_a_service_link_is_told_as_such(name: str) -> None:
    with pytest.raises(SettingsError, match="service link; set enableServiceLinks: false"):
        parse_settings({name: "10.0.0.1"})


def test_the_service_link_that_takes_the_place_of_the_port() -> None:
    with pytest.raises(SettingsError, match=r"a whole number .a Kubernetes service link"):
        parse_settings({"BERTH_PORT": "tcp://10.0.0.1:8000"})


def test_the_articles_names_are_taken_but_ours_win() -> None:
    assert parse_settings({"LOG_LEVEL": "ERROR", "MODEL_VERSION": "3"}).log_level == "error"
    assert parse_settings({"MODEL_VERSION": "3"}).model_version == "3"
    assert parse_settings({"LOG_LEVEL": "error", "BERTH_LOG_LEVEL": "debug"}).log_level == "debug"


def test_where_a_value_came_from() -> None:
    environ = {"BERTH_PORT": "9000", "LOG_LEVEL": "error"}
    rows = {name: (value, source) for name, value, source, _ in describe_settings(parse_settings(environ), environ)}
    assert rows["BERTH_PORT"] == ("9000", "environment")
    assert rows["BERTH_LOG_LEVEL"] == ("error", "environment (LOG_LEVEL)")
    assert rows["BERTH_HOST"] == ("0.0.0.0", "default")
    assert len(rows) == len(TABLE)


@pytest.mark.parametrize(
    "url", ["s3://user:secret@host/b", "s3://user:sec@secret@host/b", "https://host/x?token=secret&sig=secret"]
)
def test_credentials_are_masked(url: str) -> None:
    settings = Settings(model_store=url, payload_log=url)
    assert "secret" not in str(describe_settings(settings, {}))
    assert "host" in str(describe_settings(settings, {}))
    with pytest.raises(SettingsError) as caught:
        store_directory(settings)
    assert "secret" not in caught.value.message


def test_the_store_is_a_directory_or_its_uri() -> None:
    assert store_directory(Settings(model_store="file:///srv/models")) == Path("/srv/models")
    assert store_directory(Settings(model_store="models")) == Path("models")


def _values(setting: Any) -> st.SearchStrategy[Any]:
    """Values that a line of the table may have."""
    low, high = setting.metadata["low"], setting.metadata["high"]
    kinds = {
        "int": st.integers(low, high or 10**15),
        "float": st.floats(max(low or 0, 0.001), high or 10**9, allow_subnormal=False).map(lambda x: round(x, 9)),
        "bool": st.booleans(),
        "str": st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(str.strip),
    }
    choices = {"accelerate": ["auto", "off"], "pickle": ["restricted", "off"], "version_policy": ["warn", "strict"],
               "log_level": ["debug", "info"], "log_format": ["json", "text", ""],
               "cors_origins": ["", "*", "https://a.example, http://b:1"]}  # fmt: skip
    if setting.name in choices:
        return st.sampled_from(choices[setting.name])
    plain = kinds[setting.type.split(" ")[0]]
    return st.none() | plain if "None" in setting.type else plain


@given(st.fixed_dictionaries({setting.name: _values(setting) for setting in TABLE}))
def test_settings_come_back_from_the_environment(values: dict[str, Any]) -> None:
    settings = Settings(**values)
    environ = encode_settings(settings)
    back = parse_settings(environ)
    for setting in TABLE:
        wanted = values[setting.name]
        if wanted == "" and setting.name not in environ:
            wanted = setting.default
        assert getattr(back, setting.name) == wanted


@pytest.mark.parametrize(("value", "text"), [(30.0, "30"), (1e6, "1000000"), (1e-5, "0.00001"), (0.1, "0.1")])
def test_numbers_are_written_without_an_exponent(value: float, text: str) -> None:
    assert write_value(value) == text
