"""RAVDESS at Zenodo: which files there are."""

from dataclasses import dataclass

from cache.transfer import RemoteFile

ADDRESS = "https://zenodo.org/records/{record}/files/{name}?download=1"

RAVDESS_RECORD, LANDMARKS_RECORD = 1188976, 3255102


@dataclass(frozen=True)
class ZenodoFile:
    """One zip at Zenodo.

    Attributes:
        name: file name, the same there and here.
        record: number of the Zenodo record.
        bytes: size of the zip.
        md5: hexadecimal, as Zenodo lists it.
        members: how many recordings or tables are in the zip.
        growth: the most that its members may hold together, in sizes of the zip.
        folder: where below the target folder it is unpacked.
    """

    name: str
    record: int
    bytes: int
    md5: str
    members: int
    growth: int
    folder: str = ""

    def remote(self, address: str = ADDRESS) -> RemoteFile:
        """What to fetch, from `address` with `{record}` and `{name}`."""
        return RemoteFile(
            self.name,
            address.format(record=self.record, name=self.name),
            self.bytes,
            f"md5:{self.md5}",
            f"https://zenodo.org/records/{self.record}",
        )


# Actor: bytes, MD5. 60 recordings with sound (01-01-*) and the same 60 without (02-01-*) in each.
_VIDEO = {
    1: (552_968_353, "3c8ececaf392b4a9b11b32271f4f6d01"),
    2: (570_673_024, "a6f40d413b2e6ef25b3a595099e59abb"),
    3: (567_824_665, "68fa240ddd8a3cc410c64efe5fb2b0e4"),
    4: (546_560_009, "013eed832af1f7e97082aae398a00dbe"),
    5: (562_966_425, "b00e17d61374ef6ba86fef35d50a20fb"),
    6: (568_517_859, "3c42877921cc08cfb5c841a0f2cb94a7"),
    7: (565_652_404, "bdd29bfe082f80361ec6b589845c283d"),
    8: (562_573_079, "bed5f43d9c18e177e34d4bc1ed9b6d77"),
    9: (523_489_249, "775da349c50bf915a1bbcb37379bd092"),
    10: (565_580_163, "70199d1c6902f76e17df308d5c41fa01"),
    11: (518_634_370, "824504aa41a8fd575e5459d5701dd378"),
    12: (557_928_718, "2a1f0ddc0ca207beedee6ce2ea863ad7"),
    13: (501_877_549, "c5f2fd4fd77941636947620368c612b5"),
    14: (552_484_059, "466d31f4cce92a14b1f4ee884bbdf7d7"),
    15: (525_205_576, "4b3b9bc8473e86f884630f2506684887"),
    16: (562_416_513, "a63c54570ebbe6bd616d0dced5630f7e"),
    17: (551_688_845, "8b7ae3e5a85d2874ac8e1195e722e047"),
    18: (565_655_520, "fef2131ac361da182c0cb85f3d8e8a6c"),
    19: (581_121_687, "abb97d97d8c4e88c866cee1cea9d06d6"),
    20: (561_349_264, "5ddfb22770093bafebdefe8faa449f48"),
    21: (590_292_896, "d810cf2ff6863ef91306fc7a16d74fbb"),
    22: (560_907_466, "fee55f72c9871401f23d4b167de3217d"),
    23: (545_177_865, "b31e8c8904e66102e7a951694db752d6"),
    24: (595_799_165, "eef90e806c9179bc5b4b098d03647ae3"),
}

VIDEO = {
    actor: ZenodoFile(
        f"Video_Speech_Actor_{actor:02d}.zip", RAVDESS_RECORD, size, md5, members=120, growth=3
    )
    for actor, (size, md5) in _VIDEO.items()
}
AUDIO = ZenodoFile(
    "Audio_Speech_Actors_01-24.zip",
    RAVDESS_RECORD,
    208_468_073,
    "bc696df654c87fed845eb13823edef8a",
    members=1440,
    growth=6,  # 16 bit PCM; 2.5 times, reckoned from the length of the recordings
)
LANDMARKS = ZenodoFile(
    "FacialTracking_Actors_01-24.zip",
    LANDMARKS_RECORD,
    417_163_019,
    "5753bbc64a9a790f8a8d3e03cba526ee",
    members=2452,
    growth=10,  # numbers as text
    folder="landmarks",  # they lie flat in the zip
)
