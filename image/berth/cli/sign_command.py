"""`berth sign`: a signature beside a version's files."""

from __future__ import annotations

from pathlib import Path

import click

from berth.cli.option_types import FILE
from berth.cli.store_option import find_store, store_option
from berth.models.manifest import SIGNATURE
from berth.models.signing import read_private_key, sign_version
from berth.models.store import find_by_key, read_manifest_text, verify_version, write_signature


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="NAME[@VERSION]...")
@click.option("--key", required=True, type=FILE, help="File with a PEM private key on P-256, P-384 or P-521.")
@click.option("--password-file", type=FILE, help="File with the key's password.")
@store_option
def sign(models: tuple[str, ...], key: Path, password_file: Path | None, store: str | None) -> None:
    """Sign versions of the store.

    The signature, model.sig, is in the OpenSSF model-signing format and covers model.json and every file. Each file's
    digest is checked first. An existing signature is replaced.

    \b
    openssl ecparam -name prime256v1 -genkey -noout -out team.pem
    openssl ec -in team.pem -pubout -out team.pub
    berth sign iris@3 --key team.pem
    """
    password = password_file.read_bytes().rstrip(b"\r\n") if password_file else None
    folder, private_key = find_store(store), read_private_key(key, password)
    for word in models:
        entry = find_by_key(folder, word)
        verify_version(entry)
        text, manifest = read_manifest_text(entry)
        write_signature(entry, sign_version(manifest, text, private_key))
        click.echo(f"signed  {entry.key}: {SIGNATURE} covers {len(manifest.files) + 1} files")


COMMANDS = (sign,)
