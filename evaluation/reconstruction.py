"""Texts written greedily from a latent: from their own, from another text's, and from one drawn from the prior."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from boustro.data_scripts.batches import Batch
from boustro.evaluation.character_error_rate import CharacterErrorRate

BUCKET = 16  # positions that one figure of `by_position` takes together


@dataclass
class Reconstructions:
    """N texts, and what the model writes in their place, all without special tokens.

    Attributes:
        original: the texts.
        posterior: given the posterior mean of the text itself.
        swapped: given that of another text of the batch.
        prior: given a draw from the prior.
    """

    original: list[str] = field(default_factory=list)
    posterior: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    prior: list[str] = field(default_factory=list)


@torch.no_grad()
def reconstruct(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    batches: Iterator[Batch],
    prompt_segments: int = 0,
    seed: int = 0,
) -> Reconstructions:
    """Writes every row of `batches` anew, greedily, as long as the longest row of its batch at most.

    Args:
        prompt_segments: whole segments of a row that are given as the prompt; what follows them is written. 0 writes
            a document from <bos> alone. Segments must lie every `segment_length` characters.

    A batch of one row is left out, for it has nobody to exchange latents with; without latents nothing is written.
    """
    texts = Reconstructions()
    model.eval()
    for index, batch in enumerate(batches if model.config.latent_size > 0 else ()):
        if len(batch.input_ids) < 2:
            continue
        inputs = batch.tensors(slice(None), model.device)
        means = torch.zeros(len(batch.input_ids), 0, model.config.latent_size, device=model.device)
        backbone = model.model(**inputs, latent_noise=means)
        own = backbone.posterior_mean
        noise = np.random.default_rng([seed, index]).standard_normal(own.shape, dtype=np.float32)
        noise = torch.from_numpy(noise).to(model.device)
        drawn = backbone.prior.sample(noise)
        prompt_length = prompt_segments * model.config.segment_length
        prompt, targets = inputs["input_ids"][:, : prompt_length + 1], inputs["target_ids"][:, prompt_length:]
        original = targets.masked_fill(targets < 0, model.config.pad_token_id)
        texts.original += tokenizer.batch_decode(original, skip_special_tokens=True)
        for name, latents in (("posterior", own), ("swapped", own.roll(1, 0)), ("prior", drawn)):
            written = _write(model, prompt, latents[:, prompt_segments:], targets.shape[1])
            getattr(texts, name).extend(tokenizer.batch_decode(written, skip_special_tokens=True))
    return texts


def _write(model: torch.nn.Module, prompt: torch.Tensor, latents: torch.Tensor, length: int) -> torch.Tensor:
    """(B, ≤ length) ids that follow the prompt in greedy decoding, its new segments planned from `latents`."""
    settings = GenerationConfig(
        do_sample=False,
        temperature=1.0,  # or the saved one is taken over, and complained about
        max_new_tokens=length,
        pad_token_id=model.config.pad_token_id,
        eos_token_id=model.config.eos_token_id,
    )
    mask = torch.ones_like(prompt)
    written = model.generate(prompt, attention_mask=mask, latents=latents, generation_config=settings)
    return written[:, prompt.shape[1] :]


def reconstruction_figures(texts: Reconstructions) -> dict[str, Any]:
    """Character error rates (edits per character) and errors by position against the originals.

    Returns for each of posterior, swapped and prior `NAME_error_rate` and `NAME_errors_by_position`, the share of
    wrong characters at positions 0–15, 16–31, …; and `reconstructed`, the number of texts. All None for no texts.
    """
    names = ("posterior", "swapped", "prior")
    if not any(texts.original):
        keys = [f"{name}_{key}" for name in names for key in ("error_rate", "errors_by_position")]
        return dict.fromkeys((*keys, "reconstructed"))
    figures = {}
    for name in names:
        metric = CharacterErrorRate(keep_in_memory=True)
        result = metric.compute(predictions=getattr(texts, name), references=texts.original, bucket=BUCKET)
        figures[f"{name}_error_rate"] = result["character_error_rate"]
        figures[f"{name}_errors_by_position"] = result["by_position"]
    return figures | {"reconstructed": len(texts.original)}
