"""What a manifest is sealed with: hashes over its settings, and over all of it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cache.schema import SCHEMA_VERSION


def fingerprint(config: Mapping[str, Any], schema_version: int = SCHEMA_VERSION) -> str:
    """SHA-256 over the schema version and every setting that changes a byte of a shard."""
    settings = {"schema_version": schema_version, "config": dict(config)}
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over all of a manifest but this very entry: notes and sources have no other."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
