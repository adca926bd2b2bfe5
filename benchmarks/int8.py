"""Which library makes MODA's decoder fastest on a CPU with int8 weights? At real sizes.

    python benchmarks/int8.py                    every method that is installed
    pip install torchao onnxruntime onnx onnxscript openvino nncf     brings the others

The same decoder (OPT-125M's sizes, random weights, the output layer cut to 4,096 tokens) writes 24
tokens by greedy search with each method. For torch's own kernels and for torchao the loop is that
of `moda_utils/fast.py`, with another linear layer; ONNX Runtime and OpenVINO run one step as one
compiled graph, with keys and values going in and coming out. Rounds alternate between methods. None
of them is a requirement of the course; the reasons for the choice are in the result's notes.
"""

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from latency import NEW_TOKENS, OUTPUT_TOKENS, THREADS, cpu_name, moda

from moda_utils.fast import FastModa
from moda_utils.modeling_moda import ModaForConditionalGeneration
from moda_utils.profiles import ROOT
from moda_utils.storage import write_json

NOTES = {
    "float32": "the same loop without int8",
    "torch kernels": "nothing to install; interface and tensor type deprecated in 2.13 and 2.14",
    "torchao weight-only": "int8 weights, float32 arithmetic; made for torch.compile",
    "torchao dynamic": "int8 weights and inputs; made for torch.compile",
    "ONNX Runtime": "dynamic int8; needs an export, and onnx with onnxscript for it",
    "OpenVINO": "int8 weights by nncf; needs a conversion",
}
PACKAGES = {
    "torchao weight-only": ["torchao"],
    "torchao dynamic": ["torchao"],
    "ONNX Runtime": ["onnxruntime", "onnx", "onnxscript"],
    "OpenVINO": ["openvino", "nncf"],
}
Write = Callable[[Tensor], Any]  # embeddings (B, 512) to NEW_TOKENS token ids each


def with_torch(model: ModaForConditionalGeneration, int8: bool) -> Write:
    fast = FastModa.from_model(model, int8)
    return lambda embeds: fast.generate(embeds, NEW_TOKENS)


def with_torchao(model: ModaForConditionalGeneration, weight_only: bool) -> Write:
    from torchao import quantization as ao

    kind = ao.Int8WeightOnlyConfig if weight_only else ao.Int8DynamicActivationInt8WeightConfig

    class Layer(nn.Module):
        def __init__(self, weight: Tensor, bias: Tensor | None = None):
            super().__init__()
            linear = nn.Linear(*weight.T.shape, bias=bias is not None)
            linear.weight = nn.Parameter(weight.clone(), requires_grad=False)
            if bias is not None:
                linear.bias = nn.Parameter(bias, requires_grad=False)
            self.inner = nn.Sequential(linear)
            ao.quantize_(self.inner, kind())

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    class AoModa(FastModa):
        int8_layer = Layer

    fast = AoModa.from_model(model)
    return lambda embeds: fast.generate(embeds, NEW_TOKENS)


class Step(nn.Module):
    """One decoding step with all it needs going in and coming out: (B, 1, 768), the keys and
    values so far (layers, 2, B, heads, T, 64) to scores (B, V) and the longer keys and values."""

    def __init__(self, model: ModaForConditionalGeneration):
        super().__init__()
        decoder = model.language_model.model.decoder
        self.layers, self.last_norm = decoder.layers, decoder.final_layer_norm
        words = decoder.embed_tokens.weight[:OUTPUT_TOKENS].detach().clone()
        self.head = nn.Linear(*words.T.shape, bias=False)
        self.head.weight = nn.Parameter(words)
        self.heads = model.config.text_config.num_attention_heads

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        grown = []
        for number, layer in enumerate(self.layers):
            attention, y = layer.self_attn, layer.self_attn_layer_norm(x)
            parts = [attention.q_proj(y), attention.k_proj(y), attention.v_proj(y)]
            query, key, value = (
                part.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2) for part in parts
            )
            both = torch.cat([memory[number], torch.stack([key, value])], dim=3)
            seen = nn.functional.scaled_dot_product_attention(query, both[0], both[1])
            x = x + attention.out_proj(seen.transpose(1, 2).reshape(x.shape))
            x = x + layer.fc2(nn.functional.relu(layer.fc1(layer.final_layer_norm(x))))
            grown.append(both)
        return self.head(self.last_norm(x[:, -1])), torch.stack(grown)


def in_steps(model: ModaForConditionalGeneration, run: Callable) -> Write:
    """The greedy loop around `run(x, memory) -> (scores, memory)`, in numpy."""
    decoder = model.language_model.model.decoder
    words = decoder.embed_tokens.weight[:OUTPUT_TOKENS].detach().numpy()
    places = decoder.embed_positions.weight[2:].detach().numpy()
    text = model.config.text_config
    shape = (text.num_hidden_layers, 2, -1, text.num_attention_heads, 0)
    width = text.hidden_size // text.num_attention_heads

    def write(embeds: Tensor) -> np.ndarray:
        batch, said = len(embeds), []
        memory = np.zeros((*shape[:2], batch, *shape[3:], width), np.float32)
        image = model.project(embeds).detach().numpy()
        start = np.broadcast_to(words[model.config.end_token_id], image.shape)
        # The image alone, then the mark, then the words: every step is one place long.
        for place, x in enumerate([image, start, *[None] * (NEW_TOKENS - 1)]):
            x = words[said[-1]][:, None] if x is None else x
            scores, memory = run(np.ascontiguousarray(x + places[place]), memory)
            if place:
                said.append(scores.argmax(axis=-1))
        return np.stack(said, axis=1)

    return write


def example(model: ModaForConditionalGeneration) -> tuple[Tensor, Tensor]:
    text = model.config.text_config
    heads, width = text.num_attention_heads, text.hidden_size // text.num_attention_heads
    memory = torch.zeros(text.num_hidden_layers, 2, 2, heads, 3, width)
    return torch.zeros(2, 1, text.hidden_size), memory


def with_onnxruntime(model: ModaForConditionalGeneration) -> Write:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        torch.onnx.export(
            Step(model).eval(), example(model), plain, dynamo=False, opset_version=17,
            input_names=["x", "memory"], output_names=["scores", "grown"],
            dynamic_axes={"x": {0: "b"}, "memory": {2: "b", 4: "t"}},
        )  # fmt: skip
        quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(
            small.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    return in_steps(model, lambda x, memory: session.run(None, {"x": x, "memory": memory}))


def with_openvino(model: ModaForConditionalGeneration) -> Write:
    import nncf
    import openvino

    x, memory = example(model)
    shapes = [[-1, 1, x.shape[2]], [*memory.shape[:2], -1, memory.shape[3], -1, memory.shape[5]]]
    graph = openvino.convert_model(Step(model).eval(), example_input=(x, memory), input=shapes)
    graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)
    ready = openvino.Core().compile_model(
        graph, "CPU", {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    )

    def run(x: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, grown = ready([x, memory]).values()
        return scores, grown

    return in_steps(model, run)


def methods(model: ModaForConditionalGeneration) -> tuple[dict[str, Write], dict[str, str]]:
    """Those that are installed, and why the others are not here."""
    makers = {
        "float32": lambda: with_torch(model, int8=False),
        "torch kernels": lambda: with_torch(model, int8=True),
        "torchao weight-only": lambda: with_torchao(model, weight_only=True),
        "torchao dynamic": lambda: with_torchao(model, weight_only=False),
        "ONNX Runtime": lambda: with_onnxruntime(model),
        "OpenVINO": lambda: with_openvino(model),
    }
    ready, missing = {}, {}
    for name, make in makers.items():
        try:
            ready[name] = make()
        except ImportError as error:
            missing[name] = f"not installed: {error.name}"
    return ready, missing


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a tiny model: does the script work?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/, nothing if small")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = moda(options.small)
    ready, missing = methods(model)
    embeds = torch.randn(16, 512)
    expected = np.asarray(ready["float32"](embeds))
    took: dict[tuple[str, int], list[float]] = {}
    agreement = {}
    for number in range((1 if options.small else options.rounds) + 1):
        for name, write in ready.items():
            for batch in (1, 16):
                began = time.perf_counter()
                with torch.inference_mode():
                    said = write(embeds[:batch])
                if number:
                    took.setdefault((name, batch), []).append(time.perf_counter() - began)
            agreement[name] = round(float((np.asarray(said)[:, 0] == expected[:, 0]).mean()), 2)
    table = {}
    for name in ready:
        medians = {f"batch_{b}_ms": 1000 * statistics.median(took[name, b]) for b in (1, 16)}
        installed = [f"{p} {importlib.metadata.version(p)}" for p in PACKAGES.get(name, ["torch"])]
        table[name] = {key: round(value, 1) for key, value in medians.items()} | {
            # Of random weights: their scores lie closer together than those of a trained model.
            "same_first_token": agreement[name],
            "packages": ", ".join(installed),
            "note": NOTES[name],
        }
    result = {
        "what": f"{NEW_TOKENS} tokens of a decoder of OPT-125M's size, {OUTPUT_TOKENS} outputs, "
        "random weights, without encoding",
        "machine": f"{cpu_name()}, {THREADS} threads",
        "methods": table,
        "missing": missing,
    }
    for name, row in table.items():
        print(f"{name:20} {row['batch_1_ms']:8.1f} ms {row['batch_16_ms']:9.1f} ms")
    print(*(f"{name}: {why}" for name, why in missing.items()), sep="\n")
    out = options.out or (
        None if options.small else ROOT / "benchmarks/results/full-cpu-int8-random-weights.json"
    )
    if out:
        write_json(out, result)


if __name__ == "__main__":
    main()
