"""ONNX graphs of a model, with the recurrent state as explicit inputs and outputs.

    reader   ids (B, T), context state               → context (B, T, H), context state
    encoder  segment (B, T), context (B, H) before it → mean, log_variance (B, Z)        q(z | segment, context)
    prior    context (B, H)                           → log_weights (B, C), means, log_variances (C, Z)  p(z | context)
    planner  latents (B, Z)                           → plan (B, S, Hb)
    writer   context (B, T, H), plan, places (B, T), generator state → logits (B, T, V), generator state

A character is read; where a segment starts, a latent is drawn from the prior, a mixture of C Gaussians (or taken from
wherever the caller likes), and the planner turns it into a plan; the writer turns context, plan and the place in the
segment (0 to S − 1) into the logits of the next character. States are pairs h, c, each (layers, B, H), zeros at the
start. A plain model has only `reader` and `writer`, which takes the context and its state alone.
`examples/onnx_generate.py` generates with nothing but onnxruntime, numpy and tokenizers.
"""

import copy
import json
import warnings
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from boustro import BoustroForCausalLM
from boustro.layers_boustro import WORD_UNKNOWN, LSTMStack

OPSET = 17


class Reader(nn.Module):
    """The context LSTM over ids."""

    def __init__(self, model: BoustroForCausalLM):
        super().__init__()
        self.embedding, self.stack = model.model.embedding, model.model.context

    def forward(self, ids, h, c):
        return _run(self.stack, self.embedding(ids), h, c)


class Encoder(nn.Module):
    """The posterior of a segment without padding; its word starts are unknown."""

    def __init__(self, model: BoustroForCausalLM):
        super().__init__()
        self.embedding, self.encoder = model.model.embedding, model.model.planner.encoder

    def forward(self, segment, context):
        # PosteriorEncoder.forward for one segment a row
        words = self.encoder.word_start_embedding(torch.full_like(segment, WORD_UNKNOWN))
        x = torch.cat([self.embedding(segment), words], -1).flip(1)
        _, (last, _) = self.encoder.lstm(x)
        hidden = torch.tanh(self.encoder.projection(torch.cat([last[0], context], -1)))
        mean, log_variance = self.encoder.output(hidden).chunk(2, -1)
        return mean, log_variance.clamp(-10, 10)


class PriorGraph(nn.Module):
    """The mixture that is the prior of one segment a row."""

    def __init__(self, model: BoustroForCausalLM):
        super().__init__()
        self.prior = model.model.planner.prior

    def forward(self, context):
        found = self.prior(context)
        return found.log_weights, found.means, found.log_variances


class Planner(nn.Module):
    """The plan of one segment a row."""

    def __init__(self, model: BoustroForCausalLM):
        super().__init__()
        self.decoder = model.model.planner.backward_decoder

    def forward(self, latents):
        return self.decoder(latents[:, None])[:, 0]


class Writer(nn.Module):
    """Alignment, generator LSTM, skip connections and softmax layer."""

    def __init__(self, model: BoustroForCausalLM):
        super().__init__()
        self.alignment, self.length = model.model.planner.alignment, model.config.segment_length
        self.stack, self.head = model.model.generator, model.lm_head
        self.plan_skip = model.model.plan_skip if model.config.plan_skip else None

    def forward(self, context, plan, places, h, c):
        distance = torch.arange(self.length) - places[..., None]
        aligned, _ = self.alignment(context, plan, distance=distance)
        hidden, h, c = _run(self.stack, torch.cat([context, aligned], -1), h, c)
        direct = context if self.plan_skip is None else context + self.plan_skip(aligned)
        return self.head(hidden + direct), h, c


class PlainWriter(nn.Module):
    """Generator LSTM and softmax layer of a model without latents."""

    def __init__(self, model: BoustroForCausalLM):
        super().__init__()
        self.stack, self.head = model.model.generator, model.lm_head

    def forward(self, context, h, c):
        if not self.stack.layers:
            return self.head(context), h, c
        hidden, h, c = _run(self.stack, context, h, c)
        return self.head(hidden + context), h, c


def _run(stack: LSTMStack, x, h, c):
    """`LSTMStack.forward` with the state as a graph has it: layers first."""
    states = []
    for i, layer in enumerate(stack.layers):
        x, state = layer(x, (h[i : i + 1], c[i : i + 1]))
        states.append(state)
    h, c = (torch.cat(parts) for parts in zip(*states, strict=True))
    return x, h, c


def export_onnx(model: BoustroForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> list[Path]:
    """
    Writes the graphs, `boustro.json` (sizes and special ids) and `tokenizer.json` into `folder`; returns their paths.
    Raises `ImportError` where the package `onnx` is missing (`pip install boustro[onnx]`), and `ValueError` for a
    folder that holds a model: its tokenizer would be replaced.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise ValueError(
            f"{folder} holds a model, whose tokenizer.json would be replaced: choose another folder, for example "
            f"{folder / 'onnx'}."
        )
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError("the package onnx is missing: pip install 'boustro[onnx]'.") from error
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model).float().cpu().eval()
    written = [_export(folder / f"{name}.onnx", *graph) for name, graph in _graphs(model).items()]
    (folder / "boustro.json").write_text(json.dumps(_sizes(model), indent=2) + "\n", encoding="utf-8")
    # the backend remembers the last call's padding and truncation
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return [*written, folder / "boustro.json", folder / "tokenizer.json"]


def _sizes(model):
    names = ("hidden_size", "num_context_layers", "num_generator_layers", "latent_size", "segment_length")
    names += ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(model.config, name) for name in names}


def _graphs(model):
    """name → module, example inputs, names of inputs and outputs, dynamic axes."""
    config, rows, times = model.config, 2, 3
    ids = torch.zeros(rows, times, dtype=torch.long)
    contexts = torch.zeros(rows, times, config.hidden_size)
    read, write = ([torch.zeros(max(count, 1), rows, config.hidden_size)] * 2
                   for count in (config.num_context_layers, config.num_generator_layers))  # fmt: skip
    text, state, row = {0: "batch", 1: "time"}, {1: "batch"}, {0: "batch"}
    states = {"h": state, "c": state, "new_h": state, "new_c": state}
    reader = (Reader(model), (ids, *read), ["ids", "h", "c"], ["context", "new_h", "new_c"])
    graphs = {"reader": (*reader, {"ids": text, "context": text, **states})}
    if config.latent_size == 0:
        plain = (PlainWriter(model), (contexts, *write), ["context", "h", "c"], ["logits", "new_h", "new_c"])
        return {**graphs, "writer": (*plain, {"context": text, "logits": text, **states})}
    latent = torch.zeros(rows, config.latent_size)
    plan = torch.zeros(rows, config.segment_length, config.backward_hidden_size)
    encoder = (Encoder(model), (ids, contexts[:, 0]), ["segment", "context"], ["mean", "log_variance"])
    prior = (PriorGraph(model), (contexts[:, 0],), ["context"], ["log_weights", "means", "log_variances"])
    planner = (Planner(model), (latent,), ["latents"], ["plan"])
    writer = (Writer(model), (contexts, plan, ids, *write), ["context", "plan", "places", "h", "c"])
    rows_of = dict.fromkeys(("context", "latents", "plan", "mean", "log_variance", "log_weights"), row)
    axes_of_writer = {"context": text, "plan": row, "places": text, "logits": text}
    return {
        **graphs,
        "encoder": (*encoder, {**rows_of, "segment": text}),
        "prior": (*prior, {**rows_of, "means": {}, "log_variances": {}}),
        "planner": (*planner, rows_of),
        "writer": (*writer, ["logits", "new_h", "new_c"], {**axes_of_writer, **states}),
    }


def _export(path, module, inputs, input_names, output_names, axes):
    axes = {name: axes[name] for name in (*input_names, *output_names)}
    with warnings.catch_warnings():
        # the exporter by tracing is called deprecated, but the other one unrolls an LSTM over time
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),  # the exporter gives all its parts the mode of the whole back
            inputs,
            str(path),
            input_names=input_names,
            output_names=output_names,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return path
