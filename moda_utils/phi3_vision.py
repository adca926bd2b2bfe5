"""Phi-3 Vision, built from parts that transformers already has: a CLIP tower and a Phi-3 decoder.

    photo --> tiles --> CLIP tower --> 2x2 merge --> MLP --> rows in the prompt --> Phi-3 decoder

1. **Tiles.** CLIP sees squares of 336 pixels, too small for details. So the photo is scaled to
   fill up to `num_crops` squares and cut into them, and once more shrunk into one: the global view.
2. **CLIP tower.** Each tile becomes 24 x 24 patches, one vector of 1024 numbers each.
3. **2x2 merge.** Four neighbours are laid end to end: 12 x 12 vectors of 4096, a quarter as many.
4. **MLP.** Two layers turn them into vectors of the decoder's size, 3072. A learned vector ends
   each row, another separates tiles from global view, so that the decoder can tell the layout.
5. **Decoder.** The prompt holds negative token ids where the photo belongs. Their embeddings are
   replaced by the vectors of step 4; from there on it is an ordinary language model.

The numbers are those of `microsoft/Phi-3-vision-128k-instruct` and Phi-3.5-vision-instruct, whose
files load as they are. A smaller model states its own in config.json (`clip_vision_config`) and
preprocessor_config.json (`tile_size`, `patch_size`, `num_crops`).
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import (
    BatchFeature,
    CLIPVisionConfig,
    CLIPVisionModel,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils import cached_file

from moda_utils.storage import read_json, write_json

# Any of them ends an answer; the public checkpoints number them 2, 32000, 32001 and 32007. Their
# configuration names only the first, which the model never writes: it would talk on without end.
STOP_TOKENS = ("</s>", "<|endoftext|>", "<|assistant|>", "<|end|>")
IMAGE_TAG = re.compile(r"<\|image_(\d+)\|>")

# CLIP ViT-L/14 at 336 pixels. The public config.json leaves it out: the original code held it.
CLIP_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
CLIP_LARGE |= {"num_attention_heads": 16, "image_size": 336, "patch_size": 14}
CLIP_MEAN = torch.tensor(OPENAI_CLIP_MEAN).view(3, 1, 1)
CLIP_STD = torch.tensor(OPENAI_CLIP_STD).view(3, 1, 1)


Photos = Image.Image | Sequence[Image.Image] | None
Encoded = tuple[list[int], list[Tensor], list[tuple[int, int]]]  # ids, tiles, grids


class Phi3VisionImageProcessor:
    """Cuts photos into normalised tiles.

    Args:
        num_crops: at most so many tiles, the global view not counted.
        tile_size: side of a tile in pixels, the CLIP tower's `image_size`.
        patch_size: side of a CLIP patch in pixels.
    """

    def __init__(self, num_crops: int = 16, tile_size: int = 336, patch_size: int = 14):
        if num_crops < 1:
            raise ValueError(f"num_crops is {num_crops}, but a photo needs at least 1 tile.")
        if tile_size % (2 * patch_size):
            raise ValueError(f"tile_size {tile_size} doesn't divide by two patches ({patch_size}).")
        self.num_crops, self.tile_size, self.patch_size = num_crops, tile_size, patch_size

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a photo after scaling: the long side fills whole tiles."""
        if width < height:
            return self.scaled_size(height, width)[::-1]
        ratio = width / height
        tiles = 1  # along the width
        while (tiles + 1) * math.ceil((tiles + 1) / ratio) <= self.num_crops:
            tiles += 1
        scaled_width = tiles * self.tile_size
        return scaled_width, int(scaled_width / ratio)

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of tiles that a photo of this size gets."""
        scaled_width, scaled_height = self.scaled_size(width, height)
        return math.ceil(scaled_height / self.tile_size), math.ceil(scaled_width / self.tile_size)

    def num_tokens(self, rows: int, columns: int) -> int:
        """Places in the prompt for a grid of tiles: merged patches, row ends and one separator."""
        side = self.tile_size // self.patch_size // 2  # 12 merged patches along a tile
        tiles = rows * side * (columns * side + 1)
        global_view = side * (side + 1)
        return tiles + 1 + global_view

    def fit(self, photo: Image.Image) -> Image.Image:
        """Scale a photo and pad it with white to whole tiles."""
        photo = photo.convert("RGB")
        tall = photo.width < photo.height
        if tall:  # the original code turns tall photos over, which changes the rounding
            photo = photo.transpose(Image.Transpose.TRANSPOSE)
        width, height = self.scaled_size(*photo.size)
        if height == 0:
            raise ValueError(f"A photo of {photo.width} x {photo.height} is too thin: crop it.")
        rows, columns = self.grid(*photo.size)
        canvas = Image.new("RGB", (columns * self.tile_size, rows * self.tile_size), "white")
        scaled = photo.resize((width, height), Image.Resampling.BILINEAR)
        canvas.paste(scaled, (0, (canvas.height - height) // 2))
        return canvas.transpose(Image.Transpose.TRANSPOSE) if tall else canvas

    def __call__(self, photo: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """Return (tiles [1 + rows * columns, 3, S, S] float32, (rows, columns)).

        The first tile is the global view; the others follow row by row.
        """
        side = self.tile_size
        canvas = self.fit(photo)
        rows, columns = canvas.height // side, canvas.width // side
        pixels = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(canvas.height, canvas.width, 3).permute(2, 0, 1).float() / 255
        pixels = (pixels - CLIP_MEAN) / CLIP_STD  # [3, H, W]
        global_view = interpolate(pixels[None], size=(side, side), mode="bicubic")
        # [3, H, W] -> [3, rows, S, columns, S] -> [rows, columns, 3, S, S] -> [rows * columns, ...]
        tiles = pixels.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4)
        return torch.cat([global_view, tiles.reshape(-1, 3, side, side)]), (rows, columns)


class Phi3VisionProcessor:
    """Turns (prompt, photos) pairs into model inputs, and token ids back into text."""

    def __init__(
        self, image_processor: Phi3VisionImageProcessor, tokenizer: PreTrainedTokenizerFast
    ):
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.stop_ids: list[int] = tokenizer.convert_tokens_to_ids(list(STOP_TOKENS))
        tokenizer.pad_token = "<|endoftext|>"
        self.pad_id: int = tokenizer.pad_token_id
        if missing := [token for token in STOP_TOKENS if token not in tokenizer.vocab]:
            raise ValueError(f"The tokenizer lacks {', '.join(missing)}: not one of Phi-3 Vision.")

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, num_crops: int | None = None, **options: Any
    ) -> Self:
        """Load from a hub id or a folder; `num_crops` overrules the checkpoint's own number.
        `options`: those of transformers that say where to look, such as `revision`."""
        file = cached_file(name_or_path, "preprocessor_config.json", **options)
        cached_file(name_or_path, "tokenizer.json", **options)  # a clear error without it
        tokenizer = PreTrainedTokenizerFast.from_pretrained(name_or_path, **options)
        known = ("num_crops", "tile_size", "patch_size")
        settings = {name: value for name, value in read_json(file).items() if name in known}
        if num_crops is not None:
            settings["num_crops"] = num_crops
        return cls(Phi3VisionImageProcessor(**settings), tokenizer)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write preprocessor_config.json and the tokenizer's files into `folder`."""
        self.tokenizer.save_pretrained(folder)
        write_json(Path(folder) / "preprocessor_config.json", vars(self.image_processor))

    def __call__(self, pairs: Sequence[tuple[str, Photos]]) -> BatchFeature:
        """Prepare a batch of (prompt, photos) pairs: `encode` each, `collate` them."""
        return self.collate([self.encode(prompt, photos) for prompt, photos in pairs])

    def encode(self, prompt: str, photos: Photos = None) -> Encoded:
        """Token ids, tiles and grids of one prompt; the n-th photo's places hold the id -n.

        Args:
            prompt: names its photos `<|image_1|>`, `<|image_2|>` and so on, in this order.
            photos: a photo, a list of photos, or None.

        Raises:
            ValueError: the prompt's tags don't match the photos.
        """
        photos = [photos] if isinstance(photos, Image.Image) else list(photos or [])
        # split() with a group returns text, "1", text, "2", text
        texts, tags = IMAGE_TAG.split(prompt)[::2], IMAGE_TAG.findall(prompt)
        if tags != [str(n + 1) for n in range(len(photos))]:
            raise ValueError(
                f"The prompt names the photos {tags or 'none'} but comes with {len(photos)}: "
                "it needs <|image_1|>, <|image_2|>, ... once each and in this order."
            )
        cut = [self.image_processor(photo) for photo in photos]
        ids = self.tokenizer(texts[0]).input_ids
        for number, (text, (_, grid)) in enumerate(zip(texts[1:], cut, strict=True), start=1):
            ids += [-number] * self.image_processor.num_tokens(*grid)
            ids += self.tokenizer(text).input_ids  # each piece starts with <s>, as in training
        return ids, [tiles for tiles, _ in cut], [grid for _, grid in cut]

    def collate(self, encoded: Sequence[Encoded]) -> BatchFeature:
        """Put encoded prompts into one batch.

        Returns:
            input_ids [B, T] int64, padded on the left; attention_mask [B, T] int64; and, if there
            are photos, pixel_values [P, N, 3, S, S] float32 (N: tiles of the photo with most; the
            others end in zeros, which are never looked at) and image_grids [P, 2] int64.
        """
        # Padding stands on the left: generation appends on the right, to all prompts at once.
        prompts = {"input_ids": [ids for ids, _, _ in encoded]}
        batch = dict(self.tokenizer.pad(prompts, padding_side="left"))
        if tiles := [photo for _, photos, _ in encoded for photo in photos]:
            batch["pixel_values"] = nn.utils.rnn.pad_sequence(tiles, batch_first=True)
            batch["image_grids"] = [grid for _, _, grids in encoded for grid in grids]
        return BatchFeature(batch, tensor_type="pt")

    def batch_decode(self, ids: Tensor) -> list[str]:
        """Text of generated ids [B, T], without special tokens."""
        return self.tokenizer.batch_decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


class Phi3VisionConfig(Phi3Config):
    """The original config.json, with one addition: `clip_vision_config` for other CLIP sizes."""

    model_type = "phi3_v"
    clip_vision_config: dict | None = None

    def __post_init__(self, **kwargs: Any):
        self.clip_vision_config = CLIP_LARGE | (self.clip_vision_config or {})
        kwargs.pop("_attn_implementation", None)  # it asks for flash-attn, an extra package
        kwargs.pop("auto_map", None)  # it points to remote code
        # "su" is the older name of what transformers calls "longrope".
        scaling = kwargs.get("rope_scaling")
        if scaling and scaling.get("type") == "su":
            factor = self.max_position_embeddings / self.original_max_position_embeddings
            factors = {name: scaling[name] for name in ("short_factor", "long_factor")}
            kwargs["rope_scaling"] = {"rope_type": "longrope", "factor": factor} | factors
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The fields by their original names, so that a saved model looks like the public ones."""
        fields = super().to_dict()
        rope = fields.pop("rope_parameters")
        fields["rope_theta"] = rope["rope_theta"]
        if rope["rope_type"] == "longrope":
            factors = {name: rope[name] for name in ("short_factor", "long_factor")}
            fields["rope_scaling"] = {"type": "su"} | factors
        return fields


class Phi3ImageEmbedding(nn.Module):
    """Photos in, decoder vectors out: steps 2 to 4. Names are those of the checkpoint."""

    def __init__(self, config: Phi3VisionConfig):
        super().__init__()
        clip = CLIPVisionConfig(**config.clip_vision_config)
        clip._attn_implementation = config._attn_implementation
        self.img_processor = CLIPVisionModel(clip)
        merged_size, size = 4 * clip.hidden_size, config.hidden_size
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, merged_size))  # ends a row
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, merged_size))  # stands before the global view
        self.img_projection = nn.Sequential(
            nn.Linear(merged_size, size), nn.GELU(), nn.Linear(size, size)
        )

    def forward(self, pixel_values: Tensor, image_grids: Tensor) -> Tensor:
        """Vectors [places, hidden_size] of all photos, in their order.

        Args:
            pixel_values: [P, N, 3, S, S] tiles, the global view first.
            image_grids: [P, 2] rows and columns of tiles.
        """
        grids = image_grids.tolist()
        real = [photo[: 1 + r * c] for photo, (r, c) in zip(pixel_values, grids, strict=True)]
        cells = self.merge(self.encode(torch.cat(real)))  # [tiles, 12, 12, 4C]
        vectors = []
        for photo, (rows, columns) in zip(cells.split([len(t) for t in real]), grids, strict=True):
            side = photo.shape[1]
            # [r*c, 12, 12, 4C] -> [r, c, 12, 12, 4C] -> [r, 12, c, 12, 4C] -> [r*12, c*12, 4C]
            tiles = photo[1:].unflatten(0, (rows, columns)).transpose(1, 2)
            tiles = tiles.reshape(rows * side, columns * side, -1)
            vectors += [self.with_row_ends(tiles), self.glb_GN[0], self.with_row_ends(photo[0])]
        return self.img_projection(torch.cat(vectors))

    def encode(self, tiles: Tensor) -> Tensor:
        """Patch vectors [tiles, 576, C]: what CLIP's last layer but one makes of the tiles."""
        tower = self.img_processor
        hidden_states = tower.pre_layrnorm(tower.embeddings(tiles))  # [tiles, 1 + 576, C]
        for layer in tower.encoder.layers[:-1]:  # the last layer is in the file but never used
            hidden_states = layer(hidden_states, None)
        return hidden_states[:, 1:]  # without the class token

    @staticmethod
    def merge(patches: Tensor) -> Tensor:
        """Lay 2x2 neighbours end to end: [tiles, 24 * 24, C] -> [tiles, 12, 12, 4C]."""
        side = math.isqrt(patches.shape[1]) // 2
        # [tiles, 24 * 24, C] -> [tiles, 12, 2, 12, 2, C] -> [tiles, 12, 12, 2, 2, C]
        blocks = patches.unflatten(1, (side, 2, side, 2)).transpose(2, 3)
        return blocks.flatten(3)

    def with_row_ends(self, cells: Tensor) -> Tensor:
        """Append `sub_GN` to each row and read row by row: [H, W, 4C] -> [H * (W + 1), 4C]."""
        ends = self.sub_GN[0].expand(len(cells), -1, -1)  # [H, 1, 4C]
        return torch.cat([cells, ends], dim=1).flatten(0, 1)


class Phi3VisionForConditionalGeneration(Phi3ForCausalLM):
    """Phi-3 decoder whose embedding layer also understands photos.

    `generate(**processor(pairs), eos_token_id=processor.stop_ids, pad_token_id=processor.pad_id)`
    writes the answers; `forward(..., labels=...)` gives a loss (-100 on photos and padding).
    """

    config: Phi3VisionConfig
    config_class = Phi3VisionConfig
    # An alias of embed_tokens that some copies of the checkpoint hold.
    _keys_to_ignore_on_load_unexpected = [r"vision_embed_tokens\.wte\.weight"]

    def __init__(self, config: Phi3VisionConfig):
        super().__init__(config)
        self.model.vision_embed_tokens = Phi3ImageEmbedding(config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a checkpoint in the original layout from a hub id or a folder.

        Args:
            kwargs: those of transformers: `revision`, `dtype` (default: as stored), `device_map`
                ("cuda" reads the shards straight into GPU memory), `attn_implementation`.

        Raises:
            OSError: no such checkpoint, or no network to fetch it (`device.load_checkpoint` says
                which in one sentence).
            ValueError: a file lacks weights, holds other ones, or is cut.
        """
        kwargs |= {"output_loading_info": True, "use_safetensors": True}
        try:
            model, report = super().from_pretrained(name_or_path, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"A weight file of {name_or_path} is damaged ({error}): delete it and load again."
            ) from error
        for problem in ("missing_keys", "unexpected_keys"):
            if keys := sorted(report[problem]):
                what = f"{len(keys)} {problem.replace('_', ' ')}, such as {', '.join(keys[:3])}"
                raise ValueError(f"{name_or_path} is no Phi-3 Vision of its config.json: {what}.")
        return model

    def embed(
        self, input_ids: Tensor, pixel_values: Tensor | None, image_grids: Tensor | None
    ) -> Tensor:
        """Embeddings [B, T, hidden_size]: of tokens, and of photos where ids are negative."""
        places = input_ids < 0
        embeddings = self.model.embed_tokens(input_ids.clamp(min=0))
        vectors = embeddings.new_empty(0, embeddings.shape[-1])
        if pixel_values is not None:
            vectors = self.model.vision_embed_tokens(pixel_values, image_grids)
        if places.sum() != len(vectors):
            raise ValueError(
                f"The ids keep {places.sum()} places for photos, but the photos make "
                f"{len(vectors)} vectors: take ids, pixels and grids from one processor call."
            )
        return embeddings.masked_scatter(places[..., None], vectors.to(embeddings.dtype))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ):
        """As Phi3ForCausalLM.forward, with photos; returns logits [B, T, vocab_size]."""
        # `generate` looks for these names in the signature; labels and cache come as kwargs.
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values, image_grids)
        return super().forward(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, pixel_values: Any = None, image_grids: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Inputs of one step. Photos go along whenever the step's ids hold their places: at the
        first step, and again where a long text switches the rotary factors and starts over."""
        past, short = kwargs.get("past_key_values"), self.config.original_max_position_embeddings
        if past is not None and past.get_seq_length() <= short < input_ids.shape[1]:
            kwargs["next_sequence_length"] = None  # start over with all ids: some versions forget
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        if inputs.get("input_ids") is not None and (inputs["input_ids"] < 0).any():
            inputs |= {"pixel_values": pixel_values, "image_grids": image_grids}
        return inputs
