"""Broken pictures, names and samples: one line, whoever reads them."""

import io
import math
import os
import pickle
import signal
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

import whitebox_probe as wp
from whitebox_probe._core import errors
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.cli.main import main
from whitebox_probe.data import _digest

PIXELS = (np.random.default_rng(0).random((32, 32, 3)) * 255).astype(np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


PNG, JPG = encoded(Image.fromarray(PIXELS)), encoded(Image.fromarray(PIXELS), "JPEG")


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def header(wide, tall):
    return PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", wide, tall, 8, 2, 0, 0, 0))


BOMB = zlib.compress(b"a" * (100 << 20))
BROKEN = {
    "cut.png": PNG[: len(PNG) // 2],
    "cut.jpg": JPG[:400],
    "empty.png": b"",
    "text.jpg": b"<html>quota exceeded</html>",
    "nul.png": b"\0" * 5000,
    "huge.png": header(20000, 20000) + chunk(b"IDAT", zlib.compress(b"\0" * 99)),
    "vast.png": header(2**31 - 1, 2**31 - 1),
    "none.png": header(0, 0),
    "comment.png": PNG[:33] + chunk(b"zTXt", b"Comment\0\0" + BOMB) + PNG[33:],
    "comments.png": PNG[:33] + chunk(b"tEXt", b"C\0" + b"x" * (1 << 20)) * 80 + PNG[33:],
    "profile.png": PNG[:33] + chunk(b"iCCP", b"p\0\0" + BOMB) + PNG[33:],
    "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n",
    "white.tif": encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
    "a\nb.png": PNG[:60],
    "😀.png": PNG[:60],
    os.fsdecode(b"\xff\xfe.png"): PNG[:60],
}
READ = {
    "one.png": encoded(Image.fromarray(PIXELS[:1, :1])),
    "thin.png": encoded(Image.fromarray(PIXELS[:1].repeat(40, 1))),
    "cmyk.jpg": encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"),
    "wide.png": encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
    "lab.tif": encoded(Image.fromarray(PIXELS).convert("LAB"), "TIFF"),
    "palette.png": encoded(Image.fromarray(PIXELS).quantize(8), transparency=3),
    "bit.png": encoded(Image.fromarray(PIXELS).convert("1")),
    "x\ny.png": PNG,
    os.fsdecode(b"\xfe\xff.png"): PNG,
}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for number in range(3):
        (place / f"{number}.png").write_bytes(PNG)
    return place


def run(folder, out, *more):
    words = ["--data", str(folder), "--metrics", "l0", "--out", str(out), "--quiet"]
    return main(["run", "crate-tiny-fmnist", *words, *more])


@pytest.mark.parametrize("name", BROKEN, ids=ascii)
def test_a_broken_picture_ends_in_one_line(name, folder, tmp_path, capsys):
    (folder / name).write_bytes(BROKEN[name])
    assert run(folder, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert len(told) < 500


@pytest.mark.parametrize("name", ["cut.png", "empty.png", "huge.png"])
def test_so_it_does_where_workers_read(name, folder, tmp_path, capsys):
    (folder / name).write_bytes(BROKEN[name])
    assert run(folder, tmp_path / "out", "--workers", "2") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "is not a readable image" in told


def test_unusual_pictures_are_read(folder):
    for name, content in READ.items():
        (folder / name).write_bytes(content)
    model = wp.load("crate-tiny-fmnist")
    assert len(wp.probe(model, folder, ["l0"], progress=False).samples) == 3 + len(READ)


def test_links_and_what_is_no_file_are_left_out(folder):
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "round").symlink_to(folder)
    (folder / "endless.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    with pytest.warns(UserWarning, match="4 files are left out"):
        result = wp.probe("crate-tiny-fmnist", folder, ["l0"], progress=False)
    assert len(result.samples) == 3


def of_every_error():
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    return [each for each in kinds if issubclass(each, ProbeError)]


@pytest.mark.parametrize("kind", of_every_error())
def test_an_error_is_the_same_behind_a_pickle(kind):
    more = {"SettingError": {"setting": "eps"}, "ArchitectureError": {"choices": {"heads": [1]}}}
    made = kind("what", "why", "fix", **more.get(kind.__name__, {}))
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is kind
    assert str(again) == str(made)
    assert vars(again) == vars(made)


class Odd(torch.utils.data.Dataset):
    """Samples of which the fourth is another."""

    def __init__(self, other):
        self.other = other

    def __len__(self):
        return 6

    def __getitem__(self, number):
        return self.other() if number == 3 else torch.ones(1, 28, 28)


def raising(error):
    def other():
        raise error

    return other


OTHERS = {
    "an error": raising(ValueError("several\nlines")),
    "an error of ours": raising(DataError("what", "why", "fix")),
    "an error without words": raising(RuntimeError()),
    "an end": raising(StopIteration()),
    "shape": lambda: torch.ones(1, 27, 28),
    "type": lambda: torch.ones(1, 28, 28).half(),
    "truth": lambda: torch.ones(1, 28, 28, dtype=torch.bool),
    "NaN": lambda: torch.full((1, 28, 28), torch.nan),
    "sparse": lambda: torch.ones(1, 28, 28).to_sparse(),
    "meta": lambda: torch.ones(1, 28, 28, device="meta"),
    "complex": lambda: torch.ones(1, 28, 28, dtype=torch.complex64),
    "object": object,
    "ragged": lambda: [[1], [2, 3]],
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_sample_that_is_another_is_named(what):
    with pytest.raises(DataError) as told:
        wp.probe("crate-tiny-fmnist", Odd(OTHERS[what]), ["l0"], progress=False)
    assert "\n" not in str(told.value)
    assert "3" in str(told.value) or what == "an error of ours"


@pytest.mark.parametrize("what", ["an error", "an error of ours", "sparse", "shape"])
def test_so_it_is_by_workers_and_by_a_loader(what):
    data = Odd(OTHERS[what])
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2)
    for given, options in ((data, {"workers": 2}), (loader, {})):
        with pytest.raises(DataError) as told:
            wp.probe("crate-tiny-fmnist", given, ["l0"], progress=False, **options)
        assert "\n" not in str(told.value)


TOKENS = torch.randn(12, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def mapped():
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"stack": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
    module.forward = lambda z: module["stack"][0](z)
    sites = {"z_in": "stack.{layer}:input", "z_out": "stack.{layer}:output"}
    return wp.wrap(module.eval(), name="small", sites=sites, heads=1, example=TOKENS[:1])


USES = {
    "probe": lambda m, data: wp.probe(m, data, ["hoyer"], batch_size=4, progress=False),
    "similarity": lambda m, data: wp.similarity(m, m, data, rank=1, batch_size=4, progress=False),
    "view": lambda m, data: wp.view(m, data, sites=["z_out"], limit=12),
}


class Given(torch.utils.data.Dataset):
    """Samples and a length, each by a function."""

    def __init__(self, sample, length=lambda: 12):
        self.sample, self.length = sample, length

    def __len__(self):
        return self.length()

    def __getitem__(self, number):
        return self.sample(number)


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, sample, length):
        self.sample, self.length = sample, length

    def __len__(self):
        return self.length()

    def __iter__(self):
        return map(self.sample, range(12))


def fails():
    raise KeyError("k")


LENGTHS = {
    "raises": fails,
    "negative": lambda: -1,
    "a fraction": lambda: 2.5,
    "None": lambda: None,
    "huge": lambda: 10**12,
    "beyond 64 bits": lambda: 10**30,
}


def loading(together):
    whole = torch.utils.data.TensorDataset(TOKENS)
    return torch.utils.data.DataLoader(
        whole, batch_size=4, collate_fn=lambda found: together(torch.stack([x for (x,) in found]))
    )


MASKED = np.ma.masked_array(TOKENS.numpy(), mask=TOKENS.numpy() > 1)
WRONG = {
    **{f"length {name}": Given(TOKENS.__getitem__, length) for name, length in LENGTHS.items()},
    "a loader of such": torch.utils.data.DataLoader(Given(TOKENS.__getitem__, fails)),
    "sparse": Given(lambda n: TOKENS[n].to_sparse()),
    "meta": Given(lambda n: TOKENS[n].to("meta")),
    "complex": Given(lambda n: TOKENS[n].to(torch.complex64)),
    "fewer classes": loading(lambda x: (x, torch.arange(2))),
    "more classes": loading(lambda x: (x, torch.arange(9))),
    "fewer masks": loading(lambda x: (x, torch.ones(2, 5, dtype=torch.bool))),
    "empty batches": loading(lambda x: x[:0]),
    "masked": MASKED,
    "masked samples": Given(lambda n: MASKED[n]),
    "masked batches": loading(lambda x: np.ma.masked_array(x.numpy(), mask=x.numpy() > 1)),
    "masked rows": Given(lambda n: list(MASKED[n])),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("what", WRONG)
def test_data_sets_that_are_wrong_end_in_one_line(what, use, mapped):
    with pytest.raises(DataError) as raised:
        USES[use](mapped, WRONG[what])
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("what", LENGTHS)
def test_a_stream_whose_length_is_wrong_ends_in_one_line(what, mapped):
    with pytest.raises(DataError):
        USES["probe"](mapped, Stream(TOKENS.__getitem__, LENGTHS[what]))


def test_streams_chained_by_torch_are_streams(mapped):
    class Part(torch.utils.data.IterableDataset):
        def __init__(self, *span):
            self.span = range(*span)

        def __iter__(self):
            return (TOKENS[n] for n in self.span)

    chained = Part(0, 6) + Part(6, 12)
    loader = torch.utils.data.DataLoader(chained, 4)
    assert USES["similarity"](mapped, chained) == USES["similarity"](mapped, Part(0, 12))
    for data in (chained, loader):
        got = USES["probe"](mapped, data)
        assert got.run["count"] == 12
        assert got.samples.equals(USES["probe"](mapped, Part(0, 12)).samples)


def test_a_masked_array_without_a_mask_is_an_array(mapped):
    got = USES["probe"](mapped, np.ma.masked_array(TOKENS.numpy()))
    assert got.samples.equals(USES["probe"](mapped, TOKENS.numpy()).samples)


def reusing(kind):
    """Data that write each sample into the tensor of the one before."""
    held = torch.zeros(5, 4)

    def sample(number):
        return held.copy_(TOKENS[number]) if kind != "view" else held.copy_(TOKENS[number])[:]

    return Stream(sample, lambda: 12) if kind == "stream" else Given(sample)


@pytest.mark.parametrize("kind", ["object", "view", "stream"])
@pytest.mark.parametrize("use", USES)
def test_samples_in_one_tensor_are_each_their_own(kind, use, mapped):
    got, want = (USES[use](mapped, data) for data in (reusing(kind), Given(TOKENS.__getitem__)))
    if use == "probe":
        assert got.samples.equals(want.samples)
    elif use == "view":
        assert np.array_equal(got.at("z_out", 1), want.at("z_out", 1))
    else:
        assert got == want


def test_masks_in_one_tensor_are_each_their_own(mapped):
    held = torch.zeros(5, dtype=torch.bool)
    masks = torch.ones(12, 5, dtype=torch.bool).tril(-1) | (torch.arange(5) == 0)
    own = Given(lambda n: (TOKENS[n], masks[n]))
    one = Given(lambda n: (TOKENS[n], held.copy_(masks[n])))
    got, want = (USES["probe"](mapped, data).samples for data in (one, own))
    assert got.equals(want)


def test_batches_in_one_tensor_are_each_their_own():
    images, held = torch.rand(8, 1, 28, 28), torch.zeros(4, 1, 28, 28)
    whole = torch.utils.data.TensorDataset(images)
    loader = torch.utils.data.DataLoader(
        whole, batch_size=4, collate_fn=lambda found: held.copy_(torch.stack([x for (x,) in found]))
    )
    got, want = (wp.view("crate-tiny-fmnist", data, limit=8) for data in (loader, images))
    assert np.array_equal(got.images, want.images)


class Dying(torch.utils.data.Dataset):
    """One whose process is ended while it reads, as a system does where memory is short."""

    def __init__(self, end):
        self.end = end

    def __len__(self):
        return 6

    def __getitem__(self, number):
        if number == 3 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL) if self.end == "killed" else os._exit(1)
        return torch.ones(1, 28, 28) * number


@pytest.mark.parametrize("end", ["killed", "exited"])
def test_a_process_that_reads_and_has_ended_is_told(end):
    with pytest.raises(DataError, match="a process that reads the data has ended.*fewer workers"):
        wp.probe("crate-tiny-fmnist", Dying(end), ["l0"], progress=False, workers=1, batch_size=1)


class OwnError(Exception):
    """Of several arguments, so that torch cannot make it anew in another process."""

    def __init__(self, what, why):
        super().__init__(f"{what} {why}")


class Raising(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 6

    def __getitem__(self, number):
        if number == 3:
            raise self.error
        return torch.ones(1, 28, 28)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("it is corrupt"),
        NotImplementedError("it is corrupt"),
        OwnError("it is", "corrupt"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_data_set_of_yours_raises_is_no_death_of_its_process(error, workers):
    loader = torch.utils.data.DataLoader(Raising(error), batch_size=2, num_workers=workers)
    with pytest.raises(
        DataError, match=r"cannot be read behind 1 batch: .*corrupt\. Mend its data"
    ):
        wp.probe("crate-tiny-fmnist", loader, ["l0"], progress=False)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_fractions_of_eight_bits_are_read_as_what_they_are(kind):
    few = torch.rand(4, 1, 28, 28).to(getattr(torch, kind))
    of = {
        "samples": few,
        "list": [*few],
        "loader": torch.utils.data.DataLoader([*few], batch_size=2),
        "stream": (each for each in few),
    }
    told = wp.probe("crate-tiny-fmnist", few.float(), ["l0"], progress=False).frame["mean"]
    for name, data in of.items():
        found = wp.probe("crate-tiny-fmnist", data, ["l0"], progress=False).frame["mean"]
        assert found.equals(told), name


WITHOUT_NUMBERS = {
    "float4_e2m1fn_x2": lambda bits: bits.view(torch.float4_e2m1fn_x2),
    "bits8": lambda bits: bits.view(torch.bits8),
    "uint4": lambda bits: bits.view(torch.uint4),
    "quantised": lambda bits: torch.quantize_per_tensor(bits.float(), 0.1, 0, torch.quint8),
    "complex numbers": lambda bits: torch.complex(bits.half(), bits.half()),
    "without numbers": lambda bits: FakeTensorMode().from_tensor(bits.float()),
    "numbers that can be read": lambda bits: torch._efficientzerotensor(bits.shape),
}


@pytest.mark.filterwarnings("ignore:.*(quantize|ComplexHalf)")  # of torch, as they are made
@pytest.mark.parametrize("told", WITHOUT_NUMBERS)
@pytest.mark.parametrize(
    "given",
    [
        lambda x: x,
        lambda x: {"pixel_values": x},
        lambda x: torch.utils.data.TensorDataset(x),
        lambda x: torch.utils.data.DataLoader([0], batch_size=None, collate_fn=lambda _: x),
    ],
    ids=["tensor", "columns", "data set", "loader"],
)
def test_types_that_numpy_has_not_are_named(told, given):
    bits = torch.ones(2, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(DataError, match=f"{told}.*Convert it"):
        wp.probe("crate-tiny-fmnist", given(WITHOUT_NUMBERS[told](bits)), ["l0"], progress=False)


class Failing(list):
    def __iter__(self):
        raise KeyError("mine")


@pytest.mark.parametrize(
    "beside",
    [
        torch.ones(4, 2).to_sparse(),
        torch.ones(4, 2, device="meta"),
        torch.ones(4, 2, dtype=torch.uint8).view(torch.uint4),
        [Failing([1])] * 4,
        np.zeros(4, dtype=[("a", "i4"), ("b", "O")]),
        [10**5000] * 4,
    ],
    ids=["sparse", "meta", "uint4", "failing", "objects", "long"],
)
def test_a_column_that_nobody_reads_is_passed_over(beside, tmp_path):
    inputs = torch.rand(4, 1, 28, 28)
    columns = {"pixel_values": inputs, "beside": beside}
    for place in (None, tmp_path / "state"):
        found = wp.probe(
            "crate-tiny-fmnist", columns, ["l0"], progress=False, checkpoint=place, batch_size=2
        )
        assert len(found.samples) == 4


@pytest.mark.parametrize("name", ["HSV", "YCbCr", "LAB", "CMYK", "RGBa", "La", "PA"])
def test_pictures_of_the_same_bytes_and_another_meaning_are_other_samples(name):
    usual = {"CMYK": "RGBA", "RGBa": "RGBA", "La": "LA"}.get(name, "RGB")
    count = len(Image.new(usual, (1, 1)).getbands())
    content = bytes(range(256)) * 13
    first = Image.frombytes(usual, (28, 28), content[: count * 784])
    if name == "PA":  # of two palettes
        first, other = (first.quantize(8, dither=0) for _ in range(2))
        other.putpalette([*range(250, 202, -2)])
        pair = [each.convert("PA") for each in (first, other)]
    else:
        pair = [first, Image.frombytes(name, (28, 28), content[: count * 784])]
    known = [
        wp.probe("crate-tiny-fmnist", [each], ["l0"], progress=False).identities for each in pair
    ]
    assert known[0].tolist() != known[1].tolist()


def test_greys_of_sixteen_bits_are_known_by_their_white(tmp_path):
    greys = Image.fromarray(np.arange(784, dtype=np.uint16).reshape(28, 28))
    known = []
    for white in (1, 0):
        greys.save(tmp_path / "x.tif", tiffinfo={262: white})
        with Image.open(tmp_path / "x.tif") as picture:
            picture.load()
            known += [_digest.of_picture(picture)]
    assert known[0] == _digest.of_picture(greys) != known[1]


def test_a_pipe_in_place_of_a_picture_is_no_hang(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="is not a readable image: it is a pipe"):
        wp.probe("crate-tiny-fmnist", [tmp_path / "x.png"], ["l0"], progress=False)


def test_a_series_is_read_by_its_rows_and_not_by_its_labels():
    images = [*torch.rand(4, 1, 28, 28)]
    shuffled = pd.Series(images, index=[2, 0, 3, 1])
    told = wp.probe("crate-tiny-fmnist", images, ["l0"], progress=False).identities
    filtered = pd.Series(images, index=[7, 7, 9, 11])
    own = type("Own", (pd.Series,), {})(images, index=[3, 2, 1, 0])
    table = type("Table", (pd.DataFrame,), {})({"pixel_values": shuffled})
    both = {"pixel_values": shuffled, "label": pd.Series([0] * 4)}
    for data in (shuffled, both, filtered, own, table):
        found = wp.probe("crate-tiny-fmnist", data, ["l0"], progress=False).identities
        assert found.tolist() == told.tolist()


def test_a_mask_that_is_a_table_is_read_by_its_rows():
    ids = torch.arange(16).view(4, 4) + 5
    mask = torch.ones(4, 4, dtype=torch.long).tril()
    told = None
    for given in (mask, pd.DataFrame(mask.numpy()), pd.DataFrame(mask.numpy(), index=[3, 1, 0, 2])):
        found = wp.probe(
            "gpt2-tiny-kjv", {"input_ids": ids, "attention_mask": given}, ["l0"], progress=False
        )
        told = found.frame if told is None else told
        assert found.frame.equals(told)


class Lazy:
    """A column that fails at a row."""

    def __len__(self):
        return 4

    def __getitem__(self, number):
        if number == 2:
            raise OSError("disk gone")
        return number


def test_a_column_that_cannot_be_read_is_told_where_a_run_is_kept(tmp_path):
    data = {"pixel_values": torch.rand(4, 1, 28, 28), "beside": Lazy()}
    with pytest.raises(DataError, match="sample 2 of dict cannot be read: OSError: disk gone"):
        wp.probe("crate-tiny-fmnist", data, ["l0"], progress=False, checkpoint=tmp_path / "s")


def test_two_columns_of_one_name_are_refused():
    columns = {"1": torch.rand(2, 1, 28, 28), 1: torch.rand(2, 1, 28, 28)}
    with pytest.raises(DataError, match="two columns of a dict have one name"):
        wp.probe("crate-tiny-fmnist", columns, ["l0"], progress=False)


def test_a_number_a_sample_that_is_none_is_told():
    loader = torch.utils.data.DataLoader([*torch.tensor([1.0, math.nan])], batch_size=2)
    with pytest.raises(DataError, match="sample 1 of the loader holds NaN"):
        wp.probe("crate-tiny-fmnist", loader, ["l0"], progress=False)


def test_fractions_of_other_kinds_with_the_same_bits_are_other_samples():
    bits = torch.arange(40, 44, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 28, 28)
    known = [
        wp.probe("crate-tiny-fmnist", bits.view(kind), ["l0"], progress=False).run["data"]
        for kind in (torch.float8_e4m3fn, torch.float8_e5m2)
    ]
    assert known[0] != known[1]


def closed():
    picture = Image.new("L", (28, 28))
    picture.close()
    return picture


def cut():
    held = io.BytesIO()
    Image.effect_noise((28, 28), 90).save(held, "PNG")
    return Image.open(io.BytesIO(held.getvalue()[:-300]))


@pytest.mark.parametrize("make", [closed, cut])
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("form", [lambda x: x, lambda x: (x, 1), lambda x: {"image": x}])
def test_a_picture_in_memory_that_cannot_be_read_is_told(make, at, form):
    pictures = [Image.new("L", (28, 28), 9) for _ in range(3)]
    pictures[at] = make()
    with pytest.raises(DataError, match=f"{at}"):
        wp.probe("crate-tiny-fmnist", [form(each) for each in pictures], ["l0"], progress=False)
