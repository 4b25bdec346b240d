"""How a file says who made its pictures, a model or a hand: the IPTC's digital source type, as XMP.

PNG and PDF are marked here; JPEG files by whoever writes them. Signing (C2PA) is
`provenance.c2pa`'s.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storyforge.settings import Made

if TYPE_CHECKING:
    import pikepdf

DIGITAL_SOURCE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""What the IPTC calls pictures that a trained model made."""

_TERMS: Final = DIGITAL_SOURCE.removesuffix("trainedAlgorithmicMedia")
SOURCES: Final[dict[Made, str]] = {
    "model": DIGITAL_SOURCE,
    "hand": f"{_TERMS}digitalCreation",
    "retouched": f"{_TERMS}compositeWithTrainedAlgorithmicMedia",
}
"""The IPTC's word for each way in which a picture may come about."""

_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"


def packet(made: Made) -> str:
    """The XMP packet of a picture that came about so."""
    said = f"<Iptc4xmpExt:DigitalSourceType>{SOURCES[made]}</Iptc4xmpExt:DigitalSourceType>"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}">{said}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    )


XMP: Final = packet("model")
"""The packet of a picture that a model drew."""

XMP_CHUNK: Final = "XML:com.adobe.xmp"
"""The name of the text chunk in which a PNG carries its XMP."""

_PNG_HEAD: Final = 33
"""Bytes of a PNG's signature and its first chunk."""

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PDFA: Final = "http://www.aiim.org/pdfa/ns/extension/"
_SCHEMA: Final = f"""<rdf:li xmlns:rdf="{_RDF}" \
xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" \
xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#" rdf:parseType="Resource">\
<pdfaSchema:schema>IPTC Extension schema</pdfaSchema:schema>\
<pdfaSchema:namespaceURI>{_IPTC}</pdfaSchema:namespaceURI>\
<pdfaSchema:prefix>Iptc4xmpExt</pdfaSchema:prefix>\
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">\
<pdfaProperty:category>external</pdfaProperty:category>\
<pdfaProperty:description>How the pictures came about</pdfaProperty:description>\
<pdfaProperty:name>DigitalSourceType</pdfaProperty:name>\
<pdfaProperty:valueType>URI</pdfaProperty:valueType>\
</rdf:li></rdf:Seq></pdfaSchema:property></rdf:li>"""
"""PDF/A wants every property that is not its own to be described."""


def together(made: Collection[Made]) -> Made:
    """How a book of such pictures came about; without any, by hand."""
    kinds = set(made) or {"hand"}
    return kinds.pop() if len(kinds) == 1 else "retouched"


def told_by(file: Path) -> Made | None:
    """What a picture of any format says of itself in its first bytes; None if it does not say.

    Only this much of the file is looked at: metadata stand before the pixels.
    """
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    said = [made for made, source in SOURCES.items() if source.encode("ascii") in head]
    return said[0] if said else None


_HEAD: Final = 1 << 20


def marked_png(png: bytes, made: Made = "model") -> bytes:
    """A PNG that says so; one that has a packet already is left as it is."""
    name = XMP_CHUNK.encode("ascii")
    if name in png:
        return png
    content = b"iTXt" + name + b"\0\0\0\0\0" + packet(made).encode("utf-8")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_PNG_HEAD] + chunk + png[_PNG_HEAD:]


def mark_pdf(pdf: pikepdf.Pdf, made: Made = "model") -> None:
    """Say it in the metadata of an open PDF/A, and describe there what is said.

    Raises ValueError for a PDF without metadata that describe their schemas.
    """
    from lxml import etree

    if "/Metadata" not in pdf.Root:
        raise ValueError("a PDF without metadata cannot be marked")
    told = etree.fromstring(pdf.Root.Metadata.read_bytes())
    bag = told.find(f".//{{{_PDFA}}}schemas/{{{_RDF}}}Bag")
    about = told.find(f".//{{{_RDF}}}Description")
    if bag is None or about is None:
        raise ValueError("a PDF whose metadata describe no schemas cannot be marked")
    if told.find(f".//{{{_IPTC}}}DigitalSourceType") is not None:
        return
    said = etree.SubElement(about, f"{{{_IPTC}}}DigitalSourceType")
    said.text = SOURCES[made]
    bag.append(etree.fromstring(_SCHEMA))
    etree.cleanup_namespaces(told, keep_ns_prefixes=["rdf", "pdfaSchema", "pdfaProperty"])
    written = etree.tostring(told.getroottree(), encoding="utf-8")
    pdf.Root.Metadata.write(written)


def describe_pdf(pdf: pikepdf.Pdf, title: str, made: Made = "model") -> None:
    """Give a PDF without metadata its title, and say it there."""
    with pdf.open_metadata(set_pikepdf_as_editor=False) as metadata:
        metadata.register_xml_namespace(_IPTC, "Iptc4xmpExt")
        metadata["dc:title"] = title
        metadata["Iptc4xmpExt:DigitalSourceType"] = SOURCES[made]
