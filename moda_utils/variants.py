"""Other ways to wire an image encoder to a language model, to compare with MODA's.

`variants.toml` lists each, with the system that it stands for. They are MODA with another
projection, other inputs to it, or other parts in training; `training.train` and the evaluation are
the same.
"""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moda_utils.device import best_device
from moda_utils.features import Examples, load_examples
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration, ModaProcessor
from moda_utils.profiles import Profile
from moda_utils.recipe import named, recipe
from moda_utils.runs import History
from moda_utils.training import start_model, train

PARTS = ("vision_model", "projection", "language_model")


class VariantConfig(ModaConfig):
    """MODA's fields, and:

    Args:
        sees: what the projection is given. "embedding" is one vector for the photo, "patches" one
            for each patch; "pixels" is the photo itself, for an encoder that is trained too.
        connector: a name in `CONNECTORS`.
        image_places: places that the image takes in the language model's input; by default one,
            or one for each patch.
        prefix_attention: the image's places see each other, not only those before them.
        trained: those of `PARTS` that are trained.
    """

    model_type = "moda_variant"

    def __init__(
        self,
        *args: Any,
        sees: str = "embedding",
        connector: str = "mlp",
        image_places: int | None = None,
        prefix_attention: bool = False,
        trained: tuple[str, ...] = ("projection", "language_model"),
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        patches = (self.vision_config.image_size // self.vision_config.patch_size) ** 2
        self.sees, self.connector = sees, connector
        self.image_places = image_places or (patches if sees == "patches" else 1)
        self.prefix_attention, self.trained = prefix_attention, tuple(trained)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class Queries(nn.Module):
    """A small query transformer: learned vectors that look at the patches by cross-attention.

    (B, patches, inputs) to (B, places, outputs).
    """

    def __init__(self, inputs: int, places: int, outputs: int):
        super().__init__()
        layer = nn.TransformerDecoderLayer(
            outputs, nhead=4, dim_feedforward=2 * outputs, dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.inputs = nn.Linear(inputs, outputs)
        self.queries = nn.Parameter(torch.randn(places, outputs))
        self.layers = nn.TransformerDecoder(layer, num_layers=2, norm=nn.LayerNorm(outputs))
        self.outputs = nn.Linear(outputs, outputs)

    def forward(self, patches: Tensor) -> Tensor:
        queries = self.queries.expand(len(patches), -1, -1)
        return self.outputs(self.layers(queries, self.inputs(patches)))


CONNECTORS = {  # by sizes: input, MODA's middle layer, output
    "linear": lambda i, hidden, o: nn.Linear(i, o),
    # As many weights as MODA's, without the bend between them: in the end one matrix.
    "linear, deep": lambda i, hidden, o: nn.Sequential(nn.Linear(i, hidden), nn.Linear(hidden, o)),
    "mlp": mlp,
    "mlp, narrow": lambda i, hidden, o: mlp(i, i * o // (i + o + 1), o),  # the weights of "linear"
    "mlp, square": lambda i, hidden, o: mlp(i, o, o),
}


class VariantForConditionalGeneration(ModaForConditionalGeneration):
    """MODA, wired as a `VariantConfig` says."""

    config_class = VariantConfig

    def __init__(self, config: VariantConfig, *parts: Any):
        super().__init__(config, *parts)
        vision, width = config.vision_config, self.get_input_embeddings().embedding_dim
        inputs = vision.hidden_size if config.sees == "patches" else vision.projection_dim
        if config.connector == "queries":
            self.projection = Queries(inputs, config.image_places, width)
        else:  # from one vector the outputs of all places; from each patch, that of its own place
            outputs = width if config.sees == "patches" else width * config.image_places
            hidden = config.projection_hidden_size
            self.projection = CONNECTORS[config.connector](inputs, hidden, outputs)
        for part in PARTS:
            getattr(self, part).requires_grad_(part in config.trained)
        if config.prefix_attention:
            for layer in self.language_model.get_decoder().layers:
                layer.register_forward_pre_hook(self._open_prefix, with_kwargs=True)

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """What has to be computed only once for each photo: embeddings (B, 512), patches
        (B, patches, width of the encoder) or, with an encoder in training, nothing."""
        if self.config.sees == "pixels":
            return pixel_values
        if self.config.sees == "embedding":
            return super().encode_images(pixel_values)
        # The last layer works for the photo's embedding only: LLaVA too takes the one before.
        tower = self.vision_model.vision_model
        states = tower(pixel_values.to(self.vision_model.dtype), output_hidden_states=True)
        patches = states.hidden_states[-2][:, 1:]  # the first place is no patch
        return F.layer_norm(patches, patches.shape[-1:])  # variance 1, as a fresh layer expects

    def project(self, image_embeds: Tensor) -> Tensor:
        """What `encode_images` gave to the image's places: (B, image_places, 768)."""
        if self.config.sees == "pixels":
            image_embeds = super().encode_images(image_embeds)
        dtype = next(self.projection.parameters()).dtype
        places = self.projection(image_embeds.to(dtype))
        return places.view(len(places), self.config.image_places, -1)

    def _open_prefix(self, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Let a decoder layer look ahead within the image. Padding stands behind all that counts,
        so it needs no mask; nor does a single new place, which sees all places before it."""
        hidden = args[0]
        if hidden.shape[1] > 1:
            place = torch.arange(hidden.shape[1], device=hidden.device)
            seen = (place <= place[:, None]) | (place < self.config.image_places)  # (L, L)
            shut = torch.finfo(hidden.dtype).min
            mask = torch.zeros_like(seen, dtype=hidden.dtype).masked_fill(~seen, shut)
            kwargs["attention_mask"] = mask[None, None]
        return args, kwargs


@dataclass(frozen=True)
class Variant:
    """One row of the comparison.

    Args:
        stands_for: a system, or a question.
        model: fields of `VariantConfig`.
        recipe: fields of `TrainConfig`.
        text: the descriptions that it learns from: template, raw or refined.
        blind: it learns from exchanged photos, so it can't know more than what is frequent.
    """

    stands_for: str
    model: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    text: str = "template"
    blind: bool = False


_TABLE = Path(__file__).with_name("variants.toml").read_text(encoding="utf-8")
VARIANTS = {name: Variant(**row) for name, row in tomllib.loads(_TABLE).items()}


def start_variant(
    profile: Profile, name: str, seed: int = 0
) -> tuple[VariantForConditionalGeneration, ModaProcessor]:
    """Build a variant, untrained, from a profile's encoder and language model.

    Raises:
        ValueError: there is no variant of this name.
    """
    variant = named(VARIANTS, name, "variant")
    return start_model(profile, seed, VariantForConditionalGeneration, **variant.model)


def train_variant(
    profile: Profile,
    name: str,
    run_dir: Path | str,
    share: float = 1.0,
    seed: int = 0,
    **changes: Any,
) -> tuple[VariantForConditionalGeneration, ModaProcessor, History]:
    """Train a variant on `dataset/`, or on a share of its training split that `seed` draws.

    A share is trained by batches that are smaller by as much: the optimizer takes nearly as many
    steps as with all items (batches are whole), so that little but the number of items differs.

    Args:
        run_dir: the folder of the run; a finished one is loaded, see `training.train`.
        changes: further fields of `TrainConfig`.

    Raises:
        ValueError: there is no variant of this name, or a share outside of 0 to 1.
        FileNotFoundError: the dataset, or the texts that the variant learns from, are not there.
    """
    model, processor = start_variant(profile, name, seed)
    variant = VARIANTS[name]
    examples = load_examples(profile, model.to(best_device()), processor, variant.text)
    if not examples["train"].captions.startswith(variant.text):
        notebook = {"raw": "02", "refined": "03"}[variant.text]
        raise FileNotFoundError(
            f"There are no {variant.text} texts: run notebook {notebook} first."
        )
    few = draw_share(examples["train"], share, seed)
    if variant.blind:
        few.image_embeds = few.image_embeds.roll(len(few) // 2, dims=0)
    whole = recipe(profile)
    effective = max(1, round(share * whole.batch_size * whole.accumulation))
    size = min(whole.batch_size, effective)
    settings = {"batch_size": size, "accumulation": round(effective / size), "seed": seed}
    settings |= {"snapshot_epochs": ()} | variant.recipe | changes
    config = recipe(profile, **settings)
    history = train(model, processor, few, examples["validation"], config, run_dir)
    return model, processor, history


def draw_share(examples: Examples, share: float, seed: int) -> Examples:
    """A random share of the examples, in random order; all of them, untouched, for a share of 1."""
    if not 0 < share <= 1:
        raise ValueError(f"A share lies above 0 and up to 1, not at {share}.")
    if share == 1:
        return replace(examples)
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    return examples.take(order[: max(1, round(share * len(examples)))].tolist())
