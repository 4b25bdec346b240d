"""How a file says that a trained model made its pictures: the IPTC's digital source type, as XMP.

PNG and PDF are marked here, from their bytes; JPEG files by whoever writes them. Signing (C2PA) is
`provenance.c2pa`'s.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final

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

_SCHEMA: Final = f"""<rdf:li rdf:parseType="Resource">\
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

_METADATA: Final = re.compile(
    rb"(?P<number>\d+) 0 obj\n<</Length \d+/Type/Metadata/Subtype/XML>>\nstream\n"
    rb"(?P<packet>.*?)\nendstream",
    re.DOTALL,
)
_TRAILER: Final = re.compile(
    rb"trailer\n<</Size (?P<size>\d+)(?P<rest>.*?)>>\nstartxref\n(?P<table>\d+)\n%%EOF", re.DOTALL
)


def marked_png(png: bytes) -> bytes:
    """A PNG that says so; one that has a packet already is left as it is."""
    name = XMP_CHUNK.encode("ascii")
    if name in png:
        return png
    content = b"iTXt" + name + b"\0\0\0\0\0" + XMP.encode("utf-8")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_PNG_HEAD] + chunk + png[_PNG_HEAD:]


def marked_pdf(pdf: bytes) -> bytes:
    """A PDF/A as the typesetter writes it, with an update behind it whose metadata says so.

    Raises ValueError for a PDF whose metadata or cross-references are not where they should be.
    """
    found, trailer = _METADATA.search(pdf), _TRAILER.search(pdf, len(pdf) - 2_000)
    if found is None or trailer is None:
        raise ValueError("a PDF without plain metadata and cross-references cannot be marked")
    packet = found["packet"].replace(
        b"</rdf:Description>", f"{_SAID}</rdf:Description>".encode(), 1
    )
    packet = packet.replace(b'xmlns:dc="', f'xmlns:Iptc4xmpExt="{_IPTC}" xmlns:dc="'.encode(), 1)
    packet = packet.replace(
        b"<pdfaExtension:schemas><rdf:Bag>",
        f"<pdfaExtension:schemas><rdf:Bag>{_SCHEMA}".encode(),
        1,
    )
    if packet.count(b"Iptc4xmpExt") < 4:
        raise ValueError("a PDF whose metadata describe no schemas cannot be marked")
    number, start = int(found["number"]), len(pdf) + 1
    written = b"\n%d 0 obj\n<</Length %d/Type/Metadata/Subtype/XML>>\n" % (number, len(packet))
    written += b"stream\n%b\nendstream\nendobj\n" % packet
    table = len(pdf) + len(written)
    written += b"xref\n%d 1\n%010d 00000 n\r\n" % (number, start)
    written += b"trailer\n<</Size %b%b/Prev %b>>\n" % (
        trailer["size"],
        trailer["rest"],
        trailer["table"],
    )
    return pdf + written + b"startxref\n%d\n%%%%EOF" % table
