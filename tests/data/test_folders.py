"""Which files of a folder are measured, and what is said of the others."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError
from whitebox_probe.cli import main as cli
from whitebox_probe.data import open_data
from whitebox_probe.data.folders import LeftOutWarning
from whitebox_probe.data.images import eight_bits, image_transform


def transform(mode="L", size=8):
    channels = 3 if mode == "RGB" else 1
    return image_transform(
        size=size,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        mode=mode,
        crop=1.0,
        interpolation="bilinear",
    )


def read(source):
    batches = list(source.batches(4, 0))
    return torch.cat([batch.inputs for batch in batches]), [batch.labels for batch in batches]


def picture(path, grey=9):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path, format="PNG")


@pytest.fixture
def folder(tmp_path):
    for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        picture(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints/0-checkpoint.png", "cat/._0.png", ".hidden.png", "__MACOSX/cat/0.png"],
)
def test_what_is_hidden_is_neither_sample_nor_class(folder, name):
    plain = open_data(folder, transform=transform())
    picture(folder / name)
    with pytest.warns(LeftOutWarning, match=rf"1 file is left out of .*: 1 hidden \({name}\)"):
        source = open_data(folder, transform=transform())
    assert source.count == 3
    assert read(source)[1][0].tolist() == [0, 0, 1]
    assert source.left_out == {"hidden": [name]}
    assert source.fingerprint == plain.fingerprint
    assert plain.left_out == {}


def test_a_folder_that_lies_below_a_hidden_one_is_read(tmp_path):
    picture(tmp_path / ".cache" / "pictures" / "0.png")
    assert open_data(tmp_path / ".cache" / "pictures", transform=transform()).count == 1


def test_each_file_that_is_no_sample_is_counted_and_named(folder):
    for name in ("cat/a.heic", "cat/b.heic", "labels.csv", "LICENSE", "dog/x.PNG.part"):
        (folder / name).write_bytes(b"x")
    (folder / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.warns(LeftOutWarning) as said:
        source = open_data(folder, transform=transform())
    assert source.count == 3
    assert source.left_out == {
        "'.heic' is no suffix of images": ["cat/a.heic", "cat/b.heic"],
        "'.csv' is no suffix of images": ["labels.csv"],
        "'.part' is no suffix of images": ["dog/x.PNG.part"],
        "without a suffix": ["LICENSE"],
        "not to be found": ["cat/gone.png"],
        "not a regular file": ["cat/pipe.png"],
    }
    line = str(said[0].message)
    assert line.startswith("7 files are left out of")
    assert "2 '.heic' is no suffix of images (cat/a.heic, ...)" in line
    assert line.endswith("The 3 others are measured.")
    assert "\n" not in line


def test_an_image_beside_the_folders_of_classes_is_named(folder):
    assert open_data(folder, transform=transform()).labelled
    picture(folder / "stray.png")
    source = open_data(folder, transform=transform())
    assert not source.labelled
    assert source.why == "'stray.png' lies in none of the subfolders"


MOVING = {"a.gif": 3, "b.tif": 2, "c.tiff": 2, "d.png": 2, "e.webp": 4}


@pytest.mark.parametrize("name", MOVING)
def test_frames_that_are_not_measured_are_counted_and_named(folder, name):
    first, *others = (Image.effect_noise((8, 8), 90 + i) for i in range(MOVING[name]))
    first.save(folder / "cat" / name, save_all=True, append_images=others)
    with pytest.warns(LeftOutWarning) as said:
        source = open_data(folder, transform=transform())
    assert source.count == 4
    frames = [f"cat/{name}, frame {n}" for n in range(2, MOVING[name] + 1)]
    assert source.left_out == {"further frames of a file": frames}
    line = str(said[0].message)
    count = len(frames)
    told = "1 frame is" if count == 1 else f"{count} frames are"
    assert line.startswith(f"{told} left out of")
    assert f"{count} further frames of a file (cat/{name}, frame 2" in line
    assert line.endswith("The 4 others are measured, of each file its first frame.")
    assert len(said) == 1
    with Image.open(folder / "cat" / name) as image:
        want = torch.from_numpy(np.array(image.convert("L"))).float() / 255
    assert torch.equal(read(source)[0][2, 0], want)


def test_files_and_frames_that_are_left_out_are_told_together(folder):
    pages = [Image.new("L", (8, 8), grey) for grey in (1, 2, 3)]
    pages[0].save(folder / "cat" / "p.tif", save_all=True, append_images=pages[1:])
    (folder / "labels.csv").write_text("x")
    for name in ("cat/z.gif", "cat/z.png"):  # no pictures: told when they are read
        (folder / name).write_bytes(b"GIF89a acTL")
    with pytest.warns(LeftOutWarning, match=r"^1 file and 2 frames are left out of"):
        open_data(folder, transform=transform())


def test_run_json_counts_the_frames_that_are_left_out(folder):
    frames = [Image.new("L", (28, 28), grey) for grey in (1, 2, 3)]
    frames[0].save(folder / "cat" / "x.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(LeftOutWarning):
        result = wp.probe("crate-tiny-fmnist", folder, ["l0"], progress=False)
    assert result.run.data["left_out"] == {"further frames of a file": 2}
    assert result.run.count == 4


def test_a_folder_of_other_files_says_what_it_holds(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no image.*1 '\.heic' is no suffix"):
        open_data(tmp_path, transform=transform())


def test_the_command_line_notes_it_in_one_line(folder, capsys, tmp_path_factory):
    (folder / "labels.csv").write_text("x")
    out = tmp_path_factory.mktemp("out") / "run"
    words = ["run", "crate-tiny-fmnist", "--data", str(folder), "--metrics", "l0", "--quiet"]
    assert cli.main([*words, "--out", str(out)]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(notes) == 1
    assert "1 file is left out" in notes[0]


def test_links_to_folders_are_followed_and_circles_are_not(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(elsewhere / "0.png")
    (folder / "emu").symlink_to(elsewhere)
    (folder / "cat" / "up").symlink_to(folder)
    source = open_data(folder, transform=transform())
    assert source.count == 4
    assert read(source)[1][0].tolist() == [0, 0, 1, 2]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(folder):
    (folder / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match="dog cannot be read: Permission denied"):
            open_data(folder, transform=transform())
    finally:
        (folder / "dog").chmod(0o700)


def too_much_text(path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    picture(path)
    whole = path.read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * (2 << 20)))
    path.write_bytes(whole[:33] + text + whole[33:])


def cut_short(path):
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:900])


def huge(path):
    Image.new("1", (20_000, 20_000)).save(path)


@pytest.mark.parametrize("make", [too_much_text, cut_short, huge])
@pytest.mark.parametrize("workers", [0, 1])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, make, workers):
    picture(tmp_path / "0.png")  # the first is read on opening
    make(tmp_path / "x.png")
    source = open_data(tmp_path, transform=transform())
    with pytest.raises(DataError, match=r"x\.png is not a readable image"):
        list(source.batches(1, workers))


def grey_tiff(path, greys, bits, white_is_zero):
    """A grey picture, written by the standard's words alone: little-endian, not compressed."""
    rows, columns = greys.shape
    flat = greys.ravel()
    if bits == 12:
        a, b = flat[0::2], flat[1::2]
        content = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8)
    else:
        content = flat.astype("<u2" if bits == 16 else np.uint8)
    content = content.tobytes()
    shape = {256: columns, 257: rows, 277: 1, 278: rows}
    stored = {258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 279: len(content)}
    entries = [struct.pack("<HHII", tag, 4, 1, v) for tag, v in sorted((shape | stored).items())]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory)


class TestDepth:
    ROWS = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)

    @pytest.mark.parametrize("name", ["x.png", "x.tif"])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_pictures_of_16_bits_keep_their_greys(self, tmp_path, name, mode):
        Image.fromarray(self.ROWS).save(tmp_path / name)
        found = read(open_data(tmp_path, transform=transform(mode)))[0][0]
        expected = torch.from_numpy(self.ROWS.astype(np.float64) / 65535).float()
        # Half a step of 8 bits, which is what a model's preprocessing takes.
        assert (found - expected).abs().max() <= 0.5 / 255 + 1e-6
        assert found.max() == 1
        assert found.min() == 0

    def test_they_are_those_of_8_bits_in_any_order_of_bytes(self, tmp_path):
        want = np.rint(self.ROWS / 257).astype(np.uint8)
        for order in ("<u2", ">u2"):
            stored = Image.frombytes(
                "I;16" if order == "<u2" else "I;16B", (8, 8), self.ROWS.astype(order).tobytes()
            )
            assert np.array_equal(np.asarray(eight_bits(stored)), want)

    @pytest.mark.parametrize(
        ("bits", "white_is_zero"), [(8, False), (8, True), (12, False), (16, False), (16, True)]
    )
    def test_tiffs_of_all_depths_and_both_senses_are_one_picture(
        self, tmp_path, bits, white_is_zero
    ):
        eight = np.arange(0, 256, 4).astype(np.uint8).reshape(8, 8)
        eight[-1, -1] = 255
        white = 2**bits - 1
        greys = np.rint(eight * (white / 255)).astype(np.uint16)
        grey_tiff(
            tmp_path / "x.tif", white - greys if white_is_zero else greys, bits, white_is_zero
        )
        with Image.open(tmp_path / "x.tif") as image:
            assert np.array_equal(np.asarray(eight_bits(image)), eight)
        found = read(open_data(tmp_path, transform=transform()))[0][0]
        assert torch.equal(found[0], torch.from_numpy(eight).float() / 255)

    def test_a_png_that_pillow_opens_with_32_bits_has_16(self):
        image = Image.fromarray(self.ROWS.astype(np.int32))
        image.format = "PNG"
        assert image.mode == "I"
        assert np.array_equal(np.asarray(eight_bits(image)), np.rint(self.ROWS / 257))

    @pytest.mark.parametrize("kind", [np.float32, np.int32])
    def test_a_white_that_no_file_states_is_refused(self, tmp_path, kind):
        Image.fromarray(self.ROWS.astype(kind)).save(tmp_path / "x.tif")
        with pytest.raises(DataError, match=r"white of .*x\.tif is not known.*8 or 16 bits"):
            read(open_data(tmp_path, transform=transform()))

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_what_is_multiplied_by_its_opacity_is_brought_back(self, mode):
        plain = Image.new(mode, (4, 4), (100, 50) if mode == "LA" else (100, 90, 80, 51))
        found = eight_bits(plain.convert(f"{mode[:-1]}a"))
        assert found.mode == mode
        assert abs(np.asarray(found).astype(int) - np.asarray(plain)).max() <= 3

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA"])
    def test_other_modes_are_left_as_they_are(self, mode):
        image = Image.new(mode, (4, 4))
        assert eight_bits(image) is image
