"""Whatever form samples come in, they are the same samples, or one line tells what is not known."""

import dataclasses
import io
import json
import tarfile
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.errors import DataError, MissingDependency, SettingError
from whitebox_probe.data import open_data
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.data.once import Once
from whitebox_probe.probing.forward import opened

RNG = np.random.default_rng(0)
PIXELS = (RNG.random((6, 12, 9)) * 255).astype(np.uint8)
CLASSES = torch.arange(6) % 2
PICTURES = [Image.fromarray(each) for each in PIXELS]


@pytest.fixture(scope="module")
def model():
    """A model of images of 12 x 12, which knows how they are prepared."""
    prepare = wp.Preprocess(size=12, mean=(0.4,) * 3, std=(0.3,) * 3, crop=1.0)
    return wp.wrap(small_crate(), name="small", preprocess=prepare)


@pytest.fixture(scope="module")
def inputs(model):
    return model.prepare(PIXELS)


def read(model, data, **options):
    """Inputs and classes of all samples."""
    batches = list(opened(model, data, **options).batches(4, 0))
    labels = [batch.labels for batch in batches]
    found = torch.cat([batch.inputs for batch in batches])
    return found, None if None in labels else torch.cat(labels)


def line(model, data, **options):
    """The one line that is told of data that cannot be read to their end."""
    with pytest.raises(wp.ProbeError) as error:
        list(opened(model, data, **options).batches(4, 0))
    assert "\n" not in str(error.value)
    return str(error.value)


class Rows(Dataset):
    """Six samples, made by a function of their numbers."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 6

    def __getitem__(self, number):
        return self.make(number)


class Stream(IterableDataset):
    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return (self.make(number) for number in range(6))


Named = namedtuple("Named", "label image")


@dataclasses.dataclass
class Record:
    image: object
    target: object


def png(number):
    held = io.BytesIO()
    PICTURES[number].save(held, "PNG")
    return held.getvalue()


def shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


class TestPixels:
    @pytest.mark.parametrize(
        "form",
        [
            lambda a: a,
            lambda a: a[:, None],
            lambda a: a[..., None],
            lambda a: np.repeat(a[..., None], 3, axis=-1),
            lambda a: np.repeat(a[:, None], 3, axis=1),
            lambda a: torch.tensor(a)[:, None],
            lambda a: a.astype(np.int64),
            lambda a: a.astype(np.uint16) * 257,
            lambda a: (a.astype(np.uint16) * 257).astype(">u2"),
            lambda a: list((a.astype(np.uint16) * 257).astype(">u2")),
            lambda a: a.astype(">i4"),
            list,
            lambda a: [Image.fromarray(each) for each in a],
            lambda a: [Image.fromarray(each).convert("RGBA") for each in a],
            lambda a: {"image": a},
            lambda a: {"image": a.tolist()},
            lambda a: [{"image": each.tolist()} for each in a],
            lambda a: wp.data(a / 255, pixels=True),
            lambda a: wp.data((a[..., None] / 255).astype(np.float32), pixels=True),
            lambda a: wp.data(a.astype(np.float32), pixels=True),
            lambda a: (Image.fromarray(each) for each in a),
            lambda a: DataLoader(torch.tensor(a)[:, None], 4),
            lambda a: DataLoader(list(a), 4, collate_fn=list),
            lambda a: DataLoader(list(a), 4, collate_fn=lambda batch: {"image": batch}),
        ],
    )
    def test_of_any_form_are_prepared_as_those_of_files(self, model, inputs, form):
        assert torch.equal(read(model, form(PIXELS))[0], inputs)

    def test_of_files_are_the_same_to_the_bit(self, model, inputs, tmp_path):
        for number, picture in enumerate(PICTURES):
            picture.save(tmp_path / f"{number}.png")
        paths = [tmp_path / f"{number}.png" for number in range(6)]
        encoded = [{"image": {"bytes": None, "path": str(path)}} for path in paths]
        for data in (
            tmp_path,
            paths,
            [str(path) for path in paths],
            [path.read_bytes() for path in paths],
            tmp_path / "*.png",
            str(tmp_path / "{0..5}.png"),
            encoded,
        ):
            assert torch.equal(read(model, data)[0], inputs)
        assert torch.equal(model.prepare(paths), inputs)
        ids = [opened(model, data).identities(range(6), 0) for data in (tmp_path, paths, encoded)]
        assert ids[0] == ids[1] == ids[2]

    def test_of_a_dark_sample_are_of_the_white_of_all(self, model, tmp_path):
        dark = PIXELS.copy()
        dark[2], dark[3] = dark[2] > 99, 0
        floats, want = dark.astype(np.float32), model.prepare(dark)
        np.save(tmp_path / "f.npy", floats)
        known = (
            floats,
            tmp_path / "f.npy",
            torch.tensor(floats),
            list(floats),
            TensorDataset(torch.tensor(floats)),
            {"image": floats},
            floats.astype(">f8"),
        )
        for data in known:
            assert torch.equal(read(model, wp.data(data, pixels=True))[0], want)
        for data in (floats, torch.tensor(floats), list(floats)):
            assert torch.equal(model.prepare(data), want)
        loader = DataLoader(list(torch.tensor(floats)), 3)
        for data in (Rows(lambda n: floats[n]), Stream(lambda n: floats[n]), loader):
            assert torch.equal(read(model, wp.data(data, pixels=True))[0], want)
        for data in (Rows(lambda n: floats[5 - n]), Stream(lambda n: floats[5 - n])):
            assert torch.equal(read(model, wp.data(data, pixels=True))[0], want.flip(0))
        black = [3, 3, 0, 1, 2, 4]  # which is so whatever white is
        of_black = DataLoader(list(torch.tensor(floats[black])), 2)
        for data in (
            Rows(lambda n: floats[black[n]]),
            Stream(lambda n: floats[black[n]]),
            of_black,
        ):
            assert torch.equal(read(model, wp.data(data, pixels=True))[0], want[black])
        for data in (Rows(lambda n: floats[3]), DataLoader([torch.zeros(12, 9)] * 6, 2)):
            assert torch.equal(read(model, wp.data(data, pixels=True))[0], want[[3] * 6])
        first = [3, 2, 0, 1, 4, 5]  # the dark one says that white is 1
        for data in (Rows(lambda n: floats[first[n]]), Stream(lambda n: floats[first[n]])):
            told = line(model, wp.data(data, pixels=True))
            assert "sample 2 of" in told
            assert "those before it to 1" in told
        whole = Rows(lambda n: floats[n].astype(np.uint8))
        assert torch.equal(read(model, whole)[0], want)

    def test_of_nothing_but_black_and_white_are_known_as_one_array(self, model):
        drawn = PIXELS > 99
        want = model.prepare(drawn.astype(np.uint8) * 255)
        data = wp.data(drawn.astype(np.float32), pixels=True)
        assert torch.equal(read(model, data)[0], want)
        floats = torch.tensor(drawn, dtype=torch.float32)
        for form in (DataLoader(list(floats), 2), Rows(lambda n: floats[n])):
            assert torch.equal(read(model, wp.data(form, pixels=True))[0], want)
        with pytest.raises(DataError, match=r"from 0 to 0\.5, those of others further"):
            model.prepare([np.full((4, 4), 9.0), np.tri(4) / 2])

    def test_of_a_file_of_16_bits_are_read_whatever_the_format(self, model, inputs, tmp_path):
        for n, each in enumerate(PIXELS):
            head = b"P5\n%d %d\n65535\n" % each.shape[::-1]
            (tmp_path / f"{n}.ppm").write_bytes(head + (each.astype(">u2") * 257).tobytes())
        assert torch.equal(read(model, tmp_path)[0], inputs)

    @pytest.mark.parametrize("form", [lambda x: x, torch.tensor, lambda x: DataLoader(list(x), 3)])
    def test_that_are_no_inputs_either_are_told_what_to_pass(self, model, form):
        assert "no axis of channels" in line(model, form(PIXELS / 255))
        assert "wp.data(..., pixels=True)" in line(model, form(PIXELS / 255))
        assert "holds truth values" in line(model, form(PIXELS > 9))
        assert "holds truth values" in line(model, wp.data(form(PIXELS > 9), pixels=True))

    def test_of_several_sizes_make_one_batch(self, model):
        pictures = [each.resize((20 + n, 30 - n)) for n, each in enumerate(PICTURES)]
        assert torch.equal(read(model, pictures)[0], model.prepare(pictures))
        assert model.prepare(pictures).shape == (6, 3, 12, 12)

    def test_one_picture_is_one_sample(self, model, inputs):
        assert torch.equal(read(model, PICTURES[2])[0], inputs[2:3])
        assert torch.equal(model.prepare(PICTURES[2]), inputs[2:3])

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("form", [lambda a: a, torch.tensor, lambda a: a / 255])
    def test_of_one_channel_are_as_many_as_an_array_holds(self, count, form):
        grey = wp.Preprocess(size=12, mean=(0.4,), std=(0.3,), mode="L", crop=1.0)
        model = wp.wrap(small_crate(channels=1), preprocess=grey)
        want = model.prepare(PICTURES[:count])
        assert torch.equal(model.prepare(form(PIXELS[:count])), want)
        assert torch.equal(read(model, PIXELS[:count])[0], want)

    def test_of_colours_are_one_picture_with_its_channels_first(self, model):
        colours = np.stack([PIXELS[0], PIXELS[1], PIXELS[2]])
        want = model.prepare(Image.fromarray(colours.transpose(1, 2, 0)))
        assert torch.equal(model.prepare(colours), want)

    @pytest.mark.parametrize("form", [lambda x: x, lambda x: x.numpy(), lambda x: DataLoader(x, 3)])
    def test_by_their_size_are_not_taken_for_inputs(self, model, form):
        told = line(model, form(torch.tensor(PIXELS)[:, None].float()))
        assert "look like pixels" in told
        assert "pixels=True" in told

    def test_a_model_of_large_inputs_is_given_them(self, inputs):
        large = wp.Preprocess(size=12, mean=(0.0,) * 3, std=(1 / 255,) * 3, crop=1.0)
        model = wp.wrap(small_crate(), preprocess=large)
        made = model.prepare(PIXELS)
        assert made.max() > 200
        for data in (made, PIXELS):
            assert torch.equal(read(model, data)[0], made)

    def test_whose_white_or_channels_are_not_known_are_told(self, model, inputs):
        assert "channels last" in line(model, inputs.permute(0, 2, 3, 1).numpy())
        with pytest.raises(DataError, match="first axis or the last"):
            model.prepare([np.zeros((3, 9, 3), np.uint8)])
        with pytest.raises(DataError, match="white .* is not known: its numbers go from -1"):
            model.prepare(np.full((4, 4), -1.0))
        with pytest.raises(DataError, match="image 1 holds no image: it is None"):
            model.prepare([PICTURES[0], None])
        with pytest.raises(DataError, match="no image to prepare"):
            model.prepare([])

    def test_of_a_model_that_does_not_say_how_are_told(self):
        bare = wp.wrap(small_crate())
        assert "cannot be prepared" in line(bare, PICTURES)
        with pytest.raises(DataError, match="does not say how"):
            bare.prepare(PICTURES)


def test_numpy_inputs_are_of_the_models_own_precision(model, inputs):
    assert torch.equal(read(model, inputs.double().numpy())[0], inputs)
    double = wp.wrap(small_crate().double(), preprocess=model.preprocess)
    assert read(double, inputs.double().numpy())[0].dtype == torch.float64
    assert torch.equal(read(model, inputs.numpy().astype(">f4"))[0], inputs)


def test_classes_of_another_machines_order_of_bytes_are_classes(model, inputs):
    for data in (
        [(x, np.array(int(y), ">i8")) for x, y in zip(inputs, CLASSES, strict=True)],
        {"x": inputs, "y": CLASSES.numpy().astype(">i2")},
        [{"x": x, "y": np.array(int(y), ">u4")} for x, y in zip(inputs, CLASSES, strict=True)],
    ):
        assert torch.equal(read(model, data)[1], CLASSES)


def test_truth_values_are_classes_and_fractions_are_told(model, inputs):
    truths, marks = CLASSES.numpy() > 0, CLASSES.numpy() / 1.0
    for each in (truths, truths.tolist(), torch.tensor(truths)):
        pairs = list(zip(inputs, each, strict=True))
        for data in (pairs, {"x": inputs, "y": each}, DataLoader(pairs, 4), iter(pairs)):
            assert torch.equal(read(model, data)[1].long(), CLASSES)
    for each in (marks, marks.tolist(), torch.tensor(marks)):
        pairs = list(zip(inputs, each, strict=True))
        for data in (pairs, {"x": inputs, "y": each}, DataLoader(pairs, 4)):
            assert ".astype(int) or .long()" in opened(model, data).why


class TestKeys:
    @pytest.mark.parametrize(
        "make",
        [
            lambda x, y: {"pixel_values": x, "labels": y},
            lambda x, y: {"image": x, "label": y, "caption": "a", "__key__": "7"},
            lambda x, y: {"x": x, "y": torch.tensor(y)},
            lambda x, y: Named(y, x),
            lambda x, y: Record(x, y),
            lambda x, y: (x, y),
            lambda x, y: (x, np.int64(y)),
        ],
    )
    def test_of_samples_batches_and_streams_say_the_same(self, model, inputs, make):
        def one(number):
            return make(inputs[number], int(CLASSES[number]))

        forms = [Rows(one), Stream(one), [one(n) for n in range(6)], (one(n) for n in range(6))]
        if not isinstance(one(0), Record):  # torch does not put these together
            forms += [DataLoader(Rows(one), 4), DataLoader(Stream(one), 4)]
            forms += [DataLoader(Rows(one), None), DataLoader(Stream(one), None)]
        for data in forms:
            source = opened(model, data)
            assert source.labelled
            found, labels = read(model, data) if not hasattr(data, "send") else (None, None)
            if found is not None:
                assert torch.equal(found, inputs)
                assert torch.equal(labels, CLASSES)

    def test_of_columns_of_one_length(self, model, inputs, tmp_path):
        transformers = pytest.importorskip("transformers")
        columns = {"pixel_values": inputs, "labels": CLASSES}
        np.savez(tmp_path / "a.npz", image=PIXELS, label=CLASSES.numpy())
        table = pd.DataFrame({"image": list(PIXELS), "label": CLASSES.tolist()})
        for data in (
            columns,
            transformers.BatchFeature(columns),
            {"pixel_values": list(inputs.numpy()), "labels": CLASSES.tolist()},
            tmp_path / "a.npz",
            table,
            DataLoader(Rows(lambda n: {k: v[n] for k, v in columns.items()}), 4),
        ):
            found, labels = read(model, data)
            assert torch.equal(found, inputs)
            assert torch.equal(labels, CLASSES)
        assert "several lengths: 'x' has 6, 'y' has 2" in line(
            model, {"x": inputs, "y": CLASSES[:2]}
        )

    def test_that_may_mean_two_things_are_told_with_the_option(self, model, inputs):
        both = Rows(lambda n: {"pixel_values": inputs[n], "image": PICTURES[n]})
        assert "'pixel_values' and 'image': each may" in line(model, both)
        assert "column='pixel_values'" in line(model, both)
        for column in ("pixel_values", "image"):
            assert torch.equal(read(model, wp.data(both, column=column))[0], inputs)
        strange = Rows(lambda n: {"scan": inputs[n], "age": 3})
        assert "its keys are scan, age" in line(model, strange)
        assert torch.equal(read(model, wp.data(strange, column="scan"))[0], inputs)
        assert "Did you mean 'scan'" in line(model, wp.data(strange, column="scam"))
        assert "has no keys" in line(model, wp.data(Rows(lambda n: inputs[n]), column="scan"))

    def test_of_the_models_own_input_come_first(self, inputs):
        transformers = pytest.importorskip("transformers")
        size = {"image_size": 12, "patch_size": 4, "num_channels": 3, "hidden_size": 16}
        config = transformers.ViTConfig(
            **size, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
        )
        vit = wp.wrap(transformers.ViTModel(config).eval())
        ones = torch.ones(6, 3, dtype=torch.long)
        whole = {"input_ids": ones, "attention_mask": ones, "image": PIXELS, "pixel_values": inputs}
        assert torch.equal(read(vit, whole)[0], inputs)

    def test_of_classes_that_are_none_are_told_where_they_are_needed(self, model, inputs):
        def told(make, **said):
            data = wp.data(Rows(make), **said)
            with pytest.raises(DataError) as error:
                wp.probe(model, data, ["class_rate"], progress=False)
            return str(error.value)

        assert "its class is a text ('cat')" in told(lambda n: (inputs[n], "cat"))
        assert "its class is a fraction" in told(lambda n: (inputs[n], torch.tensor(1.0)))

        def two(n):
            return {"image": inputs[n], "fine_label": n % 2, "coarse_label": 0}

        assert "label=" in told(two)
        assert torch.equal(read(model, wp.data(Rows(two), label="fine_label"))[1], CLASSES)
        assert "is a text" in told(lambda n: {"image": inputs[n], "a": "x"}, label="a")


class TestPatches:
    """Images that were cut into patches come with padding that no measure would know of."""

    PATCHES = {
        "patches": torch.randn(2, 9, 768),
        "patch_coord": torch.zeros(2, 9, 2, dtype=torch.int64),
        "patch_valid": torch.ones(2, 9, dtype=torch.bool),
    }

    @pytest.mark.parametrize(
        "form", ["batches", "batches with classes", "samples", "samples with classes", "columns"]
    )
    def test_are_refused_in_one_line(self, model, form):
        one = {key: value[0] for key, value in self.PATCHES.items()}
        data = {
            "batches": DataLoader([self.PATCHES], batch_size=None),
            "batches with classes": DataLoader([(self.PATCHES, CLASSES[:2])], batch_size=None),
            "samples": [one] * 4,
            "samples with classes": [(one, 1)] * 4,
            "columns": self.PATCHES,
        }[form]
        told = line(model, data)
        assert "patches of images, not images ('patch_coord')" in told
        assert "Pass the images" in told


def test_one_hot_classes_are_told_where_classes_are_asked_for(model, inputs):
    data = TensorDataset(inputs, torch.nn.functional.one_hot(CLASSES))
    with pytest.raises(DataError, match=r"no labels.*one-hot classes pass the numbers"):
        wp.probe(model, data, ["class_rate"], progress=False)


def test_samples_of_no_class_are_told(model, inputs):
    classes = torch.tensor([0, 0, -1, 1, 1, -100])
    data = TensorDataset(inputs, classes)
    with pytest.warns(LeftOutWarning, match=r"2 of 6 samples .* no class: .*sample 2 has -1"):
        result = wp.probe(model, data, ["class_rate"], progress=False)
    some = TensorDataset(inputs[classes >= 0], classes[classes >= 0])
    kept = wp.probe(model, some, ["class_rate"], progress=False)
    assert result.run["labels"]["left_out"] == 2
    np.testing.assert_allclose(result.frame["mean"], kept.frame["mean"], rtol=1e-9)
    wp.probe(model, data, ["l0"], progress=False)  # of which no class is asked for


class TestStreams:
    def test_a_limit_takes_the_first(self, model, inputs):
        source = opened(model, Stream(lambda n: inputs[n]), limit=4)
        batches = list(source.batches(3, 2))
        assert [batch.ids.tolist() for batch in batches] == [[0, 1, 2], [3]]

    def test_of_batches_are_read_as_such(self, model, inputs):
        pairs = zip(inputs.split(4), CLASSES.split(4), strict=True)
        data = ((part, labels) for part, labels in pairs)
        found, labels = read(model, data)
        assert torch.equal(found, inputs)
        assert torch.equal(labels, CLASSES)

    def test_an_iterator_is_read_once_and_says_so(self, model, inputs):
        kept = wp.data(each for each in inputs)
        first = wp.probe(model, kept, ["l0"], progress=False)
        assert first.run["count"] == 6
        with pytest.raises(DataError, match="a generator can be read once: it has been read"):
            wp.probe(model, kept, ["l0"], progress=False)
        with pytest.raises(DataError, match="can be read once"):
            wp.probe(model, iter(inputs), ["compression"], basis="pca", limit=3, progress=False)
        with pytest.raises(DataError, match="an audit reads its data several times"):
            wp.audit(model, iter(inputs), progress=False)
        with pytest.raises(DataError, match="gives no sample: it is empty, or has been read"):
            wp.probe(model, iter([]), ["l0"], progress=False)

    def test_the_first_sample_is_looked_at_and_not_lost(self):
        once = Once(iter("abc"))
        assert once.first() == once.first() == ["a"]
        assert list(once) == ["a", "b", "c"]

    def test_a_sample_that_cannot_be_read_can_be_skipped(self, model, inputs):
        def make(number):
            return None if number == 3 else inputs[number]

        assert "sample 3 of Stream is None" in line(model, Stream(make))
        for data in (Stream(make), Rows(make), [make(n) for n in range(6)]):
            with pytest.warns(UserWarning, match=r"1 (of .*)?samples? of .* skipped"):
                result = wp.probe(model, data, ["l0"], on_error="skip", progress=False)
            assert result.samples.index.tolist() == [0, 1, 2, 4, 5]
            assert result.run["data"]["skipped"][0]["sample"] == 3

    def test_their_own_errors_are_told_in_one_line(self, model, inputs):
        told = line(model, Stream(lambda n: inputs[n] if n < 3 else 1 // 0))
        assert "behind 3 samples: ZeroDivisionError" in told
        assert "cannot be read: ZeroDivisionError" in line(model, Stream(lambda n: 1 // 0))


class TestShards:
    def write(self, folder, **more):
        members = [
            (f"a/{n}.{end}", content)
            for n in range(6)
            for end, content in (("png", png(n)), ("cls", str(n % 2).encode()))
        ]
        shard(folder / "s-00.tar", members[:6])
        shard(folder / "s-01.tar", members[6:])
        return folder / "s-{00..01}.tar"

    def test_are_read_where_they_lie(self, model, inputs, tmp_path):
        pattern = self.write(tmp_path)
        for data in (pattern, str(tmp_path / "s-*.tar")):
            found, labels = read(model, data)
            assert torch.equal(found, inputs)
            assert torch.equal(labels, CLASSES)
        drawn = opened(model, pattern, limit=2, seed=1)
        assert [b.ids.tolist() for b in drawn.batches(4, 1)] == [list(drawn.numbers)]

    def test_hold_classes_and_keys_in_json(self, model, inputs, tmp_path):
        ends = [
            ("png", png),
            ("jpg", png),
            ("json", lambda n: json.dumps({"label": n % 2}).encode()),
        ]
        members = [(f"{n}.{end}", make(n)) for n in range(6) for end, make in ends]
        path = shard(tmp_path / "a.tar", members)
        assert "'png' and 'jpg'" in line(model, path)
        found, labels = read(model, wp.data(path, column="jpg"))
        assert torch.equal(found, inputs)
        assert torch.equal(labels, CLASSES)

    def test_that_are_broken_are_told(self, model, tmp_path):
        whole = shard(tmp_path / "a.tar", [(f"{n}.png", png(n)) for n in range(6)]).read_bytes()
        (tmp_path / "cut.tar").write_bytes(whole[:2100])
        assert "cut.tar cannot be read: it is cut off" in line(model, tmp_path / "cut.tar")
        (tmp_path / "no.tar").write_bytes(b"no tar" * 400)
        assert "no.tar cannot be read" in line(model, tmp_path / "no.tar")
        assert "none.tar cannot be read: there is no such file" in line(model, "none.tar")
        for far, why in (
            ("https://a.org/{0..9}.tar", "not on this machine"),
            ("a.tar.gz", "packed"),
        ):
            with pytest.raises(DataError, match=why):
                wp.data(far)

    def test_as_webdataset_gives_them(self, model, inputs):
        def undecoded(n):
            return {"__key__": str(n), "__url__": "a.tar", "png": png(n), "cls": b"%d" % (n % 2)}

        for make in (undecoded, lambda n: (PICTURES[n], n % 2)):
            for data in (Stream(make), DataLoader(Stream(make), batch_size=None)):
                found, labels = read(model, data)
                assert torch.equal(found, inputs)
                assert torch.equal(labels, CLASSES)

    def test_in_a_list_or_a_folder(self, model, inputs, tmp_path):
        self.write(tmp_path)
        both = [tmp_path / "s-00.tar", str(tmp_path / "s-01.tar")]
        assert torch.equal(read(model, both)[0], inputs)
        told = line(model, tmp_path)
        pattern = told.split("'")[-2]
        assert pattern == str(tmp_path / "*.tar")
        assert torch.equal(read(model, pattern)[0], inputs)
        path = shard(tmp_path / "no-ends.tar", [(f"{n}", png(n)) for n in range(6)])
        assert "'0' has none. Name members KEY.END" in line(model, path)

    def test_as_their_index_gives_them(self, model, inputs):
        rows = [
            {".png": PICTURES[n], ".cls": n % 2, "__key__": str(n), "__index__": n}
            for n in range(6)
        ]
        found, labels = read(model, rows)
        assert torch.equal(found, inputs)
        assert torch.equal(labels, CLASSES)

    def test_batches_of_a_pipeline_are_told_how_to_be_skipped(self, model, inputs):
        stream = Stream(lambda n: (inputs[:2], CLASSES[:2]))
        for data in (stream, DataLoader(stream, batch_size=None)):
            told = line(model, data, on_error="skip")
            assert "hands out whole batches" in told
            assert "single samples" in told
            assert "loader's Dataset" not in told
        loader = DataLoader(Stream(lambda n: (inputs[n], CLASSES[n])), batch_size=2)
        assert "Pass the loader's Dataset" in line(model, loader, on_error="skip")
        assert torch.equal(read(model, loader.dataset, on_error="skip")[0], inputs)


class TestFilesOfArrays:
    def test_are_read_row_by_row(self, model, inputs, tmp_path):
        np.save(tmp_path / "pixels.npy", PIXELS)
        np.save(tmp_path / "inputs.npy", inputs.numpy())
        for name in ("pixels.npy", "inputs.npy"):
            assert torch.equal(read(model, str(tmp_path / name))[0], inputs)

    def test_are_never_unpickled(self, model, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
        np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
        (tmp_path / "c.npy").write_bytes(b"nothing")
        for name in ("a.npy", "b.npz", "c.npy"):
            told = line(model, tmp_path / name)
            assert "cannot be read" in told
            assert "load it unsafely" not in told


class TestHuggingFace:
    @pytest.fixture
    def data(self):
        datasets = pytest.importorskip("datasets")
        kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
        rows = {"image": PICTURES, "label": CLASSES.tolist()}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))

    def test_images_of_any_form_are_the_same(self, model, inputs, data, tmp_path):
        import datasets

        raw = data.cast_column("image", datasets.Image(decode=False))
        data.save_to_disk(str(tmp_path / "saved"))
        for form in (
            data,
            raw,
            data.to_iterable_dataset(),
            raw.to_iterable_dataset(),
            data.with_format("torch"),
            data.with_format("numpy"),
            data.rename_column("image", "scan"),
            f"hf:{tmp_path / 'saved'}",
            DataLoader(data.with_format("torch"), 4),
            data.with_transform(
                lambda rows: {"image": list(model.prepare(rows["image"])), "label": rows["label"]}
            ),
        ):
            found, labels = read(model, form)
            assert torch.equal(found, inputs)
            assert torch.equal(labels, CLASSES)

    def test_texts_are_classes_by_their_order(self, model, data):
        named = data.remove_columns("label").add_column("kind", ["x", "y"] * 3)
        assert torch.equal(read(model, wp.data(named, label="kind"))[1], CLASSES)

    def test_keys_of_a_transform_are_those_of_its_samples(self, model, inputs, data):
        def prepared(rows):
            return {"pixel_values": list(model.prepare(rows["image"])), "labels": rows["label"]}

        renamed = data.with_transform(prepared)
        found, labels = read(model, renamed)
        assert torch.equal(found, inputs)
        assert torch.equal(labels, CLASSES)
        data.set_transform(lambda rows: {"pixel_values": rows["image"], "kind": ["x", "y"]})
        found, labels = read(model, wp.data(data, label="kind"), limit=1)
        assert labels.tolist() in ([0], [1])
        assert "no 'image'" in line(model, wp.data(renamed, column="image"))
        only = data.with_format(None).with_format("torch", columns=["image"])
        assert read(model, only)[1] is None

    def test_texts_that_a_transform_gives_are_classes(self, model, inputs, data):
        def named(rows):
            return {"image": rows["image"], "label": ["xy"[n] for n in rows["label"]]}

        found, labels = read(model, data.with_transform(named))
        assert torch.equal(found, inputs)
        assert torch.equal(labels, CLASSES)

    def test_texts_as_classes_of_a_stream_are_told_or_numbered(self, model, inputs, data):
        import datasets

        named = data.remove_columns("label").add_column("kind", ["x", "y"] * 3)
        stream = named.rename_column("kind", "label").to_iterable_dataset()
        with pytest.raises(DataError) as error:
            wp.probe(model, stream, ["class_rate"], progress=False)
        assert "no labels" in str(error.value)
        assert "text ('x'), and a stream does not say which there are" in str(error.value)
        assert "cast_column('label', datasets.ClassLabel(names=[...]))" in str(error.value)
        assert torch.equal(read(model, stream)[0], inputs)
        chosen = wp.data(named.to_iterable_dataset(), label="kind")
        assert "'kind' of a IterableDataset is no class" in line(model, chosen)
        cast = stream.cast_column("label", datasets.ClassLabel(names=["x", "y"]))
        assert torch.equal(read(model, cast)[1], CLASSES)

    def test_a_saved_data_set_is_streamed_by_its_name(self, model, inputs, data, tmp_path):
        data.save_to_disk(str(tmp_path / "saved"))
        source = opened(model, wp.data(f"hf:{tmp_path / 'saved'}", stream=True))
        assert source.numbers == ()
        assert torch.equal(torch.cat([b.inputs for b in source.batches(4, 0)]), inputs)

    def test_splits_are_chosen(self, model, inputs, data, tmp_path):
        import datasets

        datasets.DatasetDict(train=data, test=data).save_to_disk(str(tmp_path / "two"))
        assert "has 2 splits: they are train, test" in line(model, f"hf:{tmp_path / 'two'}")
        assert torch.equal(read(model, f"hf:{tmp_path / 'two'}:test")[0], inputs)
        assert "Did you mean 'test'" in line(model, f"hf:{tmp_path / 'two'}:tst")

    def test_a_missing_library_is_told_before_any_work(self, monkeypatch):
        from whitebox_probe.data import hf_names

        monkeypatch.setattr(hf_names, "find_spec", lambda name: None)
        with pytest.raises(MissingDependency, match=r"need the package datasets.*\[datasets\]"):
            wp.probe("no-such-model", "hf:mnist", progress=False)


def test_what_is_chosen_in_vain_is_told(model, inputs, tmp_path):
    with pytest.raises(SettingError, match="windows='documents' says nothing of a tensor"):
        wp.data(inputs, windows="documents")
    with pytest.raises(SettingError, match="column='image' says nothing of the name of a data set"):
        wp.data("kjv", column="image")
    with pytest.raises(wp.ProbeError, match="Did you mean 'documents'"):
        wp.data("kjv", windows="document")
    with pytest.raises(DataError, match="data of type int cannot be opened"):
        wp.data(3)


def test_data_say_what_they_are_and_give_batches(model, inputs):
    data = wp.data({"scan": PIXELS, "label": CLASSES}, column="scan", model=model)
    assert repr(data) == "Data(dict, column='scan', model=small)"
    (batch,) = data.batches(6)
    assert torch.equal(batch.inputs, inputs)
    assert torch.equal(batch.labels, CLASSES)
    assert wp.data(data, label="label").choices.given() == {"column": "scan", "label": "label"}
    result = wp.probe(model, data, ["l0"], progress=False)
    assert result.run["data"]["read with"] == {"column": "scan"}


def test_the_room_of_data_is_a_function_too():
    import inspect

    import whitebox_probe.data.text  # noqa: F401 (importing it sets the name)

    assert isinstance(wp.data([1.0]), wp.Data)
    assert "column" in inspect.signature(wp.data).parameters


def test_classes_of_metrics_are_measured_as_their_instances(model, inputs):
    want = wp.probe(model, inputs, ["compression"], eps=0.5, progress=False)
    found = wp.probe(model, inputs, wp.metrics.Compression, eps=0.5, progress=False)
    assert (want.frame["mean"] == found.frame["mean"]).all()
    assert wp.probe(model, inputs, [wp.metrics.L0, "hoyer"], progress=False).run["count"] == 6
    data = TensorDataset(inputs, CLASSES)
    assert wp.probe(model, DataLoader(data), ["class_rate"], progress=False).run["count"] == 6
    assert open_data(inputs).count == 6


@pytest.mark.parametrize("mode", ["LAB", "HSV", "YCbCr", "CMYK", "PA", "La", "RGBa"])
@pytest.mark.parametrize("name", ["crate-tiny-fmnist", None])
def test_pictures_of_any_mode_are_prepared(model, mode, name):
    whole = wp.load(name) if name else model
    grey = Image.new("RGB", (28, 28), (120, 120, 120))
    if mode == "LAB":
        other = Image.new("LAB", (28, 28), (128, 128, 128))
        grey = other.convert("RGB")
    else:
        between = {"PA": "LA", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
        other = grey.convert("L").convert(between).convert(mode)
    torch.testing.assert_close(whole.prepare(other), whole.prepare(grey), atol=0.02, rtol=0)
