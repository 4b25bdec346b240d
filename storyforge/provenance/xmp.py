"""How a file says that a trained model made its pictures: the IPTC's digital source type, as XMP.

PNG and PDF are marked here; JPEG files by whoever writes them. Signing (C2PA) is
`provenance.c2pa`'s.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pikepdf

DIGITAL_SOURCE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""What the IPTC calls pictures that a trained model made."""

_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SAID: Final = f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE}</Iptc4xmpExt:DigitalSourceType>"

XMP: Final = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">\
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}">{_SAID}</rdf:Description>\
</rdf:RDF></x:xmpmeta>"""
"""The packet for a picture."""

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


def marked_png(png: bytes) -> bytes:
    """A PNG that says so; one that has a packet already is left as it is."""
    name = XMP_CHUNK.encode("ascii")
    if name in png:
        return png
    content = b"iTXt" + name + b"\0\0\0\0\0" + XMP.encode("utf-8")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_PNG_HEAD] + chunk + png[_PNG_HEAD:]


def mark_pdf(pdf: pikepdf.Pdf) -> None:
    """Say it in the metadata of an open PDF/A, and describe there what is said.

    Raises ValueError for a PDF without metadata that describe their schemas.
    """
    from lxml import etree

    if "/Metadata" not in pdf.Root:
        raise ValueError("a PDF without metadata cannot be marked")
    packet = etree.fromstring(pdf.Root.Metadata.read_bytes())
    bag = packet.find(f".//{{{_PDFA}}}schemas/{{{_RDF}}}Bag")
    about = packet.find(f".//{{{_RDF}}}Description")
    if bag is None or about is None:
        raise ValueError("a PDF whose metadata describe no schemas cannot be marked")
    if packet.find(f".//{{{_IPTC}}}DigitalSourceType") is not None:
        return
    said = etree.SubElement(about, f"{{{_IPTC}}}DigitalSourceType")
    said.text = DIGITAL_SOURCE
    bag.append(etree.fromstring(_SCHEMA))
    etree.cleanup_namespaces(packet, keep_ns_prefixes=["rdf", "pdfaSchema", "pdfaProperty"])
    written = etree.tostring(packet.getroottree(), encoding="utf-8")
    pdf.Root.Metadata.write(written)


def describe_pdf(pdf: pikepdf.Pdf, title: str) -> None:
    """Give a PDF without metadata its title, and say it there."""
    with pdf.open_metadata(set_pikepdf_as_editor=False) as metadata:
        metadata.register_xml_namespace(_IPTC, "Iptc4xmpExt")
        metadata["dc:title"] = title
        metadata["Iptc4xmpExt:DigitalSourceType"] = DIGITAL_SOURCE
