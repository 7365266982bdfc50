"""What can be done with the latents of a language model: encode, reconstruct, interpolate, draw, plan, score."""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import AutoTokenizer
from transformers.utils import ModelOutput

from .characters_boustro import continues_character
from .distributions_boustro import log_normal
from .objective_boustro import kl_to_prior, token_nll
from .planning_boustro import IGNORE_INDEX, check_latents


@dataclass
class BoustroPosterior(ModelOutput):
    r"""
    q(z | text) of N texts of at most K segments.

    Attributes:
        mean, log_variance: (N, K, Z); zero where a text has fewer segments.
        segment_count: (N,), the segments of each text.
    """

    mean: torch.FloatTensor | None = None
    log_variance: torch.FloatTensor | None = None
    segment_count: torch.LongTensor | None = None

    def given(self) -> torch.FloatTensor:
        """The means as `generate` takes latents: (N, K, Z), NaN where a text has fewer segments."""
        places = torch.arange(self.mean.shape[1], device=self.mean.device)
        return self.mean.masked_fill((places >= self.segment_count[:, None])[..., None], float("nan"))


@dataclass
class BoustroSamples(ModelOutput):
    r"""
    Attributes:
        texts: N strings.
        latents: (N, 1, Z), the latent of each text's first segment.
    """

    texts: list[str] | None = None
    latents: torch.FloatTensor | None = None


@dataclass
class BoustroScores(ModelOutput):
    r"""
    How likely N texts are; a bound where the model has latents.

    Attributes:
        nats: (N,) float64, −ELBO, or with samples the importance-weighted bound on −log p(text).
        characters: (N,), what was predicted: the text's characters (one that is spelt in bytes counts once), and the
            end mark where documents have one.
        bits_per_character: (N,) float64, nats / characters / ln 2.
    """

    nats: torch.DoubleTensor | None = None
    characters: torch.LongTensor | None = None
    bits_per_character: torch.DoubleTensor | None = None


class BoustroLatentsMixin:
    r"""
    Latent operations of a `BoustroForCausalLM`, all without gradients and in evaluation mode.

    Texts are strings, a list of them, or ids (N, T) that begin with <bos>. Strings need the tokenizer the model was
    trained with: `tokenizer=`, or the one in the folder or repository the model was loaded from. A model whose prior
    is standard reads a text as a whole document, end mark included; one with a conditional prior as the beginning of
    a stream. Every operation but `score` raises `ValueError` for a plain model, `latent_size=0`.
    """

    @torch.no_grad()
    def encode(self, texts: str | Sequence[str] | torch.LongTensor, tokenizer=None) -> BoustroPosterior:
        """The posterior of every segment of `texts`."""
        self._need_latents("encode")
        return self._posterior(*self._read(texts, tokenizer))

    @torch.no_grad()
    def reconstruct(self, texts: str | Sequence[str] | torch.LongTensor, tokenizer=None, **options) -> list[str]:
        """
        Writes every text anew from its latents alone, as long as it was: from the posterior means, greedily, unless
        `options`, those of `generate`, say otherwise.
        """
        self._need_latents("reconstruct")
        tokenizer = self._tokenizer(tokenizer)
        ids, targets = self._read(texts, tokenizer)
        found = self._posterior(ids, targets)
        lengths = (targets != IGNORE_INDEX).sum(1).tolist()
        ids = self._write(found.given(), **{"max_new_tokens": max(lengths), **options})
        if "max_new_tokens" not in options:
            ids = [_cut(row, length) for row, length in zip(ids.tolist(), lengths, strict=True)]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    @torch.no_grad()
    def interpolate(self, a: str, b: str, steps: int = 7, spherical: bool = False, tokenizer=None, **options):
        r"""
        Texts on the way from text `a` to text `b`: a list of `steps` strings, the first from a's latents, the last
        from b's. The way is a straight line, or with `spherical` the arc of White (2016, "Sampling Generative
        Networks", section 2.1), on which the length of z stays that of a draw from N(0, I).

        Texts of different length go on as long as the shorter one's segments do. `options` are those of `generate`.
        """
        self._need_latents("interpolate")
        if steps < 2:
            raise ValueError(f"steps is {steps}, expected at least 2: the two texts themselves.")
        tokenizer = self._tokenizer(tokenizer)
        ends = [self.encode(text, tokenizer).mean[0] for text in (a, b)]
        count = min(len(end) for end in ends)
        start, stop = (end[:count] for end in ends)
        along = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[:, None, None]
        way = _arc(start, stop, along) if spherical else start + along * (stop - start)
        length = count * self.config.segment_length
        return self.decode_latents(way, tokenizer, **{"max_new_tokens": length, **options})

    @torch.no_grad()
    def sample_prior(self, count: int, temperature: float = 1.0, tokenizer=None, **options) -> BoustroSamples:
        r"""
        `count` texts whose first segment is planned by a draw of the prior at the beginning of a text, written
        greedily, so that all variety is that of z. `temperature` scales the noise, as `latent_temperature` does;
        `options` are those of `generate` (`max_new_tokens`: a segment, unless given).
        """
        self._need_latents("sample_prior")
        tokenizer = self._tokenizer(tokenizer)
        start = torch.full((count, 1), self.config.bos_token_id, device=self.device)
        with self._evaluating():
            prior = self.model(start, use_cache=False).prior
        noise = torch.randn(count, 1, self.config.latent_size, device=self.device) * temperature
        latents = prior.sample(noise)
        return BoustroSamples(texts=self.decode_latents(latents, tokenizer, **options), latents=latents)

    @torch.no_grad()
    def decode_latents(self, latents: torch.FloatTensor, tokenizer=None, **options) -> list[str]:
        """
        N texts from latents (N, K, Z) of their first K segments, greedily and K segments long unless `options`, those
        of `generate`, say otherwise.
        """
        self._need_latents("decode_latents")
        self._check_latents(latents)
        return self._tokenizer(tokenizer).batch_decode(self._write(latents, **options), skip_special_tokens=True)

    def _write(self, latents, **options):
        """Ids (N, T) from latents, without <bos>."""
        start = torch.full((len(latents), 1), self.config.bos_token_id, device=self.device)
        length = latents.shape[1] * self.config.segment_length
        options = {"max_new_tokens": length, "do_sample": False, "pad_token_id": self.config.pad_token_id, **options}
        latents = latents[:, : max(-(-options["max_new_tokens"] // self.config.segment_length), 1)]
        with self._evaluating():
            mask = torch.ones_like(start)
            return self.generate(start, attention_mask=mask, latents=latents.to(self.device), **options)[:, 1:]

    @torch.no_grad()
    def backward(self, latents: torch.FloatTensor, tokenizer=None) -> list[list[str]]:
        r"""
        The backward drafts of latents (N, K, Z): for each text and segment the likeliest character of every place
        under the backward decoder, in text order, up to an end mark.
        """
        self._need_latents("backward")
        self._check_latents(latents)
        tokenizer = self._tokenizer(tokenizer)
        decoder = self.model.planner.backward_decoder
        ids = decoder.logits(decoder(latents.to(self.device, self.dtype))).argmax(-1)  # (N, K, S)
        end = self.config.eos_token_id
        ends = torch.isin(ids, torch.as_tensor(end, device=ids.device)) if end is not None else torch.zeros_like(ids)
        ids = ids.masked_fill(ends.cumsum(-1) > 0, self.config.pad_token_id)
        return [tokenizer.batch_decode(row, skip_special_tokens=True) for row in ids]

    @torch.no_grad()
    def score(self, texts: str | Sequence[str] | torch.LongTensor, samples: int | None = None, tokenizer=None):
        r"""
        −log likelihood of texts, a [`BoustroScores`]: exact for a plain model, else a bound. Without `samples` it is
        the negative ELBO at a latent drawn from the posterior; with N samples the importance-weighted bound (Burda et
        al. 2016), which is tighter and N times the work.
        """
        if samples is not None and samples < 1:
            raise ValueError(f"samples is {samples}, expected at least 1, or None for the ELBO.")
        ids, targets = self._read(texts, tokenizer)
        count = ((targets != IGNORE_INDEX) & ~continues_character(targets)).sum(1)
        if self.config.latent_size == 0:
            logits = self._evaluate(ids, None).last_hidden_state
            nats = token_nll(self.lm_head(logits), targets).double().sum(1)
        elif samples is None:
            nats = -self._log_weights(ids, targets, analytic=True)
        else:
            weights = torch.stack([self._log_weights(ids, targets, analytic=False) for _ in range(samples)])
            nats = math.log(samples) - torch.logsumexp(weights, 0)
        return BoustroScores(nats=nats, characters=count, bits_per_character=nats / count.clamp(min=1) / math.log(2))

    def _posterior(self, ids, targets):
        none = torch.zeros(len(ids), 0, self.config.latent_size, device=self.device)
        training = self.training
        self.eval()
        try:
            backbone = self.model.infer(ids, targets, self._mask(targets), latent_noise=none)
        finally:
            self.train(training)
        present = self._present(targets)
        return BoustroPosterior(
            mean=backbone.posterior_mean * present[..., None],
            log_variance=backbone.posterior_log_variance * present[..., None],
            segment_count=present.sum(1),
        )

    def _log_weights(self, ids, targets, analytic):
        """(N,) float64: log p(x | z) − KL, or with a draw's own density log p(x, z) − log q(z | x)."""
        found = self._evaluate(ids, targets, sample=True)
        nats = token_nll(self.lm_head(found.last_hidden_state), targets).double().sum(1)
        posterior = found.posterior_mean, found.posterior_log_variance
        if analytic:
            cost = kl_to_prior(*posterior, found.latents, found.prior)
        else:
            cost = log_normal(found.latents, *posterior).sum(-1) - found.prior.log_prob(found.latents)
        return -nats - (cost * self._present(targets)).double().sum(1)

    def _evaluate(self, ids, targets, sample=False):
        """The backbone's output in evaluation mode, its latents drawn or (unless `sample`) the posterior means."""
        with self._evaluating():
            none = None if sample else torch.zeros(len(ids), 0, max(self.config.latent_size, 1), device=self.device)
            mask = None if targets is None else self._mask(targets)
            return self.model(ids, attention_mask=mask, target_ids=targets, latent_noise=none, use_cache=False)

    @contextmanager
    def _evaluating(self):
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    @staticmethod
    def _mask(targets):
        return (targets != IGNORE_INDEX).long()

    def _present(self, targets):
        """(N, K) bool, the segments that hold a target."""
        length = self.config.segment_length
        count = -(-targets.shape[1] // length)
        starts = torch.arange(count, device=targets.device) * length
        return starts < (targets != IGNORE_INDEX).sum(1, keepdim=True)

    def _read(self, texts, tokenizer):
        """Ids (N, T) from <bos> on and the targets (N, T) that follow them, −100 after a text's end."""
        if isinstance(texts, torch.Tensor):
            if texts.dim() != 2:
                raise ValueError(f"ids have the shape {tuple(texts.shape)}, expected (texts, characters).")
            rows = texts.tolist()
        else:
            texts = [texts] if isinstance(texts, str) or texts is None else list(texts)
            wrong = {type(text).__name__ for text in texts if not isinstance(text, str)}
            if wrong or not texts:
                found = ", ".join(sorted(wrong)) or "nothing"
                raise ValueError(f"texts holds {found}, expected strings, or ids (texts, characters).")
            rows = self._tokenizer(tokenizer)(texts, padding=False)["input_ids"]
        pad, end = self.config.pad_token_id, self.config.eos_token_id
        end = end[0] if isinstance(end, list) else end
        rows = [[i for i in row if i != pad] for row in rows]
        if self.config.latent_prior == "standard" and end is not None:
            rows = [row if row and row[-1] == end else [*row, end] for row in rows]
        if min(len(row) for row in rows) < 2:
            raise ValueError("a text is empty, expected at least one character.")
        longest = max(len(row) for row in rows) - 1
        ids = torch.tensor([row[:-1] + [pad] * (longest + 1 - len(row)) for row in rows], device=self.device)
        targets = [row[1:] + [IGNORE_INDEX] * (longest + 1 - len(row)) for row in rows]
        return ids, torch.tensor(targets, device=self.device)

    def _tokenizer(self, given):
        if given is not None:
            return given
        if getattr(self, "_own_tokenizer", None) is None:
            source = self.config._name_or_path
            try:
                # a tokenizer is plain data: without False, transformers asks about the model's code
                revision = getattr(self.config, "_commit_hash", None)
                self._own_tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"no tokenizer was given, and none was found where the model came from ({source or 'nowhere'}): "
                    "pass tokenizer=."
                ) from error
        return self._own_tokenizer

    def _check_latents(self, latents):
        check_latents(latents, len(latents) if isinstance(latents, torch.Tensor) else 0, self.config.latent_size)
        if latents is None:
            raise ValueError(f"latents is None, expected a tensor (texts, segments, {self.config.latent_size}).")

    def _need_latents(self, name):
        if self.config.latent_size == 0:
            raise ValueError(f"{name} needs latents, but this model has latent_size=0: a plain language model.")


def _cut(ids, length):
    """The first `length` ids of a list, or fewer, so that no character is cut in two."""
    while 0 < length < len(ids) and continues_character(ids[length]):
        length -= 1
    return ids[:length]


def _arc(start, stop, along):
    """Spherical interpolation of whole latents (K, Z), flattened; a straight line where they point the same way or
    opposite ways."""
    a, b = start.flatten(), stop.flatten()
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp(min=1e-12)
    angle = torch.arccos(cosine.clamp(-1, 1))
    if not 1e-4 < angle < math.pi - 1e-4:
        return start + along * (stop - start)
    return (torch.sin((1 - along) * angle) * start + torch.sin(along * angle) * stop) / torch.sin(angle)
