"""MODA, the Multimodal Object Description Assistant: a small model that says what a photo shows.

    photo -> FashionCLIP (frozen) -> 512 numbers -> projection -> one "word" -> OPT-125M -> text

The language model reads `[image][</s>]` and goes on, token by token, until it writes `</s>` itself.
This is an ordinary Hugging Face model, and any causal one can take the place of OPT.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from moda_utils.device import load_checkpoint
from moda_utils.profiles import Checkpoint

Source = Checkpoint | str  # hub id with revision, or the name of either a hub id or a folder


class ModaConfig(hf.PreTrainedConfig):
    """Configs of encoder and language model, and the width of the projection's middle layer (left
    out: 4 times the language model's). `trained_on`: "drawn" or "real" photos, empty if untrained.
    `output_tokens`: the ids that the training descriptions use, None if untrained."""

    model_type = "moda"
    sub_configs = {"vision_config": hf.CLIPVisionConfig, "text_config": hf.AutoConfig}

    def __init__(
        self,
        vision_config: hf.CLIPVisionConfig | dict | None = None,
        text_config: hf.PreTrainedConfig | dict | None = None,
        projection_hidden_size: int | None = None,
        trained_on: str = "",
        output_tokens: list[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)  # first: it would reset the attention of the configs below
        if not isinstance(vision_config, hf.CLIPVisionConfig):
            vision_config = hf.CLIPVisionConfig(**(vision_config or {}))
        if not isinstance(text_config, hf.PreTrainedConfig):
            text_config = hf.AutoConfig.for_model(**{"model_type": "opt", **(text_config or {})})
        self.vision_config, self.text_config = vision_config, text_config
        self.projection_hidden_size = projection_hidden_size or 4 * text_config.hidden_size
        self.trained_on, self.output_tokens = trained_on, output_tokens

    @property
    def end_token_id(self) -> int:
        """The id that opens and closes a description: `</s>`, as OPT's two marks are one."""
        end = self.text_config.eos_token_id
        return end[0] if isinstance(end, list) else end


class VisionTower(hf.CLIPVisionModelWithProjection):
    """CLIP's image half; the text half, stored in the same file, is left where it is."""

    _keys_to_ignore_on_load_unexpected = ["text_model", "text_proj", "logit_scale", "position_ids"]


class ModaForConditionalGeneration(hf.PreTrainedModel, hf.GenerationMixin):
    """Frozen vision encoder, trained projection, trained language model."""

    config_class = ModaConfig
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = _supports_sdpa = _supports_flash_attn = True

    def __init__(
        self,
        config: ModaConfig,
        vision_model: VisionTower | None = None,
        language_model: hf.PreTrainedModel | None = None,
    ):
        super().__init__(config)
        self.vision_model = vision_model or VisionTower._from_config(config.vision_config)
        new_text = hf.AutoModelForCausalLM.from_config
        self.language_model = language_model or new_text(config.text_config)
        self.projection = nn.Sequential(
            nn.Linear(config.vision_config.projection_dim, config.projection_hidden_size),
            nn.GELU(),
            nn.Linear(config.projection_hidden_size, self.get_input_embeddings().embedding_dim),
        )
        self.vision_model.requires_grad_(False)
        self.post_init()
        self.generation_config.max_new_tokens = 40  # a description is one sentence

    @classmethod
    def from_backbones(cls, vision: Source, language: Source, **config: Any) -> Self:
        """Join a CLIP checkpoint and a causal language model by a fresh projection, in float32:
        OPT is stored in float16, too coarse to train in. `config`: fields of `ModaConfig`."""
        encoder = load_checkpoint(VisionTower, vision, dtype=torch.float32)
        decoder = load_checkpoint(hf.AutoModelForCausalLM, language, dtype=torch.float32)
        words, head = decoder.get_input_embeddings().weight, decoder.get_output_embeddings().weight
        if not words.any() or decoder.config.tie_word_embeddings != (head is words):
            raise ValueError(f"{language} came with empty embeddings or a separate output layer.")
        return cls(cls.config_class(encoder.config, decoder.config, **config), encoder, decoder)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):  # PyTorch's rule, made for inputs as of `encode_images`
            module.reset_parameters()

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, 3, height, width) to image embeddings (B, 512): CLIP's direction, with a
        length that gives a coordinate a variance near 1, as a fresh layer expects."""
        embeds = self.vision_model(pixel_values.to(self.vision_model.dtype)).image_embeds
        return F.normalize(embeds, dim=-1) * embeds.shape[-1] ** 0.5

    def project(self, image_embeds: Tensor) -> Tensor:
        """Image embeddings (B, 512) to one place in the language model's input: (B, 1, 768)."""
        return self.projection(image_embeds.to(self.projection[0].weight.dtype)).unsqueeze(1)

    def _join(self, pixels: Tensor | None, image_embeds: Tensor | None, ids: Tensor) -> Tensor:
        """Input of the language model, `[image] ids`: (B, 1 + T, 768) for ids (B or 1, T)."""
        if (pixels is None) == (image_embeds is None):
            raise ValueError("Give pixel_values or image_embeds: one of the two.")
        image = self.project(self.encode_images(pixels) if image_embeds is None else image_embeds)
        words = self.get_input_embeddings()(ids).expand(len(image), -1, -1)  # (B, T, 768)
        return torch.cat([image.to(words.dtype), words], dim=1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_embeds: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predict each next token of `[image] input_ids`; logits are (B, 1 + T, vocabulary).

        `input_ids`, `attention_mask` and `labels` are (B, T), padded on the right; labels are -100
        where nothing is asked. `num_items_in_batch` divides the loss (default: count of labels)."""
        joined = self._join(pixel_values, image_embeds, input_ids)
        places = joined.shape[1] - input_ids.shape[1]  # of the image: one, more in some variants
        if attention_mask is not None:
            attention_mask = F.pad(attention_mask, (places, 0), value=1)  # (B, 1 + T)
        outputs = self.language_model(inputs_embeds=joined, attention_mask=attention_mask, **kwargs)
        if labels is None:
            return CausalLMOutputWithPast(logits=outputs.logits)
        # Place i predicts place i + 1: with the image in front, logits and labels (B, T) meet.
        labels = F.pad(labels, (places - 1, 0), value=-100)
        logits = outputs.logits[:, :-1].flatten(0, 1).float()  # (B * T, vocabulary)
        total = F.cross_entropy(logits, labels.flatten(), ignore_index=-100, reduction="sum")
        count = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=total / count, logits=outputs.logits)

    @torch.no_grad()
    def generate(
        self, pixel_values: Tensor | None = None, image_embeds: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """New token ids (B, at most `max_new_tokens`), end mark included. `kwargs`: all that
        `generate` of a language model takes, such as `num_beams=4`."""
        start = torch.tensor([[self.config.end_token_id]], device=self.device)
        prefix = self._join(pixel_values, image_embeds, start)  # (B, 2, 768): [image][</s>]
        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        self.language_model.generation_config = self.generation_config  # one place to set it
        return self.language_model.generate(inputs_embeds=prefix, attention_mask=mask, **kwargs)


class ModaProcessor(hf.ProcessorMixin):
    """Photos to pixel values, descriptions to `</s> tokens </s>`, generated ids back to text."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any):
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # masked everywhere: any token will do
        super().__init__(image_processor, tokenizer)

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> hf.BatchFeature:
        """`pixel_values` (B, 3, H, W) of images; `input_ids`, `attention_mask` (B, T) of texts."""
        data = dict(self.image_processor(images)) if images is not None else {}
        if text is not None:
            end = self.tokenizer.eos_token_id
            # The marks are set here because tokenizers disagree on which they add by themselves.
            texts = [text] if isinstance(text, str) else list(text)
            rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            rows = {"input_ids": [[end, *row, end] for row in rows]}
            data.update(self.tokenizer.pad(rows, padding_side="right"))
        return hf.BatchFeature(data, tensor_type="pt")

    @classmethod
    def from_backbones(cls, vision: Source, language: Source) -> Self:
        """The encoder's image processor, on Pillow everywhere (the pixels of torchvision differ),
        and the language model's tokenizer."""
        images = load_checkpoint(hf.CLIPImageProcessorPil, vision)
        return cls(images, load_checkpoint(hf.AutoTokenizer, language))

    @classmethod
    def from_pretrained(cls, name: str, **kwargs: Any) -> Self:
        saved = Checkpoint(str(name), kwargs.get("revision"))
        return cls.from_backbones(saved, saved)


hf.AutoConfig.register("moda", ModaConfig, exist_ok=True)
hf.AutoModelForImageTextToText.register(ModaConfig, ModaForConditionalGeneration, exist_ok=True)
hf.AutoProcessor.register(ModaConfig, ModaProcessor, exist_ok=True)
