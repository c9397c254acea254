"""What a published cache says of itself: a card for people, a Croissant description for tools."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from cache.ravdess import EMOTIONS, Clip, is_recordings

_LICENSES = {  # as the manifest names it: as the Hugging Face hub does, and its address
    "CC BY-NC-SA 4.0": ("cc-by-nc-sa-4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
    "CC0 1.0": ("cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
}
COLUMNS = {  # of clips.csv: type, meaning
    "clip_id": ("sc:Text", "the name of the raw clip without its extension"),
    "label": ("sc:Integer", "0..7, neutral to surprised"),
    "emotion": ("sc:Text", "the label's name"),
    "actor": ("sc:Integer", "1..24; odd are men, even are women"),
    "intensity": ("sc:Integer", "1 normal, 2 strong"),
    "statement": ("sc:Integer", "which of the two sentences is spoken"),
    "repetition": ("sc:Integer", "first or second time"),
    "shard": ("sc:Text", "the HDF5 file that holds the clip's arrays"),
    "row": ("sc:Integer", "its row in every dataset of that file"),
    "source": ("sc:Text", "the raw file"),
    "source_sha256": ("sc:Text", "its SHA-256"),
    "notes": ("sc:Text", "what was repeated, appended or odd"),
}
# Croissant 1.0's own; tools compare it.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    name: f"cr:{name}"
    for name in (
        *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileSet"),
        *("fileProperty", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5"),
        *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace"),
        *("samplingRate", "separator", "source", "subField", "transform"),
    )
}


def card(manifest: Mapping[str, Any]) -> str:
    """The README of a published cache, in Markdown, with the header that the hub reads."""
    clips = [Clip.parse(clip_id) for clip_id in manifest["clips"]]
    emotions = Counter(clip.label for clip in clips)
    actors = sorted({clip.actor for clip in clips})
    license_id, license_url = _license(manifest)
    noted = sum(bool(record["notes"]) for record in manifest["clips"].values())
    settings = json.dumps(manifest["config"], indent=1, sort_keys=True)
    versions = ", ".join(f"{name} {v}" for name, v in sorted(manifest["versions"].items()))
    total = sum(shard["bytes"] for shard in manifest["shards"])
    rows = "\n".join(f"| {name} | {emotions[label]} |" for label, name in enumerate(EMOTIONS))
    return f"""---
license: {license_id}
pretty_name: {_title(manifest)}
language:
- en
task_categories:
{_tasks(manifest)}tags:
- emotion-recognition
- ravdess
- hdf5
size_categories:
- {"n<1K" if len(clips) < 1000 else "1K<n<10K"}
configs:
- config_name: clips
  data_files: clips.csv
---

# {_title(manifest)}

{_description(manifest)}

| | |
|---|---|
| clips | {len(clips)} of actors {", ".join(map(str, actors))} |
| bytes | {total:,} in {len(manifest["shards"])} shards |
| frames | {_frames(manifest)} |
| fingerprint of the settings | `{manifest["fingerprint"]}` |
| clips with notes | {noted} (last column of `clips.csv`) |

| emotion | clips |
|---|---|
{rows}

## Use

Check with `sha256sum --check SHA256SUMS`. With CFN-SR installed (`pip install '.[share]'`), fetch
and train from the address of this folder:

```
python -m cache fetch ADDRESS data/cache
python train.py --cache data/cache --fold 0{_model(manifest)}
```

A folder that holds some of the actors joins others of the same settings: fetch one after the other.

Without it: `clips.csv` says in which shard and row each clip lies. Shards are HDF5, every dataset
has a row a clip: {_arrays(manifest)}; `manifest.json` has the checksum of every shard and of every
raw clip.

## Settings

Made with {versions}. Others who run the same versions with these settings on the same raw clips get
the same bytes{_packed(manifest)}:

```
{settings}
```

## Known limits

- {_nature(manifest)}
- Keep the folds apart by actor: clips of one actor in training and test give accuracies that mean
  nothing.
{_cropped(manifest)}{_lossy(manifest)}
## Licence and citation

[{manifest["license"]}]({license_url}). This folder is a work derived from the raw clips and is
under the same licence. Cite

> {manifest["citation"]}
"""


def croissant(
    manifest: Mapping[str, Any], sizes: Mapping[str, int], sums: Mapping[str, str]
) -> str:
    """The Croissant 1.0 description: the files with their checksums, and `clips.csv` as records.

    Args:
        manifest: of the cache.
        sizes: name to bytes of every file that is described.
        sums: name to SHA-256 of the same.
    """
    kinds = {".h5": "application/x-hdf5", ".csv": "text/csv", ".json": "application/json"}
    files = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{sizes[name]} B",
            "encodingFormat": kinds[name[name.rindex(".") :]],
            "sha256": sums[name],
        }
        for name in sorted(sums)
    ]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"clips/{name}",
            "name": name,
            "description": meaning,
            "dataType": kind,
            "source": {"fileObject": {"@id": "clips.csv"}, "extract": {"column": name}},
        }
        for name, (kind, meaning) in COLUMNS.items()
    ]
    _, license_url = _license(manifest)
    description = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"cfn-sr-cache-{manifest['fingerprint'][:12]}-{manifest['checksum'][:12]}",
        "description": _description(manifest),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "citeAs": manifest["citation"],
        "license": license_url,
        "url": "https://doi.org/10.5281/zenodo.1188976",
        "version": "1.0.0",
        "distribution": files,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "clips",
                "name": "clips",
                "description": "A record for each clip: its label, and where its arrays lie.",
                "field": fields,
            }
        ],
    }
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def _title(manifest: Mapping[str, Any]) -> str:
    what = "Face crops and MFCCs" if _has_frames(manifest) else "MFCCs"
    return f"{what} of {manifest['dataset'].replace(':', ',')}"


def _description(manifest: Mapping[str, Any]) -> str:
    pictures = "30 face crops of 224x224 and " if _has_frames(manifest) else ""
    return (
        f"{pictures}13-dimensional MFCCs of 2.45 s of sound for each of {len(manifest['clips'])} "
        f"clips of {manifest['dataset']}, made by CFN-SR. One HDF5 shard for each actor."
    )


def _license(manifest: Mapping[str, Any]) -> tuple[str, str]:
    return _LICENSES.get(manifest["license"], ("other", "https://schema.org/license"))


def _nature(manifest: Mapping[str, Any]) -> str:
    if not is_recordings(manifest["dataset"]):
        return f"{manifest['dataset']}: what is learnt from it says nothing of people."
    return (
        "Acted emotions in two sentences of North American English, spoken by professional actors\n"
        "  in a studio. What is learnt from it need not hold elsewhere, and is not for decisions\n"
        "  about people."
    )


def _codec(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return manifest["config"].get("frames", {}).get("codec")


def _frames(manifest: Mapping[str, Any]) -> str:
    if not _has_frames(manifest):
        return "none: sound alone"
    codec = _codec(manifest)
    return f"JPEG, quality {codec['quality']}: **lossy**" if codec else "uint8 RGB, uncompressed"


def _has_frames(manifest: Mapping[str, Any]) -> bool:
    return "frames" in manifest["config"]


def _tasks(manifest: Mapping[str, Any]) -> str:
    return (
        "- video-classification\n" if _has_frames(manifest) else ""
    ) + "- audio-classification\n"


def _model(manifest: Mapping[str, Any]) -> str:
    return "" if _has_frames(manifest) else " --model audio_mfcc_cnn"


def _arrays(manifest: Mapping[str, Any]) -> str:
    names = ["`mfcc`", "`label`", "`clip_id`"]
    if manifest["config"].get("waveform"):
        names.append("`waveform`")
    if _codec(manifest):
        return (
            f"{', '.join(names)}, and so on; only `frames_jpeg` holds JPEG files one after\n"
            "the other, and `frames_end`, for each clip and frame, where its file ends there (it\n"
            "begins where the one before ends)"
        )
    return ", ".join([*(["`frames`"] if _has_frames(manifest) else []), *names]) + ", and so on"


def _packed(manifest: Mapping[str, Any]) -> str:
    return ", after `python -m cache pack --codec jpeg`" if _codec(manifest) else ""


def _cropped(manifest: Mapping[str, Any]) -> str:
    if not _has_frames(manifest):
        return ""
    return (
        "- Faces are cropped by boxes that were smoothed over time; `face_score` is 0 where a box\n"
        "  was interpolated.\n"
    )


def _lossy(manifest: Mapping[str, Any]) -> str:
    if not _codec(manifest):
        return ""
    return (
        "- Frames were stored as JPEG and are not quite those that preprocessing gave: accuracies\n"
        "  may differ a little from those of the uncompressed cache.\n"
    )
