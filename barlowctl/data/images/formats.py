"""Kinds of files, by the ending of a name and by the first bytes: which images can be read, and what others are.

Magic numbers are from the formats' own documents; of files in boxes (ISO/IEC 14496-12) the first box's brands count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from barlowctl.data.images import readers
from barlowctl.data.images.readers import Reader

HEAD = 352
"""Bytes of a file that `by_content` looks at; NIfTI has its mark at 344."""


@dataclass(frozen=True, eq=False)
class Format:
    """One kind of file; `kind` is for people, in the plural, and `advice` what to do instead of reading it.

    reader: "" where Pillow always reads it, else the codec that it takes, "none" where there is no reader.
    """

    kind: str
    reader: Reader = "none"
    advice: str = ""


_EXPORT = "export them as JPEG, PNG or TIFF to have them read"
_FRAMES = "take pictures out of one with: ffmpeg -i VIDEO -vf fps=1 frame-%06d.jpg"

IMAGE = Format("images", "")
JPEG_2000 = Format("JPEG 2000 images", "jpg_2000")
AVIF = Format("AVIF images", "avif")
HEIC = Format("HEIC images", "heif")
RAW = Format("camera RAW images", advice=_EXPORT)
PHOTOSHOP = Format("Photoshop and GIMP files", advice=_EXPORT)
DRAWING = Format("SVG, EPS and other drawings", advice=_EXPORT)
PDF = Format("PDF documents", advice="take pictures out of one with: pdfimages -all FILE PREFIX")
DICOM = Format("DICOM images", "dicom")
NIFTI = Format("NIfTI volumes", advice="save their slices as PNG to have them read")
JPEG_XL = Format("JPEG XL images", advice="convert one with: djxl FILE.jxl FILE.png")
OPEN_EXR = Format("OpenEXR and HDR images", advice=_EXPORT)
FITS = Format("FITS images", "fits")
SLIDE = Format("microscope slides", advice="save their tiles as PNG, JPEG or TIFF to have them read")
MICROSCOPE = Format("microscope files", advice="convert one with: bfconvert FILE FILE.ome.tif (Bio-Formats)")
ICON = Format("icons")
VIDEO = Format("videos", advice=_FRAMES)
ARCHIVE = Format("archives")
PACKED = Format("packed .beton files")
NUMPY = Format("NumPy arrays", advice="read from a folder without other images, or as a file that is named")
NUMPY_ARCHIVE = Format("archives of NumPy arrays", advice="each is read as a file that is named")
_ARRAYS = "save their images as PNG (of more than three bands: as .npy or TIFF) to have them read"
HDF5 = Format("HDF5 files", advice="read from a folder without image files, or as a file that is named")
HDF5_COMPRESSED = Format("compressed HDF5 files", advice="unpack one with: gunzip FILE.h5.gz")
MATLAB = Format("MATLAB files before version 7.3", advice="save one so that it is read: save('FILE.mat', '-v7.3')")
ARRAYS = Format("files of arrays (TFRecord, LMDB)", advice=_ARRAYS)
DOCUMENT = Format("other files")
LEFTOVER = Format("backup copies and unfinished downloads")

_ENDINGS: dict[Format, str] = {
    IMAGE: "jpg jpeg jpe jfif jif jfi pjpeg pjp mpo png apng bmp dib gif webp tif tiff ppm pgm pbm pnm pcx tga qoi",
    JPEG_2000: "jp2 j2k j2c jpc jpf jpx",
    AVIF: "avif avifs",
    HEIC: "heic heics heif heifs hif",
    RAW: "dng cr2 cr3 crw nef nrw arw srf sr2 raf orf rw2 rwl pef srw x3f 3fr fff iiq mrw erf kdc dcr mos raw",
    PHOTOSHOP: "psd psb xcf kra afphoto",
    DRAWING: "svg svgz eps ps ai cdr wmf emf",
    PDF: "pdf djvu",
    DICOM: "dcm dicom",
    NIFTI: "nii nii.gz mgz nrrd mha mhd",
    JPEG_XL: "jxl",
    OPEN_EXR: "exr hdr",
    FITS: "fits fit fts fits.gz fit.gz fts.gz fits.fz fit.fz",
    SLIDE: "svs ndpi mrxs scn vms vmu bif",
    MICROSCOPE: "czi lif lof nd2 vsi lsm oib oif oir ims stk zvi flex",
    ICON: "ico icns cur ani",
    VIDEO: "mp4 m4v mov avi mkv webm mpg mpeg wmv flv 3gp mts m2ts lrv insv ogv",
    ARCHIVE: "tar tar.gz tgz tar.bz2 tbz tbz2 tar.xz txz tar.zst zip gz bz2 xz zst 7z rar parquet arrow feather",
    PACKED: "beton",
    NUMPY: "npy",
    NUMPY_ARCHIVE: "npz",
    HDF5: "h5 hdf5 he5",
    HDF5_COMPRESSED: "h5.gz hdf5.gz",
    MATLAB: "mat",
    ARRAYS: "tfrecord tfrecords mdb lmdb rec",
    LEFTOVER: "bak orig old tmp temp part partial crdownload download swp aria2",
}
_BY_ENDING = {ending: kind for kind, endings in _ENDINGS.items() for ending in endings.split()}
IMAGE_ENDINGS = tuple(ending for ending, kind in _BY_ENDING.items() if kind.reader != "none")
"""Of images that are read here, or would be with their codec; without the dot, in small letters."""

_OTHER_ENDINGS = (
    "txt json jsonl xml csv tsv md rst html htm css js py ipynb yaml yml toml ini cfg conf log doc docx xls "
    "xlsx ppt pptx odt ods rtf tex bib db sqlite sqlite3 lock pt pth ckpt safetensors onnx pkl pickle cls lst "
    "idx names mp3 wav flac ogg m4a aac exe dll so sh bat ps1 xmp aae thm url lnk webloc srt vtt ttf otf md5 "
    "sha1 sha256 torrent geojson kml prj tfw jgw pgw wld cpg shp shx dbf crc"
)
_BESIDE_IMAGES = frozenset(_OTHER_ENDINGS.split())
"""Endings of what commonly lies beside images: such files are not opened to see what they are."""

_MAGIC: tuple[tuple[int, bytes, Format], ...] = (
    (128, b"DICM", DICOM),  # before TIFF, whose header may stand in its first 128 bytes (PS3.10, 7.1)
    *((0, start, DICOM) for start in (b"\x08\0\x05\0", b"\x08\0\0\0\x04\0\0\0", b"\x02\0\0\0UL")),  # old
    (0, b"\xff\xd8\xff", IMAGE),
    (0, b"\x89PNG\r\n\x1a\n", IMAGE),
    (0, b"GIF87a", IMAGE),
    (0, b"GIF89a", IMAGE),
    (0, b"II*\0\x10\0\0\0CR", RAW),
    (0, b"IIRO", RAW),
    (0, b"IIU\0", RAW),
    (0, b"FUJIFILMCCD-RAW", RAW),
    *((0, start, IMAGE) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (8, b"WEBPVP8", IMAGE),
    (0, b"qoif", IMAGE),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (0, b"\xff\x4f\xff\x51", JPEG_2000),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
    (0, b"\xff\x0a", JPEG_XL),
    (0, b"8BPS", PHOTOSHOP),
    (0, b"gimp xcf", PHOTOSHOP),
    (0, b"%PDF-", PDF),
    (0, b"%!PS", DRAWING),
    (0, b"\xc5\xd0\xd3\xc6", DRAWING),
    (0, b"<svg", DRAWING),
    (344, b"n+1\0", NIFTI),
    (344, b"ni1\0", NIFTI),
    (0, b"\x76\x2f\x31\x01", OPEN_EXR),
    (0, b"#?RADIANCE", OPEN_EXR),
    (0, b"SIMPLE  =", FITS),
    (0, b"\0\0\x01\0", ICON),
    (0, b"\x1a\x45\xdf\xa3", VIDEO),
    (8, b"AVI LIST", VIDEO),
    (0, b"\0\0\x01\xba", VIDEO),
    (0, b"FLV\x01", VIDEO),
    (0, b"PK\x03\x04", ARCHIVE),
    (0, b"\x1f\x8b", ARCHIVE),
    (0, b"BZh", ARCHIVE),
    (0, b"\xfd7zXZ\0", ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (0, b"Rar!\x1a\x07", ARCHIVE),
    (0, b"\x28\xb5\x2f\xfd", ARCHIVE),
    (257, b"ustar", ARCHIVE),
    (0, b"PAR1", ARCHIVE),
    (0, b"\x93NUMPY", NUMPY),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (0, b"MATLAB 7.3 MAT-file", HDF5),
    (0, b"MATLAB 5.0 MAT-file", MATLAB),
)
_PORTABLE = re.compile(rb"P[1-6][ \t\r\n]+[0-9#]")  # PBM, PGM, PPM
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    **dict.fromkeys((b"crx ",), RAW),
    **dict.fromkeys((b"qt  ", b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"avc1", b"3gp4", b"3gp5", b"dash"), VIDEO),
    **dict.fromkeys((b"mif1", b"msf1"), HEIC),  # HEIF of whatever codec, where no other brand says which
}


def by_ending(name: str) -> Format | None:
    """What a name says its file is; None: only its content can tell. `name` may have folders."""
    base = name.rpartition("/")[2].lower()
    if base.endswith("~"):
        return LEFTOVER
    if base == "dicomdir":  # the table of contents of a disc
        return DOCUMENT
    parts = base.split(".")
    if len(parts) > 2 and (file_format := _BY_ENDING.get(".".join(parts[-2:]))):
        return file_format
    ending = parts[-1] if len(parts) > 1 else ""
    if file_format := _BY_ENDING.get(ending):
        return file_format
    return DOCUMENT if ending in _BESIDE_IMAGES else None


def content_decides(name: str) -> bool:
    """Whether a file must be looked into: its ending says nothing, or names images that cannot be read here.

    Phones and programs call JPEGs .heic, and of DICOM and FITS files some have no picture (`dicom_classes`,
    `without_picture`), and MATLAB files are HDF5 or not; camera RAW images begin as TIFF files do, so that their ending
    counts.
    """
    file_format = by_ending(name)
    return file_format in (None, DICOM, FITS, MATLAB) or (
        file_format in (HEIC, AVIF, JPEG_2000, JPEG_XL) and not readable(file_format)
    )


def by_content(head: bytes) -> Format | None:
    """What a file is by its first `HEAD` bytes; None: nothing that is known here."""
    for at, magic, file_format in _MAGIC:
        if head.startswith(magic, at):
            return file_format
    if head[4:8] == b"ftyp":
        end = min(len(head), max(16, int.from_bytes(head[:4])))
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
        return next((file_format for brand, file_format in _BRANDS.items() if brand in brands), VIDEO)
    if (
        head[:2] == b"BM"
        and head[6:10] == bytes(4)
        and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)
    ):
        return IMAGE
    if _PORTABLE.match(head):
        return IMAGE
    if head[:1] == b"\x0a" and head[1:2] in b"\0\2\3\4\5" and head[2:3] == b"\1" and head[3:4] in b"\1\2\4\x08":
        return IMAGE  # PCX
    if b"<svg" in head[:HEAD] and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return DRAWING
    return None


def is_fits(head: bytes) -> bool:
    """Whether the first bytes are those of a FITS file."""
    return by_content(head) is FITS


def readable(file_format: Format) -> bool:
    """Whether images of a kind can be read here."""
    return file_format.reader == "" or (file_format.reader != "none" and readers.is_there(file_format.reader))


def installation(file_format: Format) -> str | None:
    """The command that brings a kind's reader; None where there is none."""
    return readers.installation(file_format.reader)


def next_step(file_format: Format) -> str | None:
    """What to do next: the command that brings the reader, else what is to be done by hand."""
    return installation(file_format) or file_format.advice or None


def advice(file_format: Format) -> str:
    """What to do to have files of a kind read that are not, in words."""
    command = installation(file_format)
    return f"to read them: {command}" if command else file_format.advice


def kind_of_other(name: str) -> str:
    """What to call a file that is no image and of no known format: by its ending."""
    base = name.rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    if not dot or not stem:
        return "files without an ending that are no images"
    if not ending.isalnum() or not ending.isascii() or len(ending) > 12 or ending.isdigit():
        return "files with an unusual ending that are no images"
    return f".{ending.lower()} files"


def why_unreadable(data: bytes) -> str:
    """Why Pillow does not know these bytes for an image."""
    if not data:
        return "an empty file (0 bytes)"
    if data.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer and not the image itself: git lfs pull brings it"
    content = by_content(data[:HEAD])
    if content is not None and not readable(content):
        done = advice(content)
        return f"not an image that can be read: its content is that of {content.kind}" + (f"; {done}" if done else "")
    if content is HEIC:
        return "a damaged HEIC image"
    if content is not None:
        return "an image that is damaged or of a rare kind; save it anew as PNG or JPEG"
    start = data[:HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "not an image but a web page"
    if not any(data[:HEAD]):
        return "not an image of a known kind: it begins with zeros (an unfinished download?)"
    return "not an image of a known kind"
