"""How likely whole texts are, without chance: for comparisons of texts that differ in a word."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from boustro.data_scripts.batches import IGNORE_INDEX

BATCH = 64


@torch.no_grad()
def text_nats(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> np.ndarray:
    """−log likelihood (N,) of each text in nats, read from <bos> on; where documents end by themselves, with <eos>.

    Exact for a plain model. Else the terms of the bound, −log p(x | z) and KL, with z at the posterior mean instead of
    a draw, so that the noise of a draw does not hide what a word changes: an estimate, and no bound.
    """
    model.eval()
    config = model.config
    ends = [config.eos_token_id] if config.latent_prior == "standard" else []
    rows = [[*ids, *ends] for ids in tokenizer(list(texts), padding=False)["input_ids"]]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    nats = np.zeros(len(rows))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(rows[index]) for index in chosen], batch_first=True, padding_value=IGNORE_INDEX
        ).to(model.device)
        inputs, targets = ids[:, :-1].clamp(min=0), ids[:, 1:]
        mean = torch.zeros(len(chosen), 0, config.latent_size, device=model.device)
        mask = (targets != IGNORE_INDEX).long()
        output = model(inputs, attention_mask=mask, target_ids=targets, latent_noise=mean)
        total = output.reconstruction.double()
        if output.kl is not None:
            total = total + output.kl.double().sum(1)
            if config.has_mixture_prior:
                # where the KL is that of a draw: log q(z) is Z / 2 higher at its mean than on average
                total = total - 0.5 * config.latent_size * output.segment_count
        nats[chosen] = total.cpu().numpy()
    return nats
