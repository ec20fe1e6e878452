"""From settings to what the layers below expect as values: they never see the settings object."""

from __future__ import annotations

from berth.loaders.formats import LoadOptions
from berth.loaders.unpickle.loading import parse_allow
from berth.settings import Settings


def load_options(settings: Settings) -> LoadOptions:
    """What loaders may do under these settings."""
    return LoadOptions(
        pickle=settings.pickle,
        pickle_allow=parse_allow(settings.pickle_allow),
        allow_code=settings.allow_code,
        torch_factories=tuple(word.strip() for word in settings.torch_factories.split(",") if word.strip()),
        cpu_threads=settings.cpu_threads or 1,
        accelerate=settings.accelerate,
        load_seconds=settings.load_seconds,
        load_memory_bytes=settings.load_memory_bytes,
        signature_keys=(settings.signature_keys_file,) if settings.signature_keys_file else (),
    )
