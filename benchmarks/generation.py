"""Characters a second of plain `generate()`, beside a bare loop of LSTM cells and beside models of transformers.

    python -m benchmarks.generation --data input.txt --rounds 3

Sampling (temperature 1, nothing cut off) of 256 new characters after 32 of the file, at batch 1 and 64, for the sizes
of the presets `small` and `base`, with random weights: speed does not depend on what the weights have learnt. `floor`
is the least that such a model can cost: embedding, an `nn.LSTMCell` for each layer of boustro's context and generator,
softmax and draw, in a Python loop with nothing else. `llama`, `gpt2` and `mamba` are models of transformers with as
many parameters (4 layers; the width that comes nearest), sampled by their own `generate()`. All models take turns,
`--rounds` times; figures are medians. `x_best` is boustro over the best of the three (target: at least 5), `x_floor`
boustro over the floor (target: at least 0.7). `first_ms` is the time to the first character after a prompt of 4,000
characters, for boustro and Llama. Everything on one device in its default number format.
"""

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

PRESETS = ("small", "base")
BATCHES = (1, 64)
PROMPT, NEW, LONG_PROMPT = 32, 256, 4_000
LAYERS = 4  # of each peer
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


def measure(options, preset: str, ids: torch.Tensor, vocab_size: int) -> dict[str, dict[str, float]]:
    """One row for every model of this size."""
    torch.manual_seed(0)
    config = boustro_config(preset, vocab_size)
    boustro = BoustroForCausalLM(config).eval()
    models = {"boustro": boustro, "floor": BareCells(config), **peers(boustro.num_parameters(), vocab_size)}
    runs, rows = {}, {}
    for name, model in models.items():
        model.to(options.device)
        runs[name] = model.generate if name == "floor" else generator(model)
        rows[name] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    for batch in BATCHES:
        prompt = ids[:PROMPT].repeat(batch, 1).to(options.device)
        times = {name: [] for name in runs}
        for turn in range(options.rounds + 1):
            for name, run in runs.items():
                taken = seconds(run, prompt, NEW if turn else 16, options.device)
                if turn:  # the first turn warms up
                    times[name].append(batch * NEW / taken)
        for name, values in times.items():
            rows[name][f"batch_{batch}"] = statistics.median(values)
    for name in ("boustro", "llama"):
        prompt = ids[:LONG_PROMPT][None].to(options.device)
        times = [seconds(runs[name], prompt, 1, options.device) for _ in range(options.rounds + 1)]
        rows[name]["first_ms"] = 1000 * statistics.median(times[1:])
    return rows


def quotients(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """boustro over the best model of transformers and over the floor, at each batch size."""
    found = {}
    for batch in BATCHES:
        speed = {name: row[f"batch_{batch}"] for name, row in rows.items()}
        best = max(speed[name] for name in ("llama", "gpt2", "mamba"))
        found[f"x_best_batch_{batch}"] = speed["boustro"] / best
        found[f"x_floor_batch_{batch}"] = speed["boustro"] / speed["floor"]
    return found


def main() -> None:
    """Prints a row for every model and size, then the JSON line."""
    arguments = parser("generation", __doc__, "a text file of at least 4,000 characters, for the prompts")
    arguments.add_argument("--rounds", type=int, default=3, help="Turns of every model.")
    options = arguments.parse_args()
    text = Path(options.data).read_text(encoding="utf-8")[:100_000]
    tokenizer = BoustroTokenizer.train_from_iterator([text])
    ids = torch.tensor(tokenizer(text[:LONG_PROMPT]).input_ids)[:LONG_PROMPT]
    table, result = {}, {}
    for preset in PRESETS:
        rows = measure(options, preset, ids, len(tokenizer))
        table |= {f"{preset}: {name}": row for name, row in rows.items()}
        result[preset] = {**rows, **quotients(rows)}
    print_table(table)
    for preset in PRESETS:
        print(preset, ", ".join(f"{name} {result[preset][name]:.2f}" for name in quotients_names()))
    print_json(result, rounds=options.rounds, device=options.device)


def quotients_names() -> list[str]:
    """The names of the quotients, in order."""
    return [f"x_{of}_batch_{batch}" for batch in BATCHES for of in ("best", "floor")]


if __name__ == "__main__":
    main()
