"""Photographs to train on, for those who have none: 117 that Debian ships.

Debian 12's ``gcompris-qt-data`` (3.1-2) holds photographs of animals, buildings and
musicians, each with its author, its source and a free licence. They are put into a
folder as PNG files, at most 1280 pixels wide or high, beside ``CREDITS.md``::

    apt-get download gcompris-qt-data=3.1-2
    dpkg-deb -x gcompris-qt-data_*.deb gcompris
    python free_photos.py gcompris/usr/share/gcompris-qt/rcc photos
    deblur-train run photos -o runs/mine --time-limit 2h

Left out are small pictures and cut-outs, paintings, a scan, and the photograph that
``make_clip.py`` takes.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deblurgan.runtime.image_file import save_image

RESOURCES = (
    "details",
    "erase",
    "explore_farm_animals",
    "explore_monuments",
    "explore_world_animals",
    "explore_world_music",
)
LEFT_OUT = re.compile(r"Gogh|Tanguy|Auvers|castleClinton|berlinCathedral")
SMALLEST, LARGEST = 384, 1280  # pixels a side
FOLDER, COMPRESSED, ZSTD = 2, 1, 4  # flags of an entry of a resource file


@dataclass(frozen=True)
class Entry:
    """A file in a resource file: where it lies there, and what it holds."""

    offset: int
    path: str
    content: bytes


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python free_photos.py RCC_FOLDER PHOTOS")
    folder, photos = map(Path, sys.argv[1:])
    photos.mkdir(parents=True, exist_ok=True)
    rows = [row for name in RESOURCES for row in write_photos(folder / f"{name}.rcc", photos)]
    head = "| photograph | author | licence | file |\n|---|---|---|---|\n"
    credits = head + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    (photos / "CREDITS.md").write_text(credits, encoding="utf-8")
    print(f"{photos}: {len(rows)} photographs, and CREDITS.md")


def write_photos(resources: Path, photos: Path) -> Iterator[tuple[str, str, str, str]]:
    """Write the photographs of a resource file, numbered as they lie there, and tell
    name, author, licence and file of each.
    """
    try:
        entries = sorted(read_entries(resources), key=lambda entry: entry.offset)
        readme = next(entry for entry in entries if entry.path.endswith("/README"))
    except (OSError, struct.error, StopIteration):
        raise SystemExit(
            f"{resources}: expected a resource file of gcompris-qt-data 3.1-2"
        ) from None
    credits = read_credits(readme.content.decode())
    number = 0
    for entry in entries:
        if not entry.path.endswith(".webp"):
            continue
        pixels = cv2.imdecode(np.frombuffer(entry.content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels.shape[2] != 3 or min(pixels.shape[:2]) < SMALLEST:
            continue
        name, file = f"{resources.stem}-{number:03}", Path(entry.path).name
        number += 1
        if LEFT_OUT.search(file):
            continue
        height, width = pixels.shape[:2]
        scale = LARGEST / max(height, width)
        if scale < 1:
            size = round(width * scale), round(height * scale)
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        save_image(photos / f"{name}.png", pixels)
        yield name, *credits[file], f"{resources.stem}: {file}"


def read_credits(readme: str) -> dict[str, tuple[str, str]]:
    """Author and licence of each file that a README of the package tells of."""
    found = {}
    readme = readme.replace("audaPalatina", "aulaPalatina")  # its file is spelt so
    for block in re.split(r"\n\s*\n", readme):
        author = re.search(r"Copyright: *(.*)", block)
        licence = re.search(r"License: *(.*)", block)
        if author is None or licence is None:
            continue
        first = re.search(
            r"based on (?:an original image|a photo) by (.*), license ([^,]*),", block
        )
        name = author[1].strip() + (f", after {first[1]} ({first[2]})" if first else "")
        for file in re.findall(r"\S+\.webp", block):
            found[Path(file).name] = (name, licence[1].strip())
    return found


def read_entries(resources: Path) -> list[Entry]:
    """The files of a Qt resource file (``rcc --binary``, version 1 to 3)."""
    content = resources.read_bytes()
    version, tree, data, names = struct.unpack(">4I", content[4:20])
    entries: list[Entry] = []

    def name_at(offset: int) -> str:
        start = names + offset
        (length,) = struct.unpack(">H", content[start : start + 2])
        return content[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def walk(index: int, folder: str) -> None:
        start = tree + index * (14 if version == 1 else 22)
        name, flags, first, second = struct.unpack(">IHII", content[start : start + 14])
        path = f"{folder}/{name_at(name)}" if index else ""
        if flags & FOLDER:
            for child in range(second, second + first):
                walk(child, path)
            return
        place = data + second
        (length,) = struct.unpack(">I", content[place : place + 4])
        held = content[place + 4 : place + 4 + length]
        if flags & COMPRESSED:
            held = zlib.decompress(held[4:])
        if not flags & ZSTD:  # pages and drawings, none of them wanted
            entries.append(Entry(second, path, held))

    walk(0, "")
    return entries


if __name__ == "__main__":
    main()
