"""`berth push`: a version of the store as an OCI image."""

from __future__ import annotations

import click

from berth.cli.store_option import find_store, store_option
from berth.models.store import find_by_key
from berth.pulling.pushing import push_version
from berth.pulling.registry_oci import parse_reference
from berth.settings import read_environment


@click.command()
@click.argument("model", metavar="NAME[@VERSION]")
@click.argument("uri")
@click.option("--modelpack", is_flag=True, help="Push a ModelPack artifact (CNCF model-spec) instead of an image.")
@store_option
def push(model: str, uri: str, modelpack: bool, store: str | None) -> None:
    """Push a version to an OCI registry, as an image with one layer; the same content has the same digest.

    The chart mounts such an image (model.source oci), and `berth pull` fetches from it. Credentials come from `docker
    login`, or from the file named by REGISTRY_AUTH_FILE. With --modelpack, each file is a layer of a ModelPack
    artifact, which other model tools and `berth pull` can read.

    \b
    berth push churn@7 oci://ghcr.io/acme/models/churn:7
    """
    if not uri.startswith("oci://"):
        raise click.BadParameter(f"{uri!r}: want oci://REGISTRY/REPOSITORY:TAG", param_hint="URI")
    reference = parse_reference(uri.removeprefix("oci://"))
    if reference.digest or reference.path:
        raise click.BadParameter(f"{uri!r}: the digest follows from the content; name a tag", param_hint="URI")
    entry = find_by_key(find_store(store), model)
    digest = push_version(entry, reference, read_environment(), as_model_pack=modelpack)
    click.echo(f"pushed  {entry.key} to {reference}")
    click.echo(f"oci://{reference.registry}/{reference.repository}@{digest}")


COMMANDS = (push,)
