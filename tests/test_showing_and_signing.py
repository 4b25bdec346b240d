"""What a picture says of itself, and files that carry the author's signature."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import StoryForgeError
from storyforge.provenance.c2pa import manifest, sign
from storyforge.provenance.recipe import PictureMetadata, again, read_metadata

RECIPE = {"schema_version": 1, "panel": "found", "key": "abc", "prompt": "a fox", "seed": 7}


def picture(path: Path, **texts: str) -> Path:
    notes = PngInfo()
    for name, text in texts.items():
        notes.add_itxt(name, text)
    Image.new("RGB", (16, 8), "teal").save(path, pnginfo=notes)
    return path


def test_a_picture_tells_its_recipe(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", storyforge=json.dumps(RECIPE), parameters="a fox\nSteps: 4")
    told = CliRunner().invoke(app, ["show", str(path)])
    assert told.exit_code == 0
    assert "16 x 8" in told.stdout
    assert "prompt  a fox" in told.stdout
    assert "seed    7" in told.stdout
    data = json.loads(CliRunner().invoke(app, ["show", str(path), "--json"]).stdout)
    assert data["recipe"] == RECIPE


@pytest.mark.parametrize("text", ["", "not json", "[1]", '{"other": 1}', "[" * 5000])
def test_a_picture_of_another_program_is_no_error(text: str, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", storyforge=text, parameters="a cat\nSteps: 20, Seed: 3")
    assert not read_metadata(path).recipe
    told = CliRunner().invoke(app, ["show", str(path)])
    assert told.exit_code == 0
    assert "Steps: 20, Seed: 3" in told.stdout


def test_a_picture_without_words_is_said_to_have_none(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["show", str(picture(tmp_path / "a.png"))])
    assert told.exit_code == 0
    assert "does not say what it was drawn from" in told.stdout


def test_what_is_no_png_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "a.png"
    broken.write_bytes(picture(tmp_path / "b.png").read_bytes()[:50])
    Image.new("RGB", (8, 8)).save(tmp_path / "c.jpg")
    for path in (broken, tmp_path / "c.jpg"):
        with pytest.raises(StoryForgeError, match="as a PNG"):
            read_metadata(path)


def test_a_picture_is_drawn_again_only_if_it_would_be_the_same() -> None:
    shown = PictureMetadata(Path("a.png"), 8, 8, RECIPE)
    assert again(shown, {"other": "x", "renamed": "abc"}) == "renamed"
    with pytest.raises(StoryForgeError, match="another picture"):
        again(shown, {"found": "def"})
    with pytest.raises(StoryForgeError, match="no panel"):
        again(shown, {"other": "def"})
    with pytest.raises(StoryForgeError, match="no recipe"):
        again(PictureMetadata(Path("a.png"), 8, 8), {"found": "abc"})


def test_without_the_extra_signing_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    path = picture(tmp_path / "a.png")
    with pytest.raises(StoryForgeError, match="extra `c2pa`") as raised:
        sign([path], path, path)
    assert "pip install c2pa-python" in str(raised.value.hint)
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_what_cannot_be_signed_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path, epub = picture(tmp_path / "a.png"), tmp_path / "a.epub"
    with pytest.raises(StoryForgeError, match="cannot be signed"):
        sign([path, epub], path, path)
    with pytest.raises(StoryForgeError, match="cannot read"):
        sign([path], tmp_path / "none.pem", path)


def test_what_is_signed_says_that_a_model_made_it() -> None:
    said = json.dumps(manifest("a.png"))
    assert '"c2pa.actions.v2"' in said
    assert "digitalsourcetype/trainedAlgorithmicMedia" in said


def certificates(folder: Path) -> tuple[Path, Path]:
    """A throw-away certificate with the one above it, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name(
            [
                x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Nobody"),
            ]
        )
        for name in ("Root", "Author")
    ]
    pem = b""
    for index in (1, 0):
        usage = [index == 1, *[False] * 4, index == 0, index == 0, False, False]
        built = (
            x509.CertificateBuilder()
            .subject_name(names[index])
            .issuer_name(names[0])
            .public_key(keys[index].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=index == 0, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(*usage), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(keys[index].public_key()), False
            )
        )
        if index:
            purpose = [x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]
            built = built.add_extension(x509.ExtendedKeyUsage(purpose), critical=True)
        made = built.sign(keys[0], hashes.SHA256())
        pem += made.public_bytes(serialization.Encoding.PEM)
    secret = keys[1].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(secret)
    return folder / "cert.pem", folder / "key.pem"


def test_a_signed_picture_is_a_copy_that_can_be_verified(tmp_path: Path) -> None:
    c2pa = pytest.importorskip("c2pa")
    path = picture(tmp_path / "a.png", storyforge=json.dumps(RECIPE))
    before = path.read_bytes()
    (signed,) = sign([path], *certificates(tmp_path))
    assert signed == tmp_path / "a.signed.png"
    assert path.read_bytes() == before
    assert read_metadata(signed).recipe == RECIPE
    with c2pa.Reader(str(signed)) as reader:
        told = json.loads(reader.json())
    assert "trainedAlgorithmicMedia" in json.dumps(told["manifests"])
    assert {each["code"] for each in told.get("validation_status", [])} <= {
        "signingCredential.untrusted"
    }
