"""What z says: texts written anew from it, what another text's z costs, and a linear probe of sentiment.

    python -m benchmarks.latent_use --data uci-sentiment --captions train.1.en val.1.en --minutes 10 --seeds 5

Captions (left out without `--captions`, seed 0): one model at a second operating point (`--kl-floor`, more nats a
sentence, with a backward decoder that is trained on all of it) and one as the recipe has it. `posterior_error_rate` is
the share of wrong characters (edits per character) of held-out sentences written greedily from their posterior mean,
`swapped_error_rate` from another sentence's and `prior_error_rate` from a draw of the prior; `kl` and `swap_loss` are
nats a sentence, the second lost when sentences exchange their latents, `swap_share` their quotient (at least 0.6 is
the target); `nats` is the bound per character. Sentences longer than the recipe's segment are cut into pieces of its
length.

Probe (left out with `--seeds 0`): IMDb and Yelp sentences of `--data`, 80 % to train and 20 % to test, stratified
by file and label, one split a seed. A model (`benchmarks/probe.yaml`) is trained on the words of the training
sentences and of the lines of `--pretrain`, each a document; it sees no label. A sentence is the average of the
posterior means of its words. On these an L2 logistic regression is fitted (`latent_accuracy`), and so on
log(1 + count) of every character (`count_accuracy`) and on both together (`both_accuracy`). Accuracies are shares of
the test sentences; `probe_kl` is nats a word, on words held out of the training part.
"""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F

from benchmarks.common import Trained, device_flags, over_seeds, parser, print_json, print_table, train
from boustro.data_scripts.cleaning import clean_text
from boustro.data_scripts.encoding import CharacterEncoder, encode_corpus
from boustro.data_scripts.segmentation import word_starts
from boustro.evaluation.latents import posteriors_of
from boustro.evaluation.reading import read_batch, split_batches
from boustro.evaluation.reconstruction import reconstruct, reconstruction_figures
from boustro.evaluation.scoring import evaluate_split

PROBE_RECIPE = Path(__file__).parent / "probe.yaml"
FILES = ("imdb_labelled.txt", "yelp_labelled.txt")
TRAIN_SHARE = 0.8
FOLDS = 5
STRENGTHS = [10.0**power for power in range(1, -5, -1)]  # of the L2 penalty, the strongest first


def train_captions(options) -> dict[str, Trained]:
    """The models of both operating points."""
    training, validation = options.captions
    flags = [f"--config={options.recipe}", "--seed=0", *device_flags(options.device)]
    flags += [f"--train-file={training}", f"--validation-file={validation}"]
    limits = {"max-minutes": options.minutes, "epochs": options.epochs}
    flags += [f"--{name}={limit}" for name, limit in limits.items() if limit is not None]
    return {
        "captions_high_kl": train([*flags, f"--kl-floor={options.kl_floor}", "--backward-horizon=0"]),
        "captions_recipe": train(flags),
    }


def rewrite(run: Trained) -> dict[str, float]:
    """Error rates of the validation sentences written anew."""
    batches = split_batches(run.model, run.data.validation, None, run.model.config.segment_length)
    figures = reconstruction_figures(reconstruct(run.model, run.data.tokenizer, batches))
    return {f"{name}_error_rate": figures[f"{name}_error_rate"] for name in ("posterior", "swapped", "prior")}


def swap(run: Trained) -> dict[str, float]:
    """The KL, and which share of it is lost when sentences exchange their latents."""
    length = run.model.config.segment_length
    split = evaluate_split(run.model, run.data.validation, input_mode="documents", max_length=length)
    kl, loss = split["kl_per_segment"], split["swap_loss_per_segment"]
    return {"kl": kl, "swap_loss": loss, "swap_share": loss / kl, "nats": split["nats_per_character"]}


def probe(options, seed: int) -> dict[str, float]:
    """Accuracies of the probe for the split and the model of one seed."""
    sentences, labels, files = load_sentences(options.data)
    training, test = split_sentences(2 * files + labels, seed)
    run = train_on_words(options, [sentences[i] for i in training], seed)
    characters = sorted(set("".join(sentences[i] for i in training)))
    counts = [[sentence.count(character) for character in characters] for sentence in sentences]
    features = {"latent": average_means(run, sentences), "count": torch.tensor(counts).double().log1p()}
    features["both"] = torch.cat(list(features.values()), 1)
    targets = torch.from_numpy(labels).double()
    figures = {}
    for name, values in features.items():
        strength = choose_strength(values[training], targets[training], seed)
        logits = predict(values[training], targets[training], values[test], strength)
        figures[f"{name}_accuracy"] = float(((logits > 0) == (targets[test] > 0)).double().mean())
    return figures | {"probe_kl": swap(run)["kl"], "train_seconds": run.seconds}


def load_sentences(folder: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """N sentences, each once, their labels (N,), 0 or 1, and the number of the file that each is from (N,)."""
    found = {}
    for number, name in enumerate(FILES):
        for line in (Path(folder) / name).read_text(encoding="utf-8").split("\n"):
            sentence, _, label = clean_text(line).rpartition("\t")
            if sentence.strip():
                found.setdefault(sentence.strip(), (int(label), number))
    labels, files = np.array(list(found.values())).T
    return list(found), labels, files


def split_sentences(groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices to train on and those to test on, in the same proportion in every group."""
    rng = np.random.default_rng(seed)
    parts = []
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        parts.append(np.split(members, [round(TRAIN_SHARE * len(members))]))
    training, test = zip(*parts, strict=True)
    return np.concatenate(training), np.concatenate(test)


def words_of(text: str) -> list[str]:
    """The words and marks of punctuation of a text."""
    words = (text[start:end] for start, end in pairwise([*np.flatnonzero(word_starts(text)), len(text)]))
    return [word for word in words if not word.isspace()]


def train_on_words(options, sentences: list[str], seed: int) -> Trained:
    """A model of the words of the sentences and of the lines of `--pretrain`; data preparation keeps one of each."""
    texts = list(sentences)
    if options.pretrain:
        texts += Path(options.pretrain).read_text(encoding="utf-8").split("\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "words.txt"
        file.write_text("\n".join(word for text in texts for word in words_of(text)) + "\n", encoding="utf-8")
        flags = [f"--config={PROBE_RECIPE}", f"--seed={seed}", *device_flags(options.device)]
        return train([*flags, f"--train-file={file}"])


def average_means(run: Trained, sentences: list[str]) -> torch.Tensor:
    """(N, Z) float64: the average of the posterior means of each sentence's words."""
    words = [words_of(sentence) for sentence in sentences]
    vocabulary = sorted({word for sentence in words for word in sentence})
    index, means = {word: i for i, word in enumerate(vocabulary)}, posterior_means(run, vocabulary)
    return torch.stack([means[[index[word] for word in sentence]].mean(0) for sentence in words])


@torch.no_grad()
def posterior_means(run: Trained, texts: list[str]) -> torch.Tensor:
    """(N, Z) float64: the posterior mean of each text, of one longer than a segment the average over its pieces."""
    length = run.model.config.segment_length
    corpus = encode_corpus(Dataset.from_dict({"text": texts}), CharacterEncoder(run.data.tokenizer))
    batches = enumerate(split_batches(run.model, corpus, None, length))
    parts = [posteriors_of(read_batch(run.model.model, batch, None, 0, index), batch).mean for index, batch in batches]
    pieces = torch.from_numpy(-(-(np.diff(corpus.offsets) + 1) // length))  # (N,), the end mark counted
    text = torch.arange(len(texts)).repeat_interleave(pieces)
    means = torch.cat(parts)  # (pieces in all, Z)
    return means.new_zeros(len(texts), means.shape[1]).index_add(0, text, means) / pieces[:, None]


def choose_strength(features: torch.Tensor, labels: torch.Tensor, seed: int) -> float:
    """The L2 strength of the least cross-entropy in five-fold cross-validation."""
    fold = torch.from_numpy(np.random.default_rng([seed, 1]).permutation(len(labels)) % FOLDS)

    def held_out_loss(strength: float) -> float:
        total = 0.0
        for number in range(FOLDS):
            rest, held_out = fold != number, fold == number
            logits = predict(features[rest], labels[rest], features[held_out], strength)
            total += float(F.binary_cross_entropy_with_logits(logits, labels[held_out], reduction="sum"))
        return total

    return min(STRENGTHS, key=held_out_loss)


def predict(features: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, strength: float) -> torch.Tensor:
    """Logits (M,) for `test` (M, D), from an L2 logistic regression on `features` (N, D) and `labels` (N,).

    Minimised: mean cross-entropy + strength / 2 · |w|², for features of mean 0 and standard deviation 1; the intercept
    is free.
    """
    mean, deviation = features.mean(0), features.std(0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    features, test = (features - mean) / deviation, (test - mean) / deviation
    weight = torch.zeros(features.shape[1], dtype=features.dtype, requires_grad=True)
    intercept = torch.zeros((), dtype=features.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, intercept], max_iter=200, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(features @ weight + intercept, labels)
        loss = loss + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return (test @ weight + intercept).detach()


def main() -> None:
    """Prints a row for every caption model and every split of the probe, then the JSON line."""
    arguments = parser("latent_use", __doc__, "the folder uci-sentiment", seeds=5)
    arguments.add_argument("--captions", nargs=2, metavar=("TRAIN", "VAL"), help="Text files, a sentence a line.")
    arguments.add_argument("--pretrain", metavar="FILE", help="Further lines whose words the probe's models train on.")
    arguments.add_argument("--recipe", default="documents", help="Recipe of the models of captions.")
    arguments.add_argument("--minutes", type=float, help="Training time of each. Default: as the recipe says.")
    arguments.add_argument("--epochs", type=float, help="Passes over the text. Default: as the recipe says.")
    arguments.add_argument("--kl-floor", type=float, default=30.0, help="Nats of the second operating point's floor.")
    options = arguments.parse_args()
    runs = train_captions(options) if options.captions else {}
    captions = {name: rewrite(run) | swap(run) for name, run in runs.items()}
    probes = [probe(options, seed) for seed in range(options.seeds)]
    print_table(captions | {f"probe, seed {seed}": row for seed, row in enumerate(probes)})
    figures = captions | ({"probe": over_seeds(probes)} if probes else {})
    print_json(figures, seeds=options.seeds, device=options.device)


if __name__ == "__main__":
    main()
