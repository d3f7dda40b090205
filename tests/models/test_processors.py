"""A model of transformers prepares images as its own image processor does, to the bit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, LoadWarning

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 24,
    "patch_size": 8,
}
MODELS = {
    "ViT": ("ViTModel", "ViTConfig", "ViTImageProcessor"),
    "CLIP": ("CLIPVisionModel", "CLIPVisionConfig", "CLIPImageProcessor"),
    "SigLIP": ("SiglipVisionModel", "SiglipVisionConfig", "SiglipImageProcessor"),
    "DINOv2": ("Dinov2Model", "Dinov2Config", "BitImageProcessor"),
    "DeiT": ("DeiTModel", "DeiTConfig", "DeiTImageProcessor"),
}
SQUARE = {"size": {"height": 24, "width": 24}}
CUT = {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}}
ROWS = [
    ("ViT", SQUARE, "bilinear"),
    ("ViT", SQUARE | {"resample": 3, "image_mean": [0.1, 0.2, 0.3]}, "bicubic"),
    ("ViT", SQUARE | {"resample": 1}, "lanczos"),
    ("ViT", SQUARE | {"do_normalize": False}, "bilinear"),
    ("ViT", SQUARE | {"do_rescale": False}, "bilinear"),
    ("ViT", SQUARE | {"do_rescale": False, "do_normalize": False}, "bilinear"),
    ("ViT", SQUARE | {"rescale_factor": 1 / 127.5}, "bilinear"),
    ("ViT", SQUARE | {"rescale_factor": 1 / 127.5, "do_normalize": False}, "bilinear"),
    ("CLIP", CUT, "bicubic"),
    ("CLIP", {"do_resize": False, "crop_size": {"height": 24, "width": 24}}, "bicubic"),
    ("SigLIP", SQUARE, "bicubic"),
    ("DINOv2", CUT | {"resample": 3}, "bicubic"),
    ("DeiT", {"size": {"height": 28, "width": 28}, "crop_size": CUT["crop_size"]}, "bicubic"),
]


def saved(folder, kind, options):
    """A model and its processor, as their users save them."""
    model, config, processor = (getattr(transformers, name) for name in MODELS[kind])
    model(config(**SMALL)).save_pretrained(folder)
    processor(**options).save_pretrained(folder)
    return f"hf:{folder}"


def pictures():
    """Of several shapes and modes, larger and smaller than what a model takes."""
    random = np.random.default_rng(0)
    shapes = [(50, 70, 3), (23, 21, 3), (64, 64), (40, 30, 4)]
    return [Image.fromarray(random.integers(0, 256, s, dtype=np.uint8)) for s in shapes]


@pytest.mark.parametrize(("kind", "options", "resampling"), ROWS)
def test_images_are_prepared_as_the_models_own_processor_does(tmp_path, kind, options, resampling):
    model = wp.load(saved(tmp_path, kind, options))
    own = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    for picture in pictures():
        want = own(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
        assert torch.equal(model.prepare(picture), want.float())
    assert model.preprocess.size == 24
    assert model.preprocess.interpolation == resampling


@pytest.mark.parametrize(
    ("kind", "options"), [row[:2] for row in ROWS if "do_resize" not in row[1]]
)
def test_the_words_say_what_the_processor_makes_of_black_and_white(tmp_path, kind, options):
    model = wp.load(saved(tmp_path, kind, options))
    mean, std = (torch.tensor(each) for each in (model.preprocess.mean, model.preprocess.std))
    for grey, colour in ((0, "black"), (1, "white")):
        made = model.prepare(Image.new("RGB", (40, 40), colour))[0, :, 12, 12]
        torch.testing.assert_close(made, (grey - mean) / std)


@pytest.mark.parametrize(
    ("kind", "options", "setting"),
    [
        ("ViT", {"do_resize": False}, "do_resize is false"),
        ("CLIP", {"size": {"shortest_edge": 24}, "do_center_crop": False}, "do_center_crop is fal"),
    ],
)
def test_what_leaves_images_of_several_sizes_is_named(tmp_path, kind, options, setting):
    model = wp.load(saved(tmp_path, kind, options))
    square = Image.fromarray(np.zeros((24, 24, 3), np.uint8))
    assert model.prepare(square).shape == (1, 3, 24, 24)
    with pytest.raises(DataError, match=rf"30 x 24 does not become.* 24 x 24: .*{setting}"):
        model.prepare(np.zeros((30, 24, 3), np.uint8))


def test_a_processor_kept_with_a_tokenizers_settings_is_found(tmp_path):
    source = saved(tmp_path, "CLIP", CUT)
    alone = tmp_path / "preprocessor_config.json"
    want = wp.load(source).preprocess
    whole = {"image_processor": json.loads(alone.read_text()), "processor_class": "CLIPProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    alone.unlink()
    assert wp.load(source).preprocess == want


def test_a_processor_of_code_that_comes_with_a_model_is_not_run(tmp_path):
    source = saved(tmp_path, "ViT", SQUARE)
    stated = {"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "mine.Mine"}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    with pytest.warns(LoadWarning, match="image processor cannot be made"):
        assert wp.load(source).preprocess is None


def test_a_run_tells_the_processors_settings(tmp_path):
    model = wp.load(saved(tmp_path, "ViT", SQUARE))
    result = wp.probe(model, pictures(), ["l0"], progress=False)
    assert result.run["preprocess"]["processor"]["image_processor_type"] == "ViTImageProcessor"
    said = wp.load(f"hf:{tmp_path}", preprocess="imagenet")
    assert said.preprocess == wp.Preprocess.imagenet()


NO_PROCESSORS = ("AutoModelForCausalLM", "AutoModel", "AutoProcessor", "AutoImageProcessor")
CODE = """open({mark!r}, 'w').close()
class T:
    from_pretrained = classmethod(lambda cls, *a, **k: cls())
"""


def states(folder, file, **more):
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(known | more))


@pytest.mark.parametrize("file", ["preprocessor_config.json", "config.json", "inside"])
@pytest.mark.parametrize("name", [*NO_PROCESSORS, "TimmBackbone", "ViTModel", "ViTConfig", 3])
def test_only_an_image_processor_is_made(tmp_path, monkeypatch, file, name):
    folder = tmp_path / "saved"
    source, mark = saved(folder, "ViT", SQUARE), tmp_path / "mark"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)))
    stated = folder / "preprocessor_config.json"
    states(folder, "config.json", auto_map={str(name): "evil.T"})
    if file == "inside":
        inner = json.loads(stated.read_text()) | {"image_processor_type": name}
        stated.unlink()
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    else:
        if file == "config.json":
            states(folder, stated.name, image_processor_type=None)
        states(folder, file, image_processor_type=name)
    with pytest.warns(LoadWarning, match="image_processor_type"):
        wp.load(source)
    assert not mark.exists()


def test_no_processor_fetches_what_it_names(tmp_path, monkeypatch):
    source = saved(tmp_path, "ViT", SQUARE)
    asked = []
    monkeypatch.setattr("socket.socket.connect", lambda *_: asked.append(1))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: asked.append(1))
    states(
        tmp_path,
        "preprocessor_config.json",
        image_processor_type="OneFormerImageProcessor",
        repo_path="some/where",
        class_info_file="x.json",
    )
    wp.load(source)
    assert not asked


@pytest.mark.parametrize("name", ["ViTImageProcessorFast", "ViTFeatureExtractor"])
def test_older_names_of_a_processor_are_known(tmp_path, name):
    source = saved(tmp_path, "ViT", SQUARE)
    plain = wp.load(source).preprocess
    key = "feature_extractor_type" if "Feature" in name else "image_processor_type"
    states(tmp_path, "preprocessor_config.json", **{"image_processor_type": None, key: name})
    assert wp.load(source).preprocess == plain


@pytest.mark.parametrize(
    "stated",
    [
        {"do_normalize": -0.0},
        {"do_resize": "yes"},
        {"image_std": [True, 1.0, 1.0]},
        {"image_std": [1.0]},
        {"image_std": -1.0},
        {"image_std": [0.5, 0.5, 0.0]},
        {"image_mean": ["0.5"] * 3},
        {"rescale_factor": True},
        {"rescale_factor": -1},
        {"resample": True},
        {"resample": 9},
        {"size": {"height": 30_000, "width": 30_000}},
        {"size": {"shortest_edge": 0}},
        {"size": -1},
        {"crop_size": {"height": -1, "width": 12}},
    ],
)
def test_settings_of_other_types_are_no_settings(tmp_path, stated):
    source = saved(tmp_path, "ViT", SQUARE)
    states(tmp_path, "preprocessor_config.json", **stated)
    with pytest.warns(LoadWarning, match="how images are prepared .* is not known"):
        assert wp.load(source).preprocess is None
