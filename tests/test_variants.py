import pytest
import torch
from tiny_moda import photo, shop_profile

from moda_utils.features import Examples, fingerprint
from moda_utils.modeling_moda import ModaForConditionalGeneration, ModaProcessor
from moda_utils.serving import generate_texts
from moda_utils.variants import (
    PARTS,
    VARIANTS,
    VariantForConditionalGeneration,
    draw_share,
    start_variant,
    train_variant,
)

every_variant = pytest.mark.parametrize("name", VARIANTS)
COLOURS = ("red", "blue", "green", "white")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return shop_profile(tmp_path_factory.mktemp("variants"))


def features(model, processor):
    with torch.no_grad():
        return model.encode_images(processor(images=[photo(c) for c in COLOURS])["pixel_values"])


def sentences(processor, *texts):
    batch = processor(text=list(texts))
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, 0] = -100
    return batch["input_ids"], batch["attention_mask"], labels


@every_variant
def test_places_loss_and_what_is_trained(name, profile):
    model, processor = start_variant(profile, name)
    seen = features(model, processor)
    places = {"prefix": 10, "patches-linear": 4, "patches-mlp": 4, "patches-prefix": 4}.get(
        name, 8 if name == "frozen-queries" else 1
    )
    assert model.project(seen).shape == (4, places, 32)
    ids, mask, labels = sentences(processor, *["Red shirt for men", "Blue"] * 2)
    model.eval()
    output = model(ids, mask, labels, image_embeds=seen)
    assert output.logits.shape == (4, places + ids.shape[1], model.config.text_config.vocab_size)
    wanted = [  # by hand: what stands before a token predicts it
        -output.logits[row, places + place - 1].log_softmax(-1)[labels[row, place]]
        for row in range(4)
        for place in range(ids.shape[1])
        if labels[row, place] != -100
    ]
    torch.testing.assert_close(output.loss, torch.stack(wanted).mean())
    output.loss.backward()
    for part in PARTS:
        weights = list(getattr(model, part).parameters())
        asked = part in model.config.trained
        assert all(weight.requires_grad == asked for weight in weights), part
        assert any(weight.grad is not None and weight.grad.any() for weight in weights) == asked


@every_variant
def test_a_saved_variant_says_the_same(name, profile, tmp_path):
    model, processor = start_variant(profile, name)
    model.save_pretrained(tmp_path), processor.save_pretrained(tmp_path)
    loaded = VariantForConditionalGeneration.from_pretrained(tmp_path)
    seen = features(model, processor)
    torch.testing.assert_close(features(loaded, ModaProcessor.from_pretrained(tmp_path)), seen)
    assert generate_texts(loaded, processor, seen) == generate_texts(model, processor, seen)


def test_the_row_called_moda_is_moda(profile):
    model, processor = start_variant(profile, "moda", seed=3)
    seen = features(model, processor)
    parts = str(profile.vision.name), str(profile.language.name)
    moda = ModaForConditionalGeneration.from_backbones(*parts)
    moda.load_state_dict(model.state_dict())
    assert torch.equal(features(moda, processor), seen)
    assert generate_texts(moda.eval(), processor, seen) == generate_texts(model, processor, seen)
    assert fingerprint(model, processor.image_processor) != fingerprint(
        start_variant(profile, "patches-linear")[0], processor.image_processor
    )


def test_projections_have_the_weights_they_promise(profile):
    def weights(name):
        return sum(w.numel() for w in start_variant(profile, name)[0].projection.parameters())

    assert weights("linear-deep") == weights("moda") > 5 * weights("linear")
    # One unit of the middle layer has inputs + outputs + 1 weights: nothing fits more closely.
    assert 0 <= weights("linear") - weights("narrow") < 24 + 32 + 1


def test_a_deep_linear_projection_is_linear_and_modas_is_not(profile):
    one, other = torch.randn(2, 1, 24)
    for name, straight in (("linear", True), ("linear-deep", True), ("moda", False)):
        projection = start_variant(profile, name)[0].projection
        middle = projection((one + other) / 2)
        mean = (projection(one) + projection(other)) / 2
        assert torch.allclose(middle, mean, atol=1e-5) == straight, name


def test_patches_have_unit_variance_and_know_their_place(profile):
    model, processor = start_variant(profile, "patches-linear")
    seen = features(model, processor)
    assert seen.shape == (4, 4, 32)
    torch.testing.assert_close(seen.square().mean(-1), torch.ones(4, 4), atol=1e-2, rtol=0)
    assert not torch.allclose(seen[0, 0], seen[0, 3], atol=1e-3)


def test_prefix_attention_looks_ahead_within_the_image_only(profile):
    for name, ahead in (("patches-prefix", True), ("patches-linear", False)):
        model, processor = start_variant(profile, name)
        seen = features(model.eval(), processor)[:1]
        ids, _, _ = sentences(processor, "Red shirt for men")
        before = model(ids, image_embeds=seen).logits
        changed = seen.clone()
        changed[:, -1] += 1  # the last patch
        after = model(ids, image_embeds=changed).logits
        assert torch.allclose(before[:, 0], after[:, 0], atol=1e-5) != ahead, name
        other = ids.clone()
        other[:, -1] = 5  # the last token: nothing before it may change
        longer = model(other, image_embeds=seen).logits
        torch.testing.assert_close(before[:, :-1], longer[:, :-1])


def test_prefix_attention_holds_while_generating(profile):
    """The cached places of the image are those of a whole pass, at every step."""
    model, processor = start_variant(profile, "patches-prefix")
    seen = features(model.eval(), processor)
    written = model.generate(image_embeds=seen, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    ids = torch.full((4, 1), model.config.end_token_id)
    for step in range(6):
        logits = model(ids, image_embeds=seen).logits[:, -1]
        logits[:, model.config.end_token_id] = -torch.inf  # as min_new_tokens asks
        chosen = logits.argmax(-1)
        assert torch.equal(chosen, written[:, step]), step
        ids = torch.cat([ids, chosen[:, None]], dim=1)


@pytest.mark.parametrize("name", ["frozen-queries", "unfrozen", "two-rates", "blind"])
def test_a_variant_trains_what_it_says(name, profile, tmp_path):
    start, _ = start_variant(profile, name, seed=1)
    model, processor, history = train_variant(profile, name, tmp_path / name, seed=1)
    items = len(history.of("train"))
    assert items == 2 * 3  # 48 items in steps of 16
    for part in PARTS:
        old, new = (getattr(m, part).state_dict() for m in (start, model))
        same = all(torch.equal(old[key].half().float(), new[key]) for key in old)  # as stored
        assert same == (part not in model.config.trained), part
    again, _, loaded = train_variant(profile, name, tmp_path / name, seed=1)
    assert loaded.rows == history.rows
    seen = features(model, processor)
    assert generate_texts(again, processor, seen) == generate_texts(model, processor, seen)


def test_a_share_takes_as_many_steps_as_the_whole(profile, tmp_path):
    _, _, whole = train_variant(profile, "linear", tmp_path / "whole")
    _, _, part = train_variant(profile, "linear", tmp_path / "part", share=0.25)
    assert len(whole.of("train")) == len(part.of("train")) == 6
    tokens = [sum(row["tokens"] for row in run.of("train")) for run in (part, whole)]
    assert tokens[0] == pytest.approx(tokens[1] / 4, rel=0.15)


def test_a_share_is_drawn_by_its_seed():
    texts = [str(i) for i in range(40)]
    examples = Examples(torch.arange(40.0)[:, None], texts, ["id"] * 40, "raw", shas=texts)
    one, same, other = (draw_share(examples, 0.25, seed) for seed in (1, 1, 2))
    assert len(one) == 10 and one.descriptions == same.descriptions != other.descriptions
    assert [int(value) for value in one.image_embeds] == [int(text) for text in one.descriptions]
    assert (one.shas, one.captions) == (one.descriptions, "raw")
    assert draw_share(examples, 1, 5).descriptions == examples.descriptions
    for share in (0, -0.1, 1.5):
        with pytest.raises(ValueError, match="above 0 and up to 1"):
            draw_share(examples, share, 0)


def test_blind_training_separates_photos_from_texts(profile, tmp_path, monkeypatch):
    given = {}

    def spy(model, processor, train_set, validation_set, config, run_dir):
        given[run_dir.name] = train_set

    monkeypatch.setattr("moda_utils.variants.train", spy)
    for name in ("moda", "blind"):
        train_variant(profile, name, tmp_path / name)
    assert given["blind"].descriptions == given["moda"].descriptions
    moved = (given["blind"].image_embeds != given["moda"].image_embeds).any(dim=1)
    assert moved.all()


def test_what_is_missing_or_unknown_is_said(profile, tmp_path):
    with pytest.raises(ValueError, match="no variant 'quadratic': choose one of moda, linear"):
        start_variant(profile, "quadratic")
    with pytest.raises(FileNotFoundError, match="no raw texts: run notebook 02"):
        train_variant(profile, "raw", tmp_path / "raw")
    with pytest.raises(FileNotFoundError, match="no refined texts: run notebook 03"):
        train_variant(profile, "refined", tmp_path / "refined")
