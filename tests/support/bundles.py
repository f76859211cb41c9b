"""Bundles that a test changes, and what must become of them then."""

from __future__ import annotations

import pytest
import tiny

from edgeae import bundle
from edgeae.errors import BundleError


def denoiser_with_notes(folder):
    """A denoiser's bundle with a graph, a file, and a document among the files."""
    folder = folder / "tiny"
    folder.mkdir()
    (folder / "notes.bin").write_bytes(bytes(range(200)))
    return tiny.tiny_denoiser_bundle(folder, files=["notes.bin", "CARD.md"])


def refused(path, match):
    """Asserts that the bundle is refused with one line that matches."""
    with pytest.raises(BundleError, match=match) as caught:
        bundle.find(path)
    assert "\n" not in str(caught.value)


def set_key(path, value, *keys):
    """Sets the value under these keys of the manifest, or removes the key if the value is ..."""

    def change(manifest):
        for key in keys[:-1]:
            manifest = manifest[key]
        if value is ...:
            del manifest[keys[-1]]
        else:
            manifest[keys[-1]] = value

    return tiny.change_manifest(path, change)


def renewed(path):
    """The bundle with the codec id of what it holds, so that nothing but a fault is left of it."""

    def renew(manifest):
        files = {role: {"fp32": of["fp32"]["file"]} for role, of in manifest["graphs"].items()}
        manifest["codec_id"] = tiny.codec_id(path, manifest["latent"], files)

    return tiny.change_manifest(path, renew)


def spoiled(change):
    """What changes the latent section of a codec's bundle and gives it the id of that."""
    return lambda path: renewed(
        tiny.change_manifest(path, lambda manifest: change(manifest["latent"]))
    )
