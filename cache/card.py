"""What a published cache says about itself: a table of clips, a card, a Croissant description."""

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cache import ravdess, schema
from cache.files import load_template
from cache.ravdess import EMOTIONS, LICENSES, Clip
from cache.schema import FIELDS, JPEG_FIELDS, NAMED, shard_name

_CLIP_NUMBERS = ("actor", "intensity", "statement", "repetition")
_COLUMNS = {  # of clips.csv: type, meaning
    "clip_id": ("sc:Text", FIELDS["clip_id"].meaning),
    "label": ("sc:Integer", FIELDS["label"].meaning),
    "emotion": ("sc:Text", "the label's name"),
    **{name: ("sc:Integer", FIELDS[name].meaning) for name in _CLIP_NUMBERS},
    "shard": ("sc:Text", "the HDF5 file that contains the clip's arrays"),
    "row": ("sc:Integer", "its row in every dataset of that file"),
    "source": ("sc:Text", "the raw file"),
    "source_sha256": ("sc:Text", "its SHA-256"),
    "notes": ("sc:Text", "what was repeated, appended or unusual"),
}


def clips_csv(manifest: Mapping[str, Any]) -> str:
    """One row per clip, for people and for tools that do not read HDF5."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
    table.writeheader()
    rows: Counter[str] = Counter()
    for clip_id, record in sorted(manifest["clips"].items()):
        clip = Clip.parse(clip_id)
        shard = shard_name(clip.actor)
        named = {name: getattr(clip, name) for name in NAMED}
        described = {"emotion": EMOTIONS[clip.label], "shard": shard, "row": rows[shard]}
        table.writerow(named | described | record | {"notes": "; ".join(record["notes"])})
        rows[shard] += 1
    return buffer.getvalue()


def render(
    template: str,
    manifest: Mapping[str, Any],
    fields: Collection[str],
    files: Mapping[str, tuple[int, str]],
) -> str:
    """A published cache's README (card.md.j2) or Croissant 1.0 description (croissant.json.j2).

    `fields` are those that its clips have, `files` the bytes and SHA-256 of each file, by name.
    """
    codec = manifest["config"].get("frames", {}).get("codec")
    datasets = {name: FIELDS[name] for name in fields if not (codec and name == "frames")}
    unknown = ("other", "https://schema.org/license")
    license_id, license_url = LICENSES.get(manifest["license"], unknown)
    return load_template(Path(__file__).with_name(template)).render(
        manifest=manifest,
        clips=[Clip.parse(clip_id) for clip_id in manifest["clips"]],
        ravdess=ravdess,
        schema=schema,
        has_frames="frames" in fields,
        points=manifest["config"].get("landmarks"),
        codec=codec,
        datasets=datasets | (JPEG_FIELDS if codec else {}),
        settings=json.dumps(manifest["config"], indent=1, sort_keys=True),
        license_id=license_id,
        license_url=license_url,
        files=dict(sorted(files.items())),
        columns=_COLUMNS,
    )
