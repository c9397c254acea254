"""Manifests of older schema versions, brought up to this one: a function for each step.

What a shard holds has not changed since version 1.
"""

from collections.abc import Callable
from typing import Any

from cache.schema import SCHEMA_VERSION
from cache.seals import checksum, fingerprint


def from_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has a checksum of its own, and its number is in the fingerprint."""
    manifest = {**manifest, "schema_version": 2}
    manifest["fingerprint"] = fingerprint(manifest["config"])
    return {**manifest, "checksum": checksum(manifest)}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_1}


def migrate(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest as `SCHEMA_VERSION` would have it, if there are steps from its own version."""
    while manifest["schema_version"] in STEPS and manifest["schema_version"] < SCHEMA_VERSION:
        manifest = STEPS[manifest["schema_version"]](manifest)
    return manifest
