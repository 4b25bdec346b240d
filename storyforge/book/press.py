"""What a printing press wants of a PDF: its own colours (PDF/X-4), black that is black, crop marks.

PDF/X-4 names the press's ICC profile as the output intent; colours may stay sRGB, which the press
converts, or are turned into the profile's CMYK here. Veils behind words keep their sRGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageCms

from storyforge.book.archive import MADE_ON
from storyforge.provenance.xmp import describe_pdf
from storyforge.settings import Made
from storyforge.story.icc import PressProfile

if TYPE_CHECKING:
    import pikepdf

_DARK: Final = 0.25
"""Colours of which every channel is below this are printed in black alone: letters stay sharp."""

_QUALITY: Final = 92
_MARK: Final = (6.0, 18.0)
"""Points from the bleed to a crop mark, and its length."""

_PEN: Final = 0.25


@dataclass(frozen=True, slots=True)
class Press:
    """How a printer wants the file.

    profile  the press's ICC profile; None for a PDF/A in sRGB
    cmyk     whether colours are turned into the profile's own
    marks    whether crop marks stand round the bleed
    """

    profile: Path | None = None
    cmyk: bool = False
    marks: bool = False


def pressed(pdf: bytes, press: Press, title: str, made: Made = "model") -> bytes:
    """The PDF as the printer wants it; the same PDF and profile, the same bytes.

    made  who made the pictures, for a PDF that does not say so yet

    Raises StoryForgeError for a profile that cannot be read, or whose colours are no press's.
    """
    import pikepdf

    written = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        if press.profile is not None:
            profile = PressProfile.read(press.profile)
            if press.cmyk:
                _Converter(opened, profile).convert()
            _intend(opened, profile)
            describe_pdf(opened, title, made)
        if press.marks:
            for page in opened.pages:
                _mark(opened, page)
        version = "1.6" if press.profile is not None else opened.pdf_version
        opened.save(written, deterministic_id=True, force_version=version)
    return written.getvalue()


def _intend(pdf: pikepdf.Pdf, profile: PressProfile) -> None:
    """Say that the file is a PDF/X-4 for this profile."""
    import pikepdf

    stream = pikepdf.Stream(pdf, profile.content)
    stream.N = profile.inks
    pdf.Root.OutputIntents = pikepdf.Array(
        [
            pikepdf.Dictionary(
                Type=pikepdf.Name.OutputIntent,
                S=pikepdf.Name.GTS_PDFX,
                OutputConditionIdentifier=pikepdf.String("Custom"),
                OutputCondition=pikepdf.String(profile.name),
                Info=pikepdf.String(profile.name),
                RegistryName=pikepdf.String(""),
                DestOutputProfile=pdf.make_indirect(stream),
            )
        ]
    )
    _no_bare_rgb(pdf)
    made = _iso(MADE_ON)
    with pdf.open_metadata(set_pikepdf_as_editor=False) as said:
        said.register_xml_namespace("http://www.npes.org/pdfx/ns/id/", "pdfxid")
        for name in ("pdfaid:part", "pdfaid:conformance", "pdfuaid:part"):
            said.pop(name, None)
        said["pdfxid:GTS_PDFXVersion"] = "PDF/X-4"
        said["pdf:Trapped"] = "False"
        said["xmpMM:VersionID"] = "1"
        said["xmpMM:RenditionClass"] = "default"
        for name in ("xmp:CreateDate", "xmp:ModifyDate", "xmp:MetadataDate"):
            said[name] = made
    pdf.docinfo["/Trapped"] = pikepdf.Name("/False")
    pdf.docinfo["/GTS_PDFXVersion"] = "PDF/X-4"


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _no_bare_rgb(pdf: pikepdf.Pdf) -> None:
    """Give pictures in the device's RGB the profile that they are meant in."""
    import pikepdf

    named: pikepdf.Object | None = None
    for item in list(pdf.objects):
        if not isinstance(item, pikepdf.Stream) or item.get("/Subtype") != pikepdf.Name.Image:
            continue
        if item.get("/ColorSpace") == pikepdf.Name.DeviceRGB:
            if named is None:
                srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
                stream = pikepdf.Stream(pdf, srgb)
                stream.N = 3
                named = pikepdf.Array([pikepdf.Name.ICCBased, pdf.make_indirect(stream)])
            item.ColorSpace = named


@dataclass(slots=True)
class _Converter:
    """Turns pictures and flat colours of an open PDF into a profile's CMYK."""

    pdf: pikepdf.Pdf
    profile: PressProfile
    transform: ImageCms.ImageCmsTransform = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the one transform that everything goes through."""
        self.profile.check_cmyk()
        self.transform = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"),
            ImageCms.ImageCmsProfile(io.BytesIO(self.profile.content)),
            "RGB",
            "CMYK",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )

    def convert(self) -> None:
        """Convert every picture, page and form."""
        import pikepdf

        for item in list(self.pdf.objects):
            if isinstance(item, pikepdf.Stream) and item.get("/Type") != pikepdf.Name.Metadata:
                if item.get("/Subtype") == pikepdf.Name.Image:
                    self._picture(item)
                elif item.get("/Subtype") == pikepdf.Name.Form:
                    item.write(self._recolored(item, item.get("/Resources")))
        for page in self.pdf.pages:
            page.Contents = self.pdf.make_stream(self._recolored(page.obj, page.get("/Resources")))

    def _picture(self, item: pikepdf.Stream) -> None:
        import pikepdf

        if item.get("/ColorSpace") == pikepdf.Name.DeviceGray or "/ImageMask" in item:
            return
        shown = pikepdf.PdfImage(item).as_pil_image()
        made = ImageCms.applyTransform(shown.convert("RGB"), self.transform)
        if made is None:
            return
        out = io.BytesIO()
        said = shown.info.get("xmp", b"")
        made.save(out, "JPEG", quality=_QUALITY, subsampling=0, xmp=said)
        item.write(out.getvalue(), filter=pikepdf.Name.DCTDecode)
        item.ColorSpace = pikepdf.Name.DeviceCMYK
        # Pillow writes inks the way Adobe does, the other way round.
        item.Decode = pikepdf.Array([1, 0] * 4)

    def _recolored(self, holder: pikepdf.Object, resources: pikepdf.Object | None) -> bytes:
        """The content with its flat RGB colours as inks."""
        import pikepdf

        spaces = None if resources is None else resources.get("/ColorSpace")
        named = {} if spaces is None else {str(name): space for name, space in spaces.items()}
        colored = {name for name, space in named.items() if _is_rgb(space)}
        colored.add("/DeviceRGB")
        made: list[pikepdf.ContentStreamInstruction] = []
        within = {"fill": False, "stroke": False}
        for step in pikepdf.parse_content_stream(holder):
            operator, operands = str(step.operator), list(step.operands)
            kind = "stroke" if operator.isupper() else "fill"
            if operator in {"cs", "CS"}:
                within[kind] = str(operands[0]) in colored
                if within[kind]:
                    continue
            inks = operator in {"rg", "RG"} or (
                operator in {"sc", "SC", "scn", "SCN"} and within[kind] and len(operands) == 3
            )
            if not inks:
                made.append(pikepdf.ContentStreamInstruction(operands, step.operator))
                continue
            values = [round(each, 4) for each in self._inks([float(each) for each in operands])]
            ink = pikepdf.Operator("K" if kind == "stroke" else "k")
            made.append(pikepdf.ContentStreamInstruction(values, ink))
        return pikepdf.unparse_content_stream(made)

    def _inks(self, rgb: list[float]) -> list[float]:
        if max(rgb) < _DARK:
            return [0.0, 0.0, 0.0, 1 - sum(rgb) / 3 * 0.3]
        pixel = Image.new("RGB", (1, 1), tuple(round(255 * each) for each in rgb))
        made = ImageCms.applyTransform(pixel, self.transform)
        found = (0, 0, 0, 0) if made is None else made.getpixel((0, 0))
        return [each / 255 for each in found] if isinstance(found, tuple) else [0.0] * 4


def _is_rgb(space: pikepdf.Object) -> bool:
    import pikepdf

    if space == pikepdf.Name.DeviceRGB:
        return True
    based = isinstance(space, pikepdf.Array) and space[0] == pikepdf.Name.ICCBased
    return bool(based and int(space[1].get("/N", 0)) == 3)


def _mark(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    """Draw where a page is cut, outside its bleed, on a sheet that is so much larger."""
    gap, length = _MARK
    left, bottom, right, top = (float(edge) for edge in page.TrimBox)
    outer = [float(edge) for edge in page.MediaBox]
    room = gap + length + gap
    page.MediaBox = [outer[0] - room, outer[1] - room, outer[2] + room, outer[3] + room]
    if "/CropBox" in page:
        page.CropBox = page.MediaBox
    lines = []
    for x in (left, right):
        lines += [(x, outer[1] - gap, x, outer[1] - gap - length)]
        lines += [(x, outer[3] + gap, x, outer[3] + gap + length)]
    for y in (bottom, top):
        lines += [(outer[0] - gap, y, outer[0] - gap - length, y)]
        lines += [(outer[2] + gap, y, outer[2] + gap + length, y)]
    drawn = "".join(f"{a:.3f} {b:.3f} m {c:.3f} {d:.3f} l S\n" for a, b, c, d in lines)
    page.contents_add(f"/Artifact BMC q 0 G {_PEN} w\n{drawn}Q EMC\n".encode())
