"""MODA for a processor without a GPU: the same texts from less memory, several times faster.

A language model writes one token after the other, and for every token each weight is read from
memory once and meets a single vector. That reading, many small products and their calls take most
of the time. So:

* int8 weights, a quarter of the bytes: one scale per output of a layer, made while loading;
* an output layer cut to the tokens that the training descriptions use (`config.output_tokens`):
  what the model was never asked to say, it doesn't have to weigh against the rest at every step;
* a decoding loop without the generality of `generate`: keys and values go into memory that is
  reserved once, and nothing but greedy search is offered.

Only the first one changes numbers. Methods were compared at real sizes: benchmarks/int8.py.
"""

import ctypes
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from transformers.activations import ACT2FN

from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration

Linear = Callable[[Tensor], Tensor]
Read = Callable[[str], Tensor]  # a weight by its name in the file, float32


class Int8Linear(nn.Module):
    """A linear layer with int8 weights; what comes in is brought to int8 row by row.

    Rows are scaled to [-1, 1] one by one, so a photo gets the same text whatever is beside it in
    its batch. The kernels are those of torch's dynamic quantisation. Its Python interface
    (`torch.ao.quantization`) and its tensor type are marked as deprecated in torch 2.13 and 2.14,
    in favour of torchao; the kernels work in both, and `int8_works` asks before they are used.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        outputs, inputs = weight.shape
        scale = weight.abs().amax(dim=1).clamp_min(1e-12).double() / 127
        with warnings.catch_warnings():  # the deprecation that the docstring is about
            warnings.simplefilter("ignore")
            zero = torch.zeros(outputs, dtype=torch.long)
            stored = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(stored, None)
        self.register_buffer("bias", torch.zeros(outputs) if bias is None else bias)
        # A last row that fixes the range to [-1, 1] for all others.
        self.register_buffer("_range", torch.zeros(1, inputs))
        self._range[0, 0], self._range[0, -1] = -1, 1

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])  # (M, inputs)
        size = torch.linalg.vector_norm(rows, float("inf"), dim=1, keepdim=True).clamp_min_(1e-12)
        rows = torch.cat([rows / size, self._range])
        # Seven bits of range: with eight, 16-bit sums overflow on processors without VNNI.
        y = torch.ops.quantized.linear_dynamic(rows, self._packed, reduce_range=True)[:-1]
        return torch.addcmul(self.bias, y, size).view(*x.shape[:-1], -1)


@cache
def int8_works() -> bool:
    """Does this build of torch have int8 kernels for this processor?"""
    try:
        return bool(Int8Linear(torch.eye(8))(torch.ones(1, 8)).isfinite().all())
    except (RuntimeError, AttributeError):
        return False


class FastModa:
    """A trained MODA, ready to describe photos on a CPU. Offers what `describe` needs of a model.

    Args:
        config: of the model.
        read: gives a weight in float32 by its name, such as "projection.0.weight".
        int8: int8 weights; float32 otherwise, which gives the numbers of `generate`.

    Raises:
        ValueError: the language model is no OPT with normalisation before each block.
    """

    device = torch.device("cpu")
    int8_layer = Int8Linear

    def __init__(self, config: ModaConfig, read: Read, int8: bool = True):
        if not self.fits(config):
            raise ValueError(f"The fast path knows OPT, not {config.text_config.model_type}.")
        self.config, self._text = config, config.text_config
        self._linear = self.int8_layer if int8 else _float32_linear
        with init_empty_weights():  # a model without memory for its weights
            empty = ModaForConditionalGeneration(config)
        self.vision_model, self.projection = empty.vision_model.eval(), empty.projection
        _fill(self.vision_model, "vision_model.", read, self.int8_layer if int8 else None)
        _fill(self.projection, "projection.", read, None)

        read = _below(read, "language_model.model.decoder.")
        tokens = config.output_tokens or range(self._text.vocab_size)
        self._tokens = torch.tensor(sorted({*tokens, config.end_token_id}))  # (V,)
        self._end = int((self._tokens == config.end_token_id).nonzero())
        self._words = read("embed_tokens.weight")[self._tokens]  # (V, 768)
        self._places = read("embed_positions.weight")[2:]  # OPT's first two rows are unused
        self._head = self._linear(self._words)
        self._last_norm = _norm(read, "final_layer_norm.")
        self._activation = ACT2FN[self._text.activation_function]
        layers = range(self._text.num_hidden_layers)
        self._layers = [self._layer(_below(read, f"layers.{number}.")) for number in layers]

    @staticmethod
    def fits(config: ModaConfig) -> bool:
        """Is the language model one that the decoding loop is written for?"""
        text = config.text_config
        return (
            text.model_type == "opt"
            and text.do_layer_norm_before
            and text.word_embed_proj_dim == text.hidden_size
            and text.enable_bias
            and text.layer_norm_elementwise_affine
            and text.tie_word_embeddings
        )

    @classmethod
    def from_folder(cls, folder: Path | str, int8: bool = True) -> Self:
        """Read a saved model weight by weight: the whole of it is never in memory as float32."""

        def read(name: str) -> Tensor:
            # Opened anew each time: a file that stays open keeps all it has read in memory.
            with safe_open(Path(folder) / "model.safetensors", "pt") as file:
                weight = file.get_tensor(name).float()
            if weight.numel() > 500_000:
                _give_back()
            return weight

        return cls(ModaConfig.from_pretrained(folder), read, int8)

    @classmethod
    def from_model(cls, model: ModaForConditionalGeneration, int8: bool = True) -> Self:
        """The same weights as a model in memory has."""
        state = model.state_dict()
        return cls(model.config, lambda name: state[name].float(), int8)

    @torch.inference_mode()
    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Pixels (B, 3, height, width) to image embeddings (B, 512)."""
        return ModaForConditionalGeneration.encode_images(self, pixel_values)

    def eval(self) -> Self:
        """As models have it: this one is never trained."""
        return self

    @torch.inference_mode()
    def generate(
        self, image_embeds: Tensor, max_new_tokens: int = 40, do_sample: bool = False
    ) -> Tensor:
        """Greedy search from embeddings (B, 512): token ids (B, at most `max_new_tokens`).

        The end mark is included; a row that ended early is filled with the pad token.
        """
        if do_sample:
            raise ValueError("The fast path takes the likeliest token: load the model as float32.")
        batch, heads = len(image_embeds), self._text.num_attention_heads
        longest = min(max_new_tokens + 1, len(self._places))
        shape = (batch, heads, longest, self._text.hidden_size // heads)
        # Of every layer the keys and values of all places so far.
        memory = [(torch.empty(shape), torch.empty(shape)) for _ in self._layers]
        word = torch.full((batch,), self._end)
        image = self.projection(image_embeds).unsqueeze(1)  # (B, 1, 768)
        x = torch.cat([image, self._words[word].unsqueeze(1)], dim=1)  # [image][</s>]
        said, running = [], torch.ones(batch, dtype=torch.bool)
        start = 0
        while len(said) < max_new_tokens and running.any():
            x = x + self._places[start : start + x.shape[1]]
            for layer, (keys, values) in zip(self._layers, memory, strict=True):
                x = layer(x, keys, values, start)
            start += x.shape[1]
            word = self._head(self._last_norm(x[:, -1])).argmax(dim=-1)  # (B,)
            said.append(torch.where(running, self._tokens[word], self._text.pad_token_id))
            running = running & (word != self._end)
            x = self._words[word].unsqueeze(1)  # (B, 1, 768)
            if start == longest:
                break
        return torch.stack(said, dim=1) if said else torch.empty(batch, 0, dtype=torch.long)

    def _layer(self, read: Read) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
        """One block: attention to all places so far, then two linear layers."""

        def linear(name: str) -> Linear:
            return self._linear(read(f"{name}.weight"), read(f"{name}.bias"))

        parts = [f"self_attn.{part}_proj" for part in "qkv"]
        query_key_value = self._linear(
            *(torch.cat([read(f"{part}.{kind}") for part in parts]) for kind in ("weight", "bias"))
        )
        out, up, down = linear("self_attn.out_proj"), linear("fc1"), linear("fc2")
        before_attention = _norm(read, "self_attn_layer_norm.")
        before_mlp = _norm(read, "final_layer_norm.")
        activation, heads = self._activation, self._text.num_attention_heads

        def block(x: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
            batch, new, width = x.shape
            split = query_key_value(before_attention(x)).view(batch, new, 3, heads, -1)
            query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, new, 64)
            end = start + new
            keys[:, :, start:end], values[:, :, start:end] = key, value
            seen = F.scaled_dot_product_attention(
                query, keys[:, :, :end], values[:, :, :end], is_causal=new > 1
            )
            x = x + out(seen.transpose(1, 2).reshape(batch, new, width))
            return x + down(activation(up(before_mlp(x))))

        return block


def _give_back() -> None:
    """What float32 weights have left free goes back to the system, where the C library can do that.

    glibc keeps it otherwise, in holes between the small weights: up to half a gigabyte.
    """
    with suppress(AttributeError, OSError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def _norm(read: Read, name: str) -> Linear:
    weight, bias = read(f"{name}weight"), read(f"{name}bias")
    return partial(F.layer_norm, normalized_shape=weight.shape, weight=weight, bias=bias)


def _below(read: Read, prefix: str) -> Read:
    return lambda name: read(prefix + name)


def _float32_linear(weight: Tensor, bias: Tensor | None = None) -> Linear:
    return partial(F.linear, weight=weight, bias=bias)


def _fill(module: nn.Module, prefix: str, read: Read, layer: type[nn.Module] | None) -> None:
    """Give an empty module its weights; `layer` takes the place of its linear ones."""
    for name, child in list(module.named_children()):
        if layer is not None and isinstance(child, nn.Linear):
            bias = None if child.bias is None else read(f"{prefix}{name}.bias")
            setattr(module, name, layer(read(f"{prefix}{name}.weight"), bias))
        else:
            _fill(child, f"{prefix}{name}.", read, layer)
    for name, _ in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(read(prefix + name), requires_grad=False))
