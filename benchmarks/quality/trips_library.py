"""A library of trips: photographs of tests/photos with the facts that those of a family have.

Usage: python -m benchmarks.quality.trips_library FOLDER

Writes copies with EXIF dates, cameras, places (GPS) and names of people (XMP) into folders of
trips, and beside them what piles up in real libraries: bursts, web exports, edits and exact copies.
The hidden file `.library.csv` in FOLDER lists every file with its facts, and the file that it is made of.
"""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import ExifTags, Image

ROOT = Path(__file__).resolve().parents[2]
QUALITY = 92
EXPORT_QUALITY, EXPORT_SCALE = 70, 0.6
BURST_STEP_S = 1
BURST_SHIFT_PX = 4
COLUMNS = ("path", "kind", "of", "word", "taken_at", "latitude", "longitude", "people")


@dataclass(frozen=True)
class Trip:
    """A trip or a day, and the photographs that show it.

    Attributes:
        folder: Name of its folder.
        starts: Local time of the first photograph; None for photographs without a date.
        words: Words of the manifest whose photographs it has.
        camera: Make and model.
        place: Degrees north and east; None without GPS.
        people: Names of those who are in every third photograph.
    """

    folder: str
    starts: datetime | None
    words: tuple[str, ...]
    camera: tuple[str, str] = ("Apple", "iPhone 12")
    place: tuple[float, float] | None = None
    people: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copy:
    """A file of the library.

    Attributes:
        path: Path below the folder of the library.
        kind: ``photo``, ``burst``, ``export``, ``crop`` or ``copy``.
        of: Path of the file that it is made of; empty for a ``photo``.
        word: Word of its photograph.
        taken_at: Date and time; None if it is unknown.
        place: Degrees north and east; None without GPS.
        people: Names of the people in it.
    """

    path: str
    kind: str
    of: str
    word: str
    taken_at: datetime | None
    place: tuple[float, float] | None = None
    people: tuple[str, ...] = field(default=())


def _trip(
    folder: str,
    starts: str | None,
    words: str,
    place: tuple[float, float] | None = None,
    people: str = "",
    camera: str = "Apple iPhone 12",
) -> Trip:
    make, _, model = camera.partition(" ")
    return Trip(
        folder,
        None if starts is None else datetime.fromisoformat(starts),
        tuple(word.strip() for word in words.split(",")),
        (make, model),
        place,
        tuple(name.strip() for name in people.split(",") if name),
    )


TRIPS: Sequence[Trip] = (
    _trip("2012 Agra", "2012-02-14T09:10", "taj mahal, india gate", (27.1751, 78.0421)),
    _trip("2014 New York", "2014-10-03T11:00", "empire state, statue of liberty, Castle Clinton",
          (40.7128, -74.006), "Ben", "Canon EOS 70D"),
    _trip("2015 Rom", "2015-05-22T10:05", "colosseum", (41.8902, 12.4922),
          "Anna, Jürgen", "Canon EOS 70D"),
    _trip("2015 Pisa", "2015-05-24T15:30", "leaning tower of pisa", (43.723, 10.3966),
          "Maria Rossi", "Canon EOS 70D"),
    _trip("2016 Athen", "2016-09-12T18:20", "parthenon", (37.9715, 23.7267), "Sofía"),
    _trip("2017 Paris", "2017-12-24T16:00", "eiffel tower, arc de triomphe, le musee",
          (48.8566, 2.3522), "Chloé, Pierre Dubois"),
    _trip("2018 Holland", "2018-04-28T09:00", "windmill", (52.374, 4.8897), "Anna"),
    _trip("2019 Berlin", "2019-08-10T12:00", "brandenburg gate, Berlin Cathedral, polar bear, panda",
          (52.5163, 13.3777), "Ben, Noah"),
    _trip("2019 Neuschwanstein", "2019-12-31T14:00", "Neuschwanstein Castle", (47.5576, 10.7498)),
    _trip("2020 Bauernhof", "2020-05-03T10:00", "Sheep, Pig, Horse, Duck, Cow, Chicken, Dog",
          (47.8564, 12.1289), "Oma Inge, Emma", "SONY ILCE-6400"),
    _trip("2021 Loire", "2021-07-14T10:30", "Château de Chambord, Château de Chenonceau",
          (47.6161, 1.517), "Chloé"),
    _trip("2021 Provence", "2021-10-05T10:30", "Palais des Papes, Arles Amphitheatre, Pont du Gard",
          (43.9493, 4.8055), "Élodie"),
    _trip("2022 Lissabon", "2022-07-08T11:15", "fish", (38.7635, -9.0937), "Anna, Ben"),
    _trip("2023 Rio", "2023-02-19T17:45", "christ the redeemer", (-22.9519, -43.2105),
          "José García"),
    _trip("2024 Peru", "2024-06-21T07:30", "Machu Picchu", (-13.1631, -72.545), "José García"),
    _trip("2024 Jordanien", "2024-11-02T08:00", "Petra", (30.3285, 35.4444), "Yuki Tanaka"),
    _trip("2025 Sydney", "2025-01-04T19:10", "opera house, Kangaroo, Koala", (-33.8568, 151.2153),
          "Emma"),
    _trip("2025 Weihnachten", "2025-12-25T12:00", "cup, plate, spoons, pillow, chair", None,
          "Oma Inge"),
    _trip("2026 Ägypten", "2026-03-29T09:00",
          "great pyramid, Great Pyramid of Giza, Red Pyramid, Bent Pyramid", (29.9792, 31.1342),
          "Anna"),
    _trip("2026 Sommer", "2026-07-20T10:00", "dam, solar", (38.7223, -9.1393), "Anna"),
    _trip("2026 Werkstatt", "2026-11-28T15:00", "hammer, plier, measuring tape, screw driver",
          (53.5511, 9.9937), "Jürgen"),
    _trip("Scans", None, "Trier Imperial Baths, Worms Cathedral, Schwerin Palace, Reims Cathedral"),
)  # fmt: skip
BURSTS = ("2015 Rom", "2018 Holland", "2019 Berlin", "2025 Sydney")
"""Folders of which the first photograph is a burst of four."""
EXPORTS = ("2017 Paris", "2022 Lissabon", "2024 Jordanien")
"""Folders of which the first three photographs have a small copy in "Export web"."""


def write_library(folder: Path, photos: Path = ROOT / "tests/photos") -> list[Copy]:
    """Write the library into a folder and return its files.

    Args:
        folder: Folder for the library; files of the same names are replaced.
        photos: Folder with manifest.csv and the photographs.
    """
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        manifest = list(csv.DictReader(stream))
    copies: list[Copy] = []
    for trip in TRIPS:
        words = {word.casefold() for word in trip.words}
        rows = [row for row in manifest if row["word"].casefold() in words]
        for at, row in enumerate(rows):
            source = photos / row["path"]
            for copy, picture in _copies(trip, at, row["word"], source):
                path = folder / copy.path
                path.parent.mkdir(parents=True, exist_ok=True)
                if picture is None:
                    shutil.copy2(folder / copy.of, path)
                else:
                    save_picture(path, picture, copy, trip.camera)
                copies.append(copy)
    with (folder / ".library.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(_row(copy) for copy in copies)
    return copies


def _copies(
    trip: Trip, at: int, word: str, source: Path
) -> Iterator[tuple[Copy, Image.Image | None]]:
    """Yield the files of one photograph; the picture is None for an exact copy."""
    taken_at = None if trip.starts is None else trip.starts + timedelta(minutes=17 * at)
    people = trip.people if at % 3 == 0 else ()
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    path = f"{trip.folder}/IMG_{2000 + at}.jpg"
    yield Copy(path, "photo", "", word, taken_at, trip.place, people), picture
    if at == 0 and trip.folder in BURSTS:
        for number in range(1, 4):
            shift = BURST_SHIFT_PX * number
            frame = picture.crop((shift, shift // 2, picture.width, picture.height))
            moment = taken_at and taken_at + timedelta(seconds=BURST_STEP_S * number)
            name = f"{trip.folder}/IMG_{2000 + at}_BURST{number}.jpg"
            yield Copy(name, "burst", path, word, moment, trip.place, people), frame
    if at < 3 and trip.folder in EXPORTS:
        size = round(picture.width * EXPORT_SCALE), round(picture.height * EXPORT_SCALE)
        small = picture.resize(size, Image.Resampling.LANCZOS)
        name = f"Export web/{trip.folder} {at + 1}.jpg"
        yield Copy(name, "export", path, word, None), small
    if at == 1 and trip.folder in EXPORTS:
        edge = round(0.04 * min(picture.size))
        box = (edge, edge, picture.width - edge, picture.height - edge)
        name = f"{trip.folder}/IMG_{2000 + at}_edit.jpg"
        yield Copy(name, "crop", path, word, taken_at, trip.place, people), picture.crop(box)
    if at == 0 and trip.folder in BURSTS + EXPORTS:
        name = f"Backup phone/{trip.folder.replace(' ', '_')}.jpg"
        yield Copy(name, "copy", path, word, taken_at, trip.place, people), None


def save_picture(path: Path, picture: Image.Image, copy: Copy, camera: tuple[str, str]) -> None:
    """Save a picture as JPEG with the facts of a copy: date, camera, place and people."""
    exif = Image.Exif()
    if copy.kind != "export":
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = camera
    if copy.taken_at is not None:
        shown = copy.taken_at.strftime("%Y:%m:%d %H:%M:%S")
        exif[ExifTags.Base.DateTime] = shown
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = shown
    if copy.place is not None:
        latitude, longitude = copy.place
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef] = "N" if latitude >= 0 else "S"
        gps[ExifTags.GPS.GPSLatitude] = _degrees(latitude)
        gps[ExifTags.GPS.GPSLongitudeRef] = "E" if longitude >= 0 else "W"
        gps[ExifTags.GPS.GPSLongitude] = _degrees(longitude)
    quality = EXPORT_QUALITY if copy.kind == "export" else QUALITY
    options = {"xmp": _xmp(copy.people)} if copy.people else {}
    picture.save(path, quality=quality, exif=exif, **options)


def _degrees(value: float) -> tuple[float, float, float]:
    minutes, seconds = divmod(abs(value) * 3600, 60)
    degrees, minutes = divmod(minutes, 60)
    return degrees, minutes, round(seconds, 3)


def _xmp(people: Sequence[str]) -> bytes:
    names = "".join(f"<rdf:li>{escape(name)}</rdf:li>" for name in people)
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:PersonInImage><rdf:Bag>{names}</rdf:Bag></Iptc4xmpExt:PersonInImage>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _row(copy: Copy) -> tuple[object, ...]:
    latitude, longitude = copy.place or ("", "")
    taken_at = "" if copy.taken_at is None else copy.taken_at.isoformat()
    people = "; ".join(copy.people)
    return copy.path, copy.kind, copy.of, copy.word, taken_at, latitude, longitude, people


if __name__ == "__main__":
    files = write_library(Path(sys.argv[1]))
    print(f"{len(files)} files in {sys.argv[1]}")
