import pytest
import torch
from safetensors.torch import load_file

from gta import encoders
from gta.encoders.image_encoder import weights_hash
from gta.encoders.images import load_images
from gta.worlds import aviary, digits
from gta.worlds.glyphs import FACTS, NAMES, SHAPES


def test_five_small_encoders_are_committed():
    files = sorted(digits.ENCODERS.glob("seed*.safetensors"))
    assert len(files) == 5 and sum(file.stat().st_size for file in files) <= 10e6
    models = [encoders.load("embedded", seed=seed, device="cpu") for seed in range(5)]
    assert all(sum(p.numel() for p in e.model.parameters()) <= 900_000 for e in models)
    assert len({e.weights_sha256 for e in models}) == 5


def test_features_are_unit_and_differ_between_texts(encoder):
    features = encoder.encode_texts([f"a picture of the digit {name}" for name in SHAPES["digit"]])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(10, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (features @ features.T).fill_diagonal_(0).max() < 0.95


def test_trimmed_texts_are_exact_and_in_order(encoder):
    texts = ["a picture of the letter A", "a character with a curve open to the left at the top and only curved lines", "a character"]
    whole = encoder.model.encode_text(encoder.tokenizer(texts), normalize=True)
    torch.testing.assert_close(encoder.encode_texts(texts, batch_size=2), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("architecture", ["RN50", "ViT-B-32-quickgelu", "coca_ViT-B-32"])
def test_trimming_is_exact_on_real_architectures(architecture):
    torch.manual_seed(0)
    encoder = encoders.load(architecture, pretrained="random", device="cpu")
    texts = ["a photo of a hooked bill.", "a bird"]
    tokens = encoder.tokenizer(texts)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_texts(texts), encoder.model.encode_text(tokens, normalize=True), atol=1e-5, rtol=0)


def test_batch_size_changes_nothing(encoder, glyphs):
    pixels = load_images(glyphs[0][:7], encoder).pixels
    torch.testing.assert_close(encoder.encode_images(pixels, batch_size=3), encoder.encode_images(pixels), atol=1e-12, rtol=0)


def test_every_word_of_the_world_is_known_and_another_is_named(encoder):
    encoder.tokenizer([f"a character with {fact}" for name in NAMES for fact in FACTS[name]])
    with pytest.raises(ValueError, match=r"'thre' in 'the digit thre' is not a word .* did you mean 'three'\?"):
        encoder.tokenizer(["the digit thre"])
    with pytest.raises(ValueError, match="tokens, this encoder reads 32"):
        encoder.tokenizer(["a " * 40])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "embeded"}, "did you mean 'embedded'"),
        ({"name": "vit-b-32"}, "did you mean 'ViT-B-32'"),
        ({"name": "ViT-B-32"}, "needs pretrained weights: one of"),
        ({"name": "ViT-B-32", "pretrained": "openay"}, "not 'openay'"),
        ({"name": "embedded", "seed": 7}, "no encoder of seed 7; its seeds: 0, 1, 2, 3, 4"),
    ],
)
def test_a_wrong_name_is_told_the_right_one(arguments, message):
    with pytest.raises(ValueError, match=message):
        encoders.load(**arguments)


def test_a_copy_has_weights_of_its_own(encoder):
    copied = encoder.copy()
    with torch.no_grad():
        copied.model.visual.proj.zero_()
    assert encoder.model.visual.proj.abs().sum() > 0


def test_an_exclamation_mark_is_a_token_and_not_the_end_of_a_text():
    """CLIP's id of "!" is 0, which is also its padding."""
    encoder = encoders.load("RN50", pretrained="random", device="cpu")
    texts = ["stop! a photo of a bird!!", "a photo of a bird", "!"]
    with torch.no_grad():
        whole = encoder.model.encode_text(encoder.tokenizer(texts), normalize=True)
    torch.testing.assert_close(encoder.encode_texts(texts), whole, atol=1e-5, rtol=0)


def test_a_batch_that_does_not_fit_is_halved(encoder, glyphs, monkeypatch):
    pixels = load_images(glyphs[0], encoder).pixels
    whole, sizes, features = encoder.encode_images(pixels), [], encoder.image_features
    monkeypatch.setattr(encoder, "_fitting", {})

    def small(batch):
        sizes.append(len(batch))
        if len(batch) > 10:
            raise torch.cuda.OutOfMemoryError
        return features(batch)

    monkeypatch.setattr(encoder, "image_features", small)
    torch.testing.assert_close(encoder.encode_images(pixels, batch_size=32), whole, atol=1e-12, rtol=0)
    assert sizes[:3] == [32, 16, 8] and sum(size for size in sizes if size <= 10) == 60


def test_a_batch_that_the_machine_has_no_memory_for_is_halved_and_the_choice_is_told_once(encoder, glyphs, monkeypatch, capsys):
    monkeypatch.setattr(encoder, "_fitting", {})
    pixels = load_images(glyphs[0], encoder).pixels
    whole, sizes, features = encoder.encode_images(pixels), [], encoder.image_features

    def small(batch):
        sizes.append(len(batch))
        if len(batch) > 10:
            torch.empty(1 << 60, dtype=torch.uint8)  # the machine's own error
        return features(batch)

    monkeypatch.setattr(encoder, "image_features", small)
    for _ in range(2):
        torch.testing.assert_close(encoder.encode_images(pixels), whole, atol=1e-12, rtol=0)
    assert len(pixels) == 60 and sizes == [32, 16, *[8] * 7, 4, *[8] * 7, 4]
    told = f"32 images at a time do not fit the memory: {encoder.name} now reads 8 at a time\n"
    assert capsys.readouterr().err == told


def test_other_errors_are_no_lack_of_memory(encoder, glyphs, monkeypatch):
    sizes = []
    monkeypatch.setattr(encoder, "image_features", lambda batch: sizes.append(len(batch)) or torch.zeros(2, 3) @ torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        encoder.encode_images(load_images(glyphs[0], encoder).pixels)
    assert sizes == [32]


def test_a_text_is_tokenized_once(encoder, monkeypatch):
    seen = []
    monkeypatch.setattr(encoder, "tokenizer", lambda texts, tokenize=encoder.tokenizer: seen.extend(texts) or tokenize(texts))
    monkeypatch.setattr(encoder, "_tokens", {})
    for _ in range(2):
        encoder.encode_texts(["a character", "a picture", "a character"])
    assert seen == ["a character", "a picture"]


@pytest.mark.parametrize("folder", [digits.ENCODERS, aviary.ENCODERS])
def test_embedded_encoders_compute_in_float64_and_are_named_by_the_weights_that_were_stored(folder, glyphs):
    """The names of float32 and float64 are the same; features are those of open_clip's own calls, and differ by rounding alone."""
    given = {"device": "cpu", "embedded": folder}
    exact, single = encoders.load("embedded", **given), encoders.load("embedded", dtype=torch.float32, **given)
    assert (exact.dtype, single.dtype) == (torch.float64, torch.float32)
    assert exact.weights_sha256 == single.weights_sha256 == weights_hash(exact.model) == weights_hash(single.model)
    stored = load_file(folder / "seed0.safetensors")
    state = exact.model.state_dict()
    assert all(torch.equal(state[name], weight.double()) for name, weight in stored.items() if weight.is_floating_point())
    pixels, texts = load_images(glyphs[0][:6], exact).pixels, ["a picture", "a picture of a"]
    found = [(of.encode_images(pixels), of.encode_texts(texts)) for of in (exact, single)]
    assert [features.dtype for of in found for features in of] == [torch.float64] * 2 + [torch.float32] * 2
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (exact.mean, exact.std))
    with torch.no_grad():
        direct = exact.model.encode_image((pixels.double() / 255 - mean) / std, normalize=True)
        read = exact.model.encode_text(exact.tokenizer(texts), normalize=True)
    for features, rough, expected in zip(*found, (direct, read), strict=True):
        torch.testing.assert_close(features, expected, atol=1e-12, rtol=0)
        assert 1e-10 < (features - rough.double()).abs().max() < 1e-5
    assert encoders.load("RN50", pretrained="random", device="cpu").dtype == torch.float32


def test_a_copy_has_the_arithmetic_that_is_asked_for(encoder):
    single = encoder.copy(torch.float32)
    assert (encoder.dtype, encoder.copy().dtype, single.dtype, single.copy().dtype) == (torch.float64, torch.float64, *[torch.float32] * 2)
    assert single.weights_sha256 == encoder.weights_sha256 == weights_hash(single.model)


def test_a_changed_weight_is_another_hash_in_both_arithmetics(encoder):
    changed = encoder.copy()
    with torch.no_grad():
        changed.model.visual.proj[0, 0] += 1e-3
    assert weights_hash(changed.model) == weights_hash(changed.copy(torch.float32).model) != encoder.weights_sha256


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_tiny_encoder_takes_one_thread_while_it_works_and_gives_back_the_others(encoder, glyphs, monkeypatch, two_threads):
    with pytest.raises(KeyError), encoder.threads():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2
    taken, features = [], encoder.image_features
    monkeypatch.setattr(encoder, "image_features", lambda batch: taken.append(torch.get_num_threads()) or features(batch))
    encoder.encode_images(load_images(glyphs[0][:3], encoder).pixels)
    assert taken == [1] and torch.get_num_threads() == 2


def test_a_large_encoder_keeps_all_threads_and_a_small_one_where_the_machine_is_idle(encoder, monkeypatch, two_threads):
    size = sum(p.numel() for p in encoder.model.parameters())
    monkeypatch.setattr("gta.encoders.image_encoder.TINY", size)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    words = sum(m.weight.numel() for m in encoder.model.modules() if isinstance(m, torch.nn.Embedding))
    # one thread for a small one alone, its table of words not counted, and where more than one program waits for a processor
    for load, small, threads in ((3.0, size, 2), (3.1, size, 1), (9.0, size - words + 1, 1), (9.0, size - words, 2)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        monkeypatch.setattr("gta.encoders.image_encoder.SMALL", small)
        with encoder.threads():
            assert torch.get_num_threads() == threads, (load, small)
