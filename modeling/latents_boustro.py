"""What can be done with the latents of a language model: encode, reconstruct, interpolate, draw, plan, score."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import AutoTokenizer
from transformers.utils import ModelOutput

from .characters_boustro import continues_character
from .distributions_boustro import log_normal, tempered
from .objective_boustro import kl_to_prior, token_nll
from .planning_boustro import IGNORE_INDEX, check_latents

Texts = str | Sequence[str] | torch.LongTensor | Mapping


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

    Texts are strings, a list of them, ids (N, T) that begin with <bos>, or what a tokenizer makes of them: a mapping
    with `input_ids` and perhaps an `attention_mask`. Strings need the tokenizer the model was trained with:
    `tokenizer=`, or the one in the folder or repository the model was loaded from. A model whose prior is standard
    reads a text as a whole document, end mark included; one with a conditional prior as the beginning of a stream.

    Where an operation takes options of `generate`, they are those that leave one text to each row of latents. Every
    operation raises `ValueError` for what it cannot do, and all but `score` for a plain model, `latent_size=0`.
    """

    @torch.no_grad()
    def encode(self, texts: Texts, tokenizer=None) -> BoustroPosterior:
        """The posterior of every segment of `texts`."""
        self._need_latents("encode")
        return self._posterior(*self._read(texts, tokenizer))

    @torch.no_grad()
    def reconstruct(self, texts: Texts, tokenizer=None, **options) -> list[str]:
        """
        Writes every text anew from its latents alone, as long as it was: from the posterior means, greedily, unless
        `options`, those of `generate`, say otherwise.
        """
        self._need_latents("reconstruct")
        tokenizer = self._tokenizer(tokenizer)
        ids, targets = self._read(texts, tokenizer)
        found = self._posterior(ids, targets)
        return self._write(found.given(), (targets != IGNORE_INDEX).sum(1).tolist(), tokenizer, options)

    @torch.no_grad()
    def interpolate(
        self, a: Texts, b: Texts, steps: int = 7, spherical: bool = False, tokenizer=None, **options
    ) -> list[str] | list[list[str]]:
        r"""
        Texts on the way from text `a` to text `b`: a list of `steps` strings, the first from a's latents, the last
        from b's; of two lists of N texts, N such lists, one for each pair. The way is a straight line, or with
        `spherical` the arc of White (2016, "Sampling Generative Networks", section 2.1), on which the length of z
        stays that of a draw from N(0, I).

        Texts of different length go on as long as the shorter one's segments do. `options` are those of `generate`.
        """
        self._need_latents("interpolate")
        _check_count("steps", steps, 2, ": the two texts themselves")
        tokenizer = self._tokenizer(tokenizer)
        starts, stops = (self.encode(text, tokenizer) for text in (a, b))
        if len(starts.mean) != len(stops.mean):
            raise ValueError(f"a holds {len(starts.mean)} and b {len(stops.mean)} texts, expected as many: pairs.")
        counts = torch.minimum(starts.segment_count, stops.segment_count).tolist()
        along = torch.linspace(0, 1, steps, device=self.device, dtype=starts.mean.dtype)[:, None, None]
        way = starts.mean.new_full((len(counts), steps, max(counts), self.config.latent_size), float("nan"))
        for row, count, start, stop in zip(way, counts, starts.mean, stops.mean, strict=True):
            start, stop = start[:count], stop[:count]
            row[:, :count] = _arc(start, stop, along) if spherical else start + along * (stop - start)
        lengths = [count * self.config.segment_length for count in counts for _ in range(steps)]
        texts = self._write(way.flatten(0, 1), lengths, tokenizer, options)
        ways = [texts[i : i + steps] for i in range(0, len(texts), steps)]
        return ways[0] if isinstance(a, str) and isinstance(b, str) else ways

    @torch.no_grad()
    def sample_prior(self, count: int, temperature: float = 1.0, tokenizer=None, **options) -> BoustroSamples:
        r"""
        `count` texts whose first segment is planned by a draw of the prior at the beginning of a text, written
        greedily, so that all variety is that of z. `temperature` scales the noise, as `latent_temperature` does;
        `options` are those of `generate` (`max_new_tokens`: a segment, unless given).
        """
        self._need_latents("sample_prior")
        _check_count("count", count, 1)
        if not (isinstance(temperature, int | float) and 0 <= temperature < math.inf):
            raise ValueError(f"temperature is {temperature!r}, expected 0 or a positive number.")
        tokenizer = self._tokenizer(tokenizer)
        if self.config.bos_token_id is None:
            raise ValueError("config.bos_token_id is None, expected the id a text begins with: set it.")
        start = torch.full((count, 1), self.config.bos_token_id, device=self.device)
        with self._evaluating():
            prior = self.model(start, use_cache=False).prior
        noise = torch.randn(count, 1, self.config.latent_size, device=self.device)
        latents = prior.sample(tempered(noise, temperature, self.config.has_mixture_prior))
        texts = self._write(latents, [self.config.segment_length] * count, tokenizer, options)
        return BoustroSamples(texts=texts, latents=latents)

    @torch.no_grad()
    def decode_latents(self, latents: torch.FloatTensor, tokenizer=None, **options) -> list[str]:
        """
        N texts from latents (N, K, Z) of their first K segments, greedily and K segments long unless `options`, those
        of `generate`, say otherwise.
        """
        self._need_latents("decode_latents")
        self._check_latents(latents)
        length = latents.shape[1] * self.config.segment_length
        return self._write(latents, [length] * len(latents), self._tokenizer(tokenizer), options)

    def _write(self, latents, lengths, tokenizer, options):
        """N texts from latents (N, K, Z), each at most as many ids long as `lengths` says, unless `options` do."""
        _check_options(options)
        own = {"do_sample": False, "num_return_sequences": 1, "return_dict_in_generate": False, "tokenizer": tokenizer}
        own |= {"pad_token_id": self.config.pad_token_id, "max_new_tokens": max(lengths)}
        settings = own | options
        _check_count("max_new_tokens", settings["max_new_tokens"], 1)
        latents = latents[:, : -(-settings["max_new_tokens"] // self.config.segment_length)].to(self.device)
        start = torch.full((len(latents), 1), self.config.bos_token_id, device=self.device)
        with self._evaluating():
            ids = self.generate(start, attention_mask=torch.ones_like(start), latents=latents, **settings)[:, 1:]
        if "max_new_tokens" not in options:
            ids = [_cut(row, length) for row, length in zip(ids.tolist(), lengths, strict=True)]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

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
    def score(self, texts: Texts, samples: int | None = None, tokenizer=None) -> BoustroScores:
        r"""
        −log likelihood of texts, a [`BoustroScores`]: exact for a plain model, else a bound. Without `samples` it is
        the negative ELBO at a latent drawn from the posterior; with N samples the importance-weighted bound (Burda et
        al. 2016), which is tighter and N times the work.
        """
        if samples is not None:
            _check_count("samples", samples, 1, ", or None for the ELBO")
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
        rows = _rows_of_ids(texts)
        if rows is None:
            one = isinstance(texts, str | bytes) or not isinstance(texts, Iterable)
            texts = [texts] if one else list(texts)
            wrong = {type(text).__name__ for text in texts if not isinstance(text, str)}
            if wrong or not texts:
                found = ", ".join(sorted(wrong)) or "nothing"
                raise ValueError(f"texts holds {found}, expected strings, or ids (texts, characters).")
            rows = self._tokenizer(tokenizer)(texts, padding=False)["input_ids"]
        pad, end = self.config.pad_token_id, self.config.eos_token_id
        end = end[0] if isinstance(end, list) else end
        rows = [[i for i in row if i != pad] for row in rows]
        pad = 0 if pad is None else pad
        if self.config.latent_prior == "standard" and end is not None:
            rows = [row if row and row[-1] == end else [*row, end] for row in rows]
        if min((len(row) for row in rows), default=0) < 2:
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
                # a tokenizer is plain data: without False, transformers asks about the model's code, without the
                # config it warns of one whose kind it does not know
                self._own_tokenizer = AutoTokenizer.from_pretrained(
                    source, config=self.config, trust_remote_code=False, **self._opened_with
                )
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
        if 0 in latents.shape:
            raise ValueError(f"latents has the shape {tuple(latents.shape)}, expected a text and a segment or more.")

    def _need_latents(self, name):
        if self.config.latent_size == 0:
            raise ValueError(f"{name} needs latents, but this model has latent_size=0: a plain language model.")


def _rows_of_ids(texts):
    """Lists of ids of a tensor (N, T) or a tokenizer's mapping, without what its mask says is padding; else None."""
    mask = None
    if isinstance(texts, Mapping):
        if texts.get("input_ids") is None:
            names = ", ".join(map(str, texts)) or "nothing"
            raise ValueError(
                f"texts is a mapping of {names}, expected input_ids, as a tokenizer gives them, or strings."
            )
        texts, mask = _id_rows("input_ids", texts["input_ids"]), texts.get("attention_mask")
    elif isinstance(texts, torch.Tensor):
        texts = _id_rows("texts", texts)
    else:
        return None
    if mask is None:
        return texts
    mask = _id_rows("attention_mask", mask)
    if [len(row) for row in mask] != [len(row) for row in texts]:
        raise ValueError("attention_mask has another shape than input_ids, expected 1 or 0 for every id.")
    return [[i for i, real in zip(*pair, strict=True) if real] for pair in zip(texts, mask, strict=True)]


def _id_rows(name, values):
    """Lists of whole numbers, of a tensor (N, T), a list of lists, or the list that a tokenizer gives of one text."""
    rows = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(values, list) and values and isinstance(values[0], int):
        rows = [values]
    if not isinstance(rows, list) or not all(isinstance(row, list) and _are_whole(row) for row in rows):
        found = type(values).__name__
        if isinstance(values, torch.Tensor):
            found = f"a tensor {tuple(values.shape)} of {values.dtype}"
        raise ValueError(f"{name} is {found}, expected whole numbers (texts, characters).")
    return rows


def _are_whole(row):
    return all(isinstance(value, int) for value in row)


def _check_count(name, value, least, more=""):
    # numpy's whole numbers have an index too
    if not hasattr(value, "__index__") or value < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}{more}.")


def _check_options(options):
    """Raises `ValueError` for options of `generate` that do not leave one text to each row of latents."""
    for name in ("inputs", "input_ids", "inputs_embeds", "attention_mask", "latents", "latents_from"):
        if name in options:
            raise ValueError(
                f"{name} was given, but the texts are written from latents alone: call generate() for it."
            )
    if "max_length" in options:
        raise ValueError(
            f"max_length is {options['max_length']!r}, expected max_new_tokens: these texts have no prompt."
        )
    for name, only in (("num_return_sequences", 1), ("return_dict_in_generate", False), ("return_latents", False)):
        if options.get(name, only) not in (only, None):
            raise ValueError(
                f"{name} is {options[name]!r}, expected {only}: each row of latents gives one text. Call "
                "generate(latents=…) for more, with the latents of encode(texts).given()."
            )


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
