"""Characters a second of plain `generate()`, beside a bare loop of LSTM cells and beside models of transformers.

    python -m benchmarks.generation --data input.txt --rounds 3

Sampling (temperature 1, nothing cut off) of 256 new characters after 32 of the file, at batch 1 and 64, for the sizes
of the presets `small` and `base`, with random weights: speed does not depend on what the weights have learnt. `floor`
is the least that such a model can cost: embedding, an `nn.LSTMCell` for each layer of boustro's context and generator,
softmax and draw, in a Python loop with nothing else. `llama`, `gpt2` and `mamba` are models of transformers with as
many parameters (4 layers; the width that comes nearest), sampled by their own `generate()`. Every model is measured in
float32 and, where the device multiplies in it, in bfloat16. All models take turns, `--rounds` times; figures are
medians.

`x_best` is boustro in one format over the best of the three in either format (target: at least 5), `x_floor` boustro
over the floor in the same format (target: at least 0.7). `first_ms` is the time to the first character after a prompt
of 4,000 characters, for boustro and Llama. `--presets small` measures that size alone.
"""

import copy
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from benchmarks.common import clock, parser, print_json, print_table
from boustro import BoustroConfig, BoustroForCausalLM, BoustroTokenizer
from boustro.training.precision import has_bf16

PRESETS = ("small", "base")
BATCHES = (1, 64)
PROMPT, NEW, LONG_PROMPT = 32, 256, 4_000
LAYERS = 4  # of each peer
PEERS = ("llama", "gpt2", "mamba")
CONFIGS = Path(__file__).parent.parent / "configs"


class BareCells(nn.Module):
    """The floor: the layers of a boustro model's two stacks as LSTM cells, and nothing besides."""

    def __init__(self, config: BoustroConfig):
        super().__init__()
        layers = config.num_context_layers + config.num_generator_layers
        sizes = [config.embedding_size] + [config.hidden_size] * (layers - 1)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.cells = nn.ModuleList(nn.LSTMCell(size, config.hidden_size) for size in sizes)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)

    @torch.no_grad()
    def generate(self, ids: torch.Tensor, new: int) -> torch.Tensor:
        """Reads the last of `ids` (B, T) and draws `new` ids after it: (B, new)."""
        states, last, found = [None] * len(self.cells), ids[:, -1], []
        for _ in range(new):
            x = self.embedding(last)
            for i, cell in enumerate(self.cells):
                states[i] = cell(x, states[i])
                x = states[i][0]
            last = torch.multinomial(self.head(x).softmax(-1), 1).squeeze(1)
            found.append(last)
        return torch.stack(found, 1)


def boustro_config(preset: str, vocab_size: int) -> BoustroConfig:
    """The model of a preset."""
    recipe = yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text(encoding="utf-8"))
    known = BoustroConfig().to_dict()
    return BoustroConfig(**{name: value for name, value in recipe.items() if name in known}, vocab_size=vocab_size)


def peers(parameters: int, vocab_size: int) -> dict[str, nn.Module]:
    """A Llama, a GPT-2 and a Mamba, each as near to `parameters` as its width allows."""
    positions = LONG_PROMPT + NEW

    def llama(size):
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=size,
            intermediate_size=8 * size // 3,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(config)

    def gpt2(size):
        # its table of positions is left out of the count by being as short as the run allows
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=vocab_size, n_positions=PROMPT + NEW, n_embd=size, n_layer=LAYERS, n_head=4)
        )

    def mamba(size):
        return MambaForCausalLM(MambaConfig(vocab_size=vocab_size, hidden_size=size, num_hidden_layers=LAYERS))

    return {make.__name__: nearest(make, parameters) for make in (llama, gpt2, mamba)}


def nearest(make: Callable[[int], nn.Module], parameters: int) -> nn.Module:
    """The model whose size comes nearest to `parameters`, its width in steps of 8."""

    def count(size: int) -> int:
        with torch.device("meta"):
            return make(size).num_parameters()

    low, high = 8, 16
    while count(high) < parameters:
        low, high = high, 2 * high
    size = min(range(low, high + 8, 8), key=lambda width: abs(count(width) - parameters))
    return make(size).eval()


def generator(model: nn.Module) -> Callable[[torch.Tensor, int], Any]:
    """`generate` of a model of transformers, sampling plainly."""
    model.generation_config.eos_token_id = None
    options = {"do_sample": True, "top_k": 0, "pad_token_id": 0}

    def run(ids: torch.Tensor, new: int) -> torch.Tensor:
        mask = torch.ones_like(ids)
        return model.generate(ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, **options)

    return run


def seconds(run: Callable, ids: torch.Tensor, new: int, device: str) -> float:
    """What one call takes."""
    start = clock(device)
    run(ids, new)
    return clock(device) - start


def formats(device: str) -> dict[str, torch.dtype]:
    """The number formats that `device` multiplies in."""
    found = {"float32": torch.float32}
    return found | {"bfloat16": torch.bfloat16} if has_bf16(torch.device(device)) else found


def measure(options, preset: str, ids: torch.Tensor, vocab_size: int) -> dict[str, dict[str, dict[str, float]]]:
    """For every number format, a row for every model of this size."""
    torch.manual_seed(0)
    config = boustro_config(preset, vocab_size)
    boustro = BoustroForCausalLM(config).eval()
    models = {"boustro": boustro, "floor": BareCells(config), **peers(boustro.num_parameters(), vocab_size)}
    runs, rows = {}, {}
    for number_format, dtype in formats(options.device).items():
        rows[number_format] = {}
        for name, model in models.items():
            model = copy.deepcopy(model).to(options.device, dtype)
            runs[number_format, name] = model.generate if name == "floor" else generator(model)
            rows[number_format][name] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    for batch in BATCHES:
        prompt = ids[:PROMPT].repeat(batch, 1).to(options.device)
        times = {key: [] for key in runs}
        for turn in range(options.rounds + 1):
            for key, run in runs.items():
                taken = seconds(run, prompt, NEW if turn else 16, options.device)
                if turn:  # the first turn warms up
                    times[key].append(batch * NEW / taken)
        for (number_format, name), values in times.items():
            rows[number_format][name][f"batch_{batch}"] = statistics.median(values)
    prompt = ids[:LONG_PROMPT][None].to(options.device)
    for number_format, name in runs:
        if name in ("boustro", "llama"):
            run = runs[number_format, name]
            times = [seconds(run, prompt, 1, options.device) for _ in range(options.rounds + 1)]
            rows[number_format][name]["first_ms"] = 1000 * statistics.median(times[1:])
    return rows


def quotients(rows: dict[str, dict[str, dict[str, float]]], number_format: str) -> dict[str, float]:
    """boustro over the best model of transformers in any format and over the floor in its own, at each batch size."""
    found, own = {}, rows[number_format]
    for name in (f"batch_{batch}" for batch in BATCHES):
        best = max(by_model[peer][name] for by_model in rows.values() for peer in PEERS)
        found[f"x_best_{name}"] = own["boustro"][name] / best
        found[f"x_floor_{name}"] = own["boustro"][name] / own["floor"][name]
    return found


def main() -> None:
    """Prints a row for every model and size, then the JSON line."""
    arguments = parser("generation", __doc__, "a text file of at least 4,000 characters, for the prompts", seeds=None)
    arguments.add_argument("--rounds", type=int, default=3, help="Turns of every model.")
    arguments.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    options = arguments.parse_args()
    text = Path(options.data).read_text(encoding="utf-8")[:100_000]
    tokenizer = BoustroTokenizer.train_from_iterator([text])
    ids = torch.tensor(tokenizer(text[:LONG_PROMPT]).input_ids)[:LONG_PROMPT]
    table, result = {}, {}
    for preset in options.presets:
        rows = measure(options, preset, ids, len(tokenizer))
        result[preset] = {name: by_model | quotients(rows, name) for name, by_model in rows.items()}
        for number_format, by_model in rows.items():
            table |= {f"{preset} {number_format}: {name}": row for name, row in by_model.items()}
    print_table(table)
    for preset, by_format in result.items():
        for number_format, found in by_format.items():
            figures = (f"{name} {value:.2f}" for name, value in found.items() if name.startswith("x_"))
            print(f"{preset} {number_format}:", ", ".join(figures))
    print_json(result, rounds=options.rounds, device=options.device)


if __name__ == "__main__":
    main()
