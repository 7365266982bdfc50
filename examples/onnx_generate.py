"""Generates text from a model exported to ONNX, without torch: onnxruntime, numpy and tokenizers are all it needs.

boustro onnx runs/demo runs/demo-onnx
python examples/onnx_generate.py runs/demo-onnx "The list " --characters 200 --seed 0
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Generator:
    """The graphs of a folder, with the state of one text."""

    def __init__(self, folder: Path, random: np.random.Generator, greedy: bool):
        self.sizes = json.loads((folder / "boustro.json").read_text(encoding="utf-8"))
        self.sessions = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}
        self.random, self.greedy = random, greedy
        self.states = {
            "reader": self.zeros(self.sizes["num_context_layers"]),
            "writer": self.zeros(self.sizes["num_generator_layers"]),
        }
        self.place, self.plan = 0, None

    def zeros(self, layers: int) -> list[np.ndarray]:
        """A state (h, c) at the start of a text."""
        return [np.zeros((max(layers, 1), 1, self.sizes["hidden_size"]), np.float32)] * 2

    def run(self, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        """A graph's outputs; the state, where it has one, moves on."""
        if name in self.states:
            inputs |= dict(zip(("h", "c"), self.states[name], strict=True))
        outputs = self.sessions[name].run(None, inputs)
        if name in self.states:
            self.states[name] = outputs[1:]
        return outputs

    def read(self, ids: list[int]) -> np.ndarray:
        """Reads ids, and returns the logits (V,) for the next one."""
        (context, *_) = self.run("reader", ids=np.array([ids]))
        if not self.sizes["latent_size"]:
            return self.run("writer", context=context)[0][0, -1]
        for i in range(len(ids)):
            if self.place == 0:
                # in a prompt the latent of a segment is that of its own text, else it comes from the prior
                segment = ids[i + 1 : i + 1 + self.sizes["segment_length"]]
                self.plan = self.make_plan(context[:, i], segment)
            here = np.array([[self.place]])
            logits = self.run("writer", context=context[:, i : i + 1], plan=self.plan, places=here)[0]
            self.place = (self.place + 1) % self.sizes["segment_length"]
            if i == len(ids) - 2:
                self.place = 0  # a new segment starts where the prompt ends
        return logits[0, -1]

    def make_plan(self, context: np.ndarray, segment: list[int]) -> np.ndarray:
        """The plan of the segment that starts at `context`."""
        if segment:
            mean, log_variance = self.run("encoder", segment=np.array([segment]), context=context)
        else:
            log_weights, means, log_variances = self.run("prior", context=context)
            component = [self.choose(log_weights[0])]
            mean, log_variance = means[component], log_variances[component]
        noise = 0 if self.greedy else self.random.standard_normal(mean.shape)
        latents = mean + np.exp(log_variance / 2) * noise
        return self.run("planner", latents=latents.astype(np.float32))[0]

    def choose(self, logits: np.ndarray) -> int:
        """The likeliest index, or a draw: the next id, or the component of a latent."""
        if self.greedy:
            return int(logits.argmax())
        weights = np.exp(logits.astype(np.float64) - logits.max())
        return int(self.random.choice(len(weights), p=weights / weights.sum()))


def main() -> None:
    """Prints the prompt and what follows it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--characters", type=int, default=200)
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.folder / "boustro.json").is_file():
        parser.error(f"{options.folder} holds no exported model (boustro.json is missing): run boustro onnx first.")
    tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
    generator = Generator(options.folder, np.random.default_rng(options.seed), options.greedy)
    ids = tokenizer.encode(options.prompt).ids
    logits, new = generator.read(ids), []
    while len(new) < options.characters:
        new.append(generator.choose(logits))
        if new[-1] == generator.sizes["eos_token_id"]:
            break
        logits = generator.read(new[-1:])
    print(options.prompt + tokenizer.decode(new))


if __name__ == "__main__":
    main()
