"""Pictures with coordinates in their EXIF, named after their city by every way into an index."""

import io
import zipfile

import pytest
from PIL import ExifTags, Image

import mmsearch

LISBON = (38.7139, -9.1394)
MUNICH = (48.1374, 11.5755)
ATLANTIC = (40.0, -30.0)

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/"
   exif:GPSLatitude="{},{:.4f}N" exif:GPSLongitude="{},{:.4f}E"/>
 </rdf:RDF>
</x:xmpmeta>"""


def jpeg(latitude=None, longitude=None, colour="olive"):
    """Return a JPEG with the coordinates in its EXIF."""
    exif = Image.Exif()
    if latitude is not None:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef] = "N" if latitude >= 0 else "S"
        gps[ExifTags.GPS.GPSLatitude] = _sexagesimal(latitude)
        gps[ExifTags.GPS.GPSLongitudeRef] = "E" if longitude >= 0 else "W"
        gps[ExifTags.GPS.GPSLongitude] = _sexagesimal(longitude)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def _sexagesimal(degrees):
    whole, minutes = divmod(abs(degrees) * 60, 60)
    return (float(whole), float(int(minutes)), round(minutes % 1 * 60, 2))


def sidecar(latitude, longitude):
    north, east = divmod(latitude * 60, 60), divmod(longitude * 60, 60)
    return XMP.format(int(north[0]), north[1], int(east[0]), east[1])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "lisbon.jpg").write_bytes(jpeg(*LISBON))
    (folder / "munich.jpg").write_bytes(jpeg(*MUNICH, "navy"))
    (folder / "sea.jpg").write_bytes(jpeg(*ATLANTIC, "teal"))
    (folder / "unknown.jpg").write_bytes(jpeg(colour="red"))
    return folder


@pytest.fixture
def index(tmp_path):
    with mmsearch.open_index(home=tmp_path / "home") as index:
        yield index


def places(index):
    return {item.path.name if not item.uri else item.key: item.place for item in index}


def test_a_folder(index, photos):
    index.add_folder(photos)
    assert places(index) == {
        "lisbon.jpg": "Lisbon, Portugal",
        "munich.jpg": "Munich, Germany",
        "sea.jpg": None,
        "unknown.jpg": None,
    }
    (item,) = [item for item in index if item.path.name == "munich.jpg"]
    assert item.to_dict()["place"] == "Munich, Germany"
    (text,) = [text for text in item.texts if text.source == "gps"]
    assert text.text == "Munich; Bavaria; Germany"


def test_a_sidecar_moves_a_picture(index, photos):
    index.add_folder(photos)
    (photos / "lisbon.xmp").write_text(sidecar(*MUNICH))
    index.add_folder(photos)
    assert places(index)["lisbon.jpg"] == "Munich, Germany"
    (photos / "lisbon.xmp").unlink()
    index.add_folder(photos)
    assert places(index)["lisbon.jpg"] == "Lisbon, Portugal"


def test_records_and_archives(index, photos, tmp_path):
    index.add([jpeg(*LISBON)], ids=["a"])
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(photos / "munich.jpg", "munich.jpg")
    index.add_source(tmp_path / "more.zip")
    assert sorted(places(index).values()) == ["Lisbon, Portugal", "Munich, Germany"]


def test_an_import_names_places_and_an_export_leaves_them_out(index, photos, tmp_path):
    index.add_folder(photos)
    index.export(tmp_path / "out")
    with mmsearch.open_index("copy", home=tmp_path / "home") as copy:
        copy.import_embeddings(tmp_path / "out")
        assert places(copy) == places(index)
        made = [text for item in copy for text in item.texts if text.source == "gps"]
    assert len(made) == 2


def test_places_filter_and_are_found_in_words(index, photos):
    index.add_folder(photos)

    def found(filters):
        result = index.search("a picture", filters=filters)
        return sorted(hit.path.name for hit in result)

    assert found({"place": "Lissabon"}) == ["lisbon.jpg"]
    assert found({"place": "Allemagne"}) == ["munich.jpg"]
    assert found({"where": "'Bayern' in place"}) == ["munich.jpg"]
    assert found({"place": "Porto"}) == []
    words = index.search("Portugal", mode="text")
    assert [hit.path.name for hit in words] == ["lisbon.jpg"]
    assert words[0].place == "Lisbon, Portugal"
