"""Sentence vectors, the mean of the posterior means of a text's segments, in two formats.

The text format of word2vec, which `gensim.models.KeyedVectors.load_word2vec_format` reads, and the two .tsv files that
TensorBoard's projector (https://projector.tensorflow.org, "Load") reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from transformers import PreTrainedTokenizerBase

from boustro import BoustroForCausalLM


def sentence_vectors(
    model: BoustroForCausalLM, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> np.ndarray:
    """float32 (N, Z): the posterior mean of every text, averaged over its segments. ValueError for a plain model."""
    found = model.encode(texts, tokenizer)
    return (found.mean.sum(1) / found.segment_count[:, None]).float().cpu().numpy()


def write_word2vec(file: TextIO, texts: Sequence[str], vectors: Sequence[np.ndarray]) -> None:
    """
    A line "N Z", then for every text its name and numbers. The format ends a name at a space, so white space becomes
    "_"; names that occur again get "#2", "#3", …
    """
    print(len(texts), len(vectors[0]), file=file)
    for name, vector in zip(_names(texts), vectors, strict=True):
        print(name, *(f"{value:.6g}" for value in vector), file=file)


def write_projector(folder: str | Path, texts: Sequence[str], vectors: Sequence[np.ndarray]) -> None:
    """vectors.tsv and metadata.tsv in `folder`, which is made if it is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ("\t".join(f"{value:.6g}" for value in vector) for vector in vectors)
    (folder / "vectors.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    labels = (" ".join(text.split()) or "(white space)" for text in texts)
    (folder / "metadata.tsv").write_text("\n".join(labels) + "\n", encoding="utf-8")


def _names(texts):
    """A name without white space for every text, none twice."""
    taken = set()
    for text in texts:
        plain = name = "_".join(text.split()) or "_"
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}#{number}"
        taken.add(name)
        yield name
