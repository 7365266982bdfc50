"""Unconditional samples of a model, and their figures beside those of real text."""

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boustro.evaluation.distinct_n import DistinctN
from boustro.evaluation.repetition import Repetition
from boustro.evaluation.self_bleu import SelfBleu
from boustro.evaluation.verbatim_overlap import VerbatimOverlap


def draw_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    max_new_characters: int,
    seed: int,
    batch_size: int = 64,
    temperature: float = 1.0,
) -> list[str]:
    """Draws texts from <bos> alone, every latent from the prior, every character from the whole distribution.

    The model is left in evaluation mode, and the random numbers of the caller as they were. The same seed and
    batch size give the same texts.

    Args:
        model: a `BoustroForCausalLM`; a text ends at the ids its `generation_config` names as the end, if any.
        max_new_characters: length of a text at most; a character spelt in bytes counts once for each byte.
        temperature: divides the logits of the characters; latents are drawn as they are.

    Returns the `count` texts without special tokens; a text may be empty.
    """
    model.eval()
    texts = []
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for start in range(0, count, batch_size):
            rows = min(batch_size, count - start)
            prompt = torch.full((rows, 1), model.config.bos_token_id, device=model.device)
            ids = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=True,
                max_new_tokens=max_new_characters,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                pad_token_id=model.config.pad_token_id,
            )
            texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts


def sample_figures(samples: list[str], real: list[str], training: list[str], seed: int) -> dict[str, dict]:
    """Variety, repetition and copying of samples, and of as many pieces of real text of the same lengths.

    Args:
        samples: at least two texts.
        real: held-out texts, of any lengths.
        training: the texts the model was trained on.
        seed: decides where the real text is cut.

    Returns two dicts of the same keys, `"samples"` and `"real"`: the results of `DistinctN`, `SelfBleu`, `Repetition`
    and `VerbatimOverlap` (against `training`). Where the real text does not suffice, fewer or shorter samples are
    compared: as many and as long as there is real text for.

    Raises:
        ValueError: if there are fewer than two samples or real texts, or samples or training hold no character.
    """
    samples, pieces = cut_like(samples, real, seed)
    return {"samples": _figures(samples, training), "real": _figures(pieces, training)}


def cut_like(samples: list[str], real: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Samples, and pieces of the `real` texts without overlap and as long as these, from places drawn by the seed.

    Every text is first cut into pieces as long as the longest sample; of a longer piece the beginning is taken. A
    sample longer than every piece that is left is cut to the longest of them; samples without a piece are left out.
    """
    longest = max([1, *map(len, samples)])
    places = [(text, start) for text in real for start in range(0, len(text), longest)]
    places = [places[index] for index in np.random.default_rng(seed).permutation(len(places))]
    room = np.array([min(len(text) - start, longest) for text, start in places])
    matched = {}
    # long ones first: short ones find a place anywhere
    for index in sorted(range(len(samples)), key=lambda index: -len(samples[index]))[: len(places)]:
        fitting = np.flatnonzero(room >= len(samples[index]))
        place = fitting[0] if len(fitting) else room.argmax()
        length = min(len(samples[index]), room[place])
        text, start = places[place]
        room[place] = -1
        matched[index] = samples[index][:length], text[start : start + length]
    pairs = [matched[index] for index in sorted(matched)]
    return [sample for sample, _ in pairs], [piece for _, piece in pairs]


def _figures(texts: list[str], training: list[str]) -> dict:
    figures = {}
    for metric in (DistinctN, SelfBleu, Repetition):
        figures |= metric(keep_in_memory=True).compute(predictions=texts)
    return figures | VerbatimOverlap(keep_in_memory=True).compute(predictions=texts, training_texts=training)
