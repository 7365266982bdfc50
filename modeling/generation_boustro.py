"""How `generate` treats latents: the posterior for the prompt's segments, the prior for every new one."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationMixin, MaxTimeCriteria
from transformers.generation import LogitsProcessorList
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.utils import logging

from .cache_boustro import BoustroCache
from .characters_boustro import WholeCharacters, WholeCharactersTime
from .decoding_boustro import CharacterStep, decode, shares_place
from .distributions_boustro import tempered
from .planning_boustro import IGNORE_INDEX, PlanInputs, check_latents
from .segments_boustro import expand_index

logger = logging.get_logger(__name__)

NOISE_BLOCK = 32  # segments whose noise is drawn at a time
PREFILL = 4096  # characters of a prompt that are read at a time: the memory of a longer one does not grow with it


@dataclass
class BoustroGenerateOutput(GenerateDecoderOnlyOutput):
    """What `generate(return_dict_in_generate=True)` returns, and `latents` (B, K, Z) where they were asked for."""

    latents: torch.FloatTensor | None = None


class BoustroGenerationMixin(GenerationMixin):
    r"""
    `generate` and `pipeline("text-generation")` for boustro models.

    The prompt is cut into segments from its start, the last one ending where the prompt ends; each gets a latent
    from the posterior. Every later segment is planned from the prior. Sampling (`do_sample=True`) draws latents;
    greedy and beam search take the mean of the prior's likeliest component. Beside the arguments of transformers,
    `generate` takes

    - `latents`: (B, K, Z), in place of the first K planned segments, those after a cache's where one is given; NaN
      leaves a segment to the prior;
    - `latents_from`: a text, or a list of B, whose latents (posterior means) take that place: the new text is planned
      like that one. Needs the tokenizer as [`BoustroLatentsMixin.encode`] does;
    - `latent_temperature`: factor of the noise that latents are drawn with (`do_sample=True`): below 1 likelier
      components of the prior and less spread, 0 the mean of the likeliest; above 1 more spread within components;
    - `return_latents`: with `return_dict_in_generate=True`, `latents` (B, K, Z) beside `sequences`: the z of every
      segment of a row, those of its prompt first. With greedy search and sampling.

    A text never ends in half a character, whatever its length, an end mark or `max_time` says ([`WholeCharacters`]);
    only a stopping criterion of the caller's own can cut one.

    All random numbers for latents are drawn before the first step, so that generation with and without the cache
    plans alike; a segment's do not depend on how long the text may become.
    """

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def generate(self, inputs=None, *args, latents_from=None, return_latents=False, **kwargs):
        """As in transformers, except that prompts padded on the right come back padded on the left; see the class for
        the arguments that steer the latents. Raises `ValueError` for what cannot be done, before anything is
        generated."""
        _refuse(kwargs)
        _prefer_max_length(kwargs, args)
        name = "inputs" if inputs is not None else "input_ids"
        prompt = kwargs.pop("input_ids", None) if inputs is None else inputs
        begun = _has_begun(kwargs.get("past_key_values"))
        if prompt is not None:
            _check_prompt(name, prompt)
            _check_mask(kwargs.get("attention_mask"), prompt, begun)
            if begun:
                _check_unread(kwargs["past_key_values"], prompt, kwargs.get("attention_mask"))
            else:
                prompt = self._pad_left(prompt, kwargs)
            inputs = prompt
        elif kwargs.get("inputs_embeds") is not None and not begun:
            kwargs["inputs_embeds"] = self._pad_left(kwargs["inputs_embeds"], kwargs)
        if return_latents:
            self._need_latents("return_latents")
            kwargs["return_latents"] = True
        if latents_from is not None:
            if kwargs.get("latents") is not None:
                raise ValueError("latents and latents_from were both given, expected one of them.")
            self._need_latents("latents_from")
            means = self.encode(latents_from, kwargs.get("tokenizer")).given()
            given = kwargs.get("inputs_embeds") if inputs is None else inputs
            rows = 1 if given is None else len(given)
            if len(means) not in (1, rows):
                raise ValueError(f"latents_from holds {len(means)} texts, expected 1, or {rows}: one for each prompt.")
            kwargs["latents"] = means.expand(rows, -1, -1) if len(means) == 1 else means
        return super().generate(inputs, *args, **kwargs)

    def _pad_left(self, prompt, options):
        """The prompts, ids (B, T) or embeddings (B, T, E), with their padding moved to the left, where the last column
        is the last character of every row; the mask in `options` moves along."""
        mask, pad = options.get("attention_mask"), self.config.pad_token_id
        if mask is None and pad is not None and prompt.dim() == 2:
            mask = (prompt != pad).long()
        if mask is None or mask.shape != prompt.shape[:2] or bool((mask[:, 1:] >= mask[:, :-1]).all()):
            return prompt
        order = torch.argsort(mask.bool().long(), dim=1, stable=True)
        options["attention_mask"] = mask.gather(1, order)
        return prompt.gather(1, expand_index(order.to(prompt.device), prompt))

    def _get_logits_processor(self, generation_config, *args, **kwargs):
        """Those of transformers, after the one that keeps characters whole."""
        found = super()._get_logits_processor(generation_config, *args, **kwargs)
        longest = generation_config.max_length
        if longest is not None and generation_config.forced_eos_token_id is not None:
            longest -= 1  # the last place is not the text's
        whole = WholeCharacters(self.config.vocab_size, longest, self.device, generation_config.max_time)
        return LogitsProcessorList([whole, *found])

    def _get_stopping_criteria(self, generation_config, *args, **kwargs):
        """Those of transformers, of which `max_time` waits for whole characters."""
        found = super()._get_stopping_criteria(generation_config, *args, **kwargs)
        for place, criterion in enumerate(found):
            if type(criterion) is MaxTimeCriteria:
                found[place] = WholeCharactersTime(criterion.max_time, criterion.initial_timestamp)
        return found

    def _validate_model_kwargs(self, model_kwargs):
        """Our own argument is no argument of `forward`, for which transformers takes what it does not know."""
        temperature = model_kwargs.get("latent_temperature")
        if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature < math.inf):
            raise ValueError(f"latent_temperature is {temperature!r}, expected 0 or a positive number.")
        if temperature is not None and self.config.latent_size == 0:
            raise ValueError("latent_temperature needs latents, but this model has latent_size=0: leave it out.")
        for name in ("labels", "target_ids", "word_starts", "segment_starts", "output_alignments"):
            if model_kwargs.get(name) is not None and model_kwargs[name] is not False:
                raise ValueError(f"{name} was given, but it is for model(…): generate() has no use for it.")
        ours = ("latent_temperature", "return_latents")
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in ours})

    @torch.no_grad()
    def _maybe_prepare_encoder_kwargs_for_generation(
        self, inputs_tensor, model_kwargs, model_input_name, generation_config
    ):
        """Encodes the prompt before rows are repeated for beams: adds `latents`, `latent_mask`, `prompt_lengths`."""
        model_kwargs = super()._maybe_prepare_encoder_kwargs_for_generation(
            inputs_tensor, model_kwargs, model_input_name, generation_config
        )
        chunks = generation_config.use_cache is not False and generation_config.prefill_chunk_size is None
        by_ids = model_input_name == "input_ids" and model_kwargs.get("inputs_embeds") is None
        if chunks and by_ids and inputs_tensor.shape[1] > PREFILL:
            generation_config.prefill_chunk_size = PREFILL
        if self.config.latent_size == 0:
            return model_kwargs
        past = model_kwargs.get("past_key_values")
        begun = _has_begun(past)
        if model_input_name != "input_ids" or begun:
            if begun and model_kwargs.get("latents") is not None:
                model_kwargs.update(self._latents_after(past, model_kwargs["latents"]))
            return model_kwargs
        mask = model_kwargs.get("attention_mask")
        ids = inputs_tensor.to(self.device)
        mask = torch.ones_like(ids) if mask is None else mask.to(self.device).long()
        lengths = mask.sum(1)
        prompt_latents, segments, cache, context = self._encode_prompt(ids, mask, lengths, generation_config.do_sample)
        # the prompt is read once where the cache after its encoding serves: no padding, and all of it at a time
        cached = generation_config.use_cache is not False and generation_config.prefill_chunk_size is None
        if cached and bool(mask.all()):
            cache.context_ahead = context
            model_kwargs["prompt_cache"] = cache
        planned = model_kwargs.get("latents")
        check_latents(planned, len(ids), self.config.latent_size)
        new = generation_config.max_new_tokens or (generation_config.max_length or 0) - ids.shape[1]
        most = max(-(-new // self.config.segment_length), 1)
        if planned is not None and new > 0 and planned.shape[1] > most:
            logger.warning(
                f"latents holds {planned.shape[1]} segments, but {new} new characters make at most {most} of "
                f"{self.config.segment_length}: the others are not used. Raise max_new_tokens to use them."
            )
        if planned is None:
            planned = prompt_latents.new_zeros(len(ids), 0, self.config.latent_size)
        latents, known = _join_latents(prompt_latents, segments, planned.to(prompt_latents))
        model_kwargs.update(latents=latents, latent_mask=known, prompt_lengths=lengths)
        return model_kwargs

    def _latents_after(self, past, planned):
        """`latents` and `latent_mask` by which planned (B, K, Z) are those of the segments after a cache's."""
        check_latents(planned, len(past.segment), self.config.latent_size)
        planned = planned.to(self.device, torch.float32)
        before = planned.new_zeros(len(planned), int(past.segment.max()), planned.shape[2])
        latents, known = _join_latents(before, past.segment, planned)
        return {"latents": latents, "latent_mask": known}

    def _encode_prompt(self, ids, mask, lengths, sample):
        """Posterior latents of the prompt's segments, (B, K, Z), how many each row has, (B,), the cache then, and what
        the context LSTM made of the last window, (B, T, H)."""
        order = torch.argsort(mask, dim=1, descending=True, stable=True)  # the prompt first, padding after it
        ids, mask = ids.gather(1, order), mask.gather(1, order)
        # a row ends with its last real character, which has no target yet
        targets = nn.functional.pad(ids[:, 1:], (0, 1), value=IGNORE_INDEX)
        following = nn.functional.pad(mask[:, 1:], (0, 1), value=0)
        targets = targets.masked_fill(following == 0, IGNORE_INDEX)
        length, cache, found = self.config.segment_length, BoustroCache(), []
        window = -(-PREFILL // length) * length
        for start in range(0, ids.shape[1], window):
            part = slice(start, start + window)
            noise = None if sample else torch.zeros(len(ids), 0, self.config.latent_size, device=self.device)
            output = self.model.infer(ids[:, part], targets[:, part], mask[:, part], cache, latent_noise=noise)
            found.append(output.latents)
        segments = torch.div(lengths - 1 + length - 1, length, rounding_mode="floor")
        return torch.cat(found, 1), segments.clamp(min=0), cache, output.last_hidden_state

    def _prepare_cache_for_generation(
        self, generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
    ):
        super()._prepare_cache_for_generation(
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
        )
        temperature = model_kwargs.pop("latent_temperature", None)
        if model_kwargs.get("return_latents"):
            _check_return_latents(generation_config, model_kwargs)
        prompt_cache = model_kwargs.pop("prompt_cache", None)
        repeats = max(generation_config.num_beams, generation_config.num_return_sequences)
        given = model_kwargs.get("past_key_values")
        if _has_begun(given):
            _check_rows(given, batch_size * repeats)
            if generation_config.use_cache is False:
                raise ValueError(
                    "past_key_values was given with use_cache=False, expected one of them: leave past_key_values out "
                    "to read the whole text anew."
                )
        elif generation_config.use_cache is not False:
            cache = prompt_cache or BoustroCache()
            if repeats > 1:
                cache.batch_repeat_interleave(repeats)
            # an empty cache of the caller's is the one that is filled
            model_kwargs["past_key_values"] = cache if given is None else given.become(cache)
        elif given is not None:
            del model_kwargs["past_key_values"]  # an empty one that nobody fills
        if generation_config.do_sample and self.config.latent_size > 0:
            prompt = model_kwargs["latents"].shape[1] if model_kwargs.get("latents") is not None else 1
            segments = prompt + max_cache_length // self.config.segment_length + 2
            noise = self._latent_noise(batch_size * repeats, segments, generation_config.num_beams)
            mixture = self.config.has_mixture_prior
            model_kwargs["latent_noise"] = noise if temperature is None else tempered(noise, temperature, mixture)

    def _latent_noise(self, rows, segments, beams):
        """Standard normal draws (rows, segments, Z), alike for the beams of a prompt, which take each other's places.
        The first ones do not depend on how many segments there are, and neither do the draws that follow."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
        # whole blocks, so that how many are cut off is no matter
        shape = (NOISE_BLOCK, rows // beams, self.config.latent_size)
        blocks = [torch.randn(shape, generator=generator) for _ in range(-(-segments // NOISE_BLOCK))]
        noise = torch.cat(blocks)[:segments].transpose(0, 1)
        return noise.repeat_interleave(beams, 0).to(self.device)

    def _sample(
        self,
        input_ids,
        logits_processor,
        stopping_criteria,
        generation_config,
        synced_gpus=False,
        streamer=None,
        **model_kwargs,
    ):
        """Greedy search and sampling by the fast loop where its conditions hold, else by that of transformers."""
        return_latents = model_kwargs.pop("return_latents", False)
        cache = model_kwargs.get("past_key_values")
        if synced_gpus or not self._decodes_fast(input_ids, cache, generation_config, model_kwargs):
            output = super()._sample(
                input_ids,
                logits_processor,
                stopping_criteria,
                generation_config,
                synced_gpus=synced_gpus,
                streamer=streamer,
                **model_kwargs,
            )
        else:
            logits = self._prefill(input_ids, generation_config, model_kwargs).logits[:, -1]
            inputs = PlanInputs(
                **{name: model_kwargs.get(name) for name in ("latents", "latent_mask", "latent_noise")}
            )
            longest = stopping_criteria.max_length or input_ids.shape[1]
            step = CharacterStep(self, cache, inputs, longest - input_ids.shape[1])
            output = decode(step, input_ids, logits, logits_processor, stopping_criteria, generation_config, streamer)
            step.write_back()
            if not generation_config.return_dict_in_generate:
                return output["sequences"]
            output = GenerateDecoderOnlyOutput(**output, past_key_values=cache)
        if return_latents:
            output = BoustroGenerateOutput(**output, latents=self._used_latents(output.sequences, model_kwargs))
        return output

    def _used_latents(self, sequences, model_kwargs):
        """The z (B, K, Z) of the segments of sequences (B, T), inferred again from what was planned."""
        ids = sequences[:, :-1]  # after the last character nothing was predicted
        mask = model_kwargs.get("attention_mask")
        mask = torch.ones_like(sequences) if mask is None else mask
        mask = nn.functional.pad(mask, (0, max(ids.shape[1] - mask.shape[1], 0)), value=1)[:, : ids.shape[1]]
        starts = _segment_starts(mask, model_kwargs["prompt_lengths"], self.config.segment_length)
        planned = {name: model_kwargs.get(name) for name in ("latents", "latent_mask", "latent_noise")}
        return self.model.infer(ids, None, mask, segment_starts=starts, **planned).latents

    def _decodes_fast(self, input_ids, cache, generation_config, model_kwargs) -> bool:
        """Whether the fast loop can do what is asked."""
        if not isinstance(cache, BoustroCache) or model_kwargs.get("inputs_embeds") is not None:
            return False
        # products into buffers of the weights' own type, which autocast leaves alone
        if torch.is_autocast_enabled(input_ids.device.type):
            return False
        if (self.training and self.config.dropout > 0) or not all(map(_computes_as_built, self.modules())):
            return False
        if generation_config.output_attentions or generation_config.output_hidden_states:
            return False
        new = input_ids.shape[1] - cache.get_seq_length()
        if new < 1 or self.config.latent_size == 0:
            return new >= 1
        prompted = model_kwargs.get("prompt_lengths") is not None
        return shares_place(cache, model_kwargs.get("attention_mask"), new, prompted)

    def prepare_inputs_for_generation(
        self, input_ids, *args, inputs_embeds=None, attention_mask=None, prompt_lengths=None, **kwargs
    ):
        """Marks where segments start: every `segment_length` characters from the prompt's start and from its end."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, *args, inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs
        )
        if prompt_lengths is not None:
            new = inputs["input_ids"].shape[1]
            if attention_mask is None:
                # a chunk of a prompt comes without the text before it
                past = kwargs.get("past_key_values")
                seen = 0 if past is None else past.get_seq_length()
                attention_mask = input_ids.new_ones(len(input_ids), max(input_ids.shape[1], seen + new))
            starts = _segment_starts(attention_mask, prompt_lengths, self.config.segment_length)
            inputs["segment_starts"] = starts[:, -new:].to(self.device)
        return inputs


def _computes_as_built(module):
    """Whether a module's `forward` is what this package or torch wrote, with nothing hooked into it: quantised layers,
    adapters, hooks and subclasses with a forward of their own are heard in the stock loop alone."""
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return False
    return type(module).forward.__module__.startswith((f"{__package__}.", "torch.nn.modules."))


def _prefer_max_length(options, positional):
    """Where the caller says how long the whole text may be, the number of new characters in the model's own generation
    config counts no more. `positional` are the arguments after `inputs`, the first of them a generation config."""
    config = options.get("generation_config", positional[0] if positional else None)
    own = config is not None and config.max_length is not None and config.max_new_tokens is None
    if "max_new_tokens" not in options and (options.get("max_length") is not None or own):
        options["max_new_tokens"] = None


def _has_begun(cache):
    """Whether a cache has read anything. Raises `ValueError` for one of another kind."""
    if cache is not None and not isinstance(cache, BoustroCache):
        raise ValueError(
            f"past_key_values is a {type(cache).__name__}, expected the BoustroCache of an earlier call, an empty "
            "BoustroCache(), or none: generate() makes its own."
        )
    return cache is not None and cache.get_seq_length() > 0


def _check_rows(cache, rows):
    """Raises `ValueError` unless a cache holds the state of so many rows."""
    found = len(cache.context_state[0])
    if found != rows:
        raise ValueError(
            f"past_key_values holds the state of {found} rows, expected {rows}: prompts times num_beams or "
            "num_return_sequences; past_key_values.batch_repeat_interleave(n) repeats every row."
        )


def _check_unread(cache, ids, mask):
    """Raises `ValueError` unless ids (B, T), or with a mask of all the text the last of them, are new to a cache."""
    seen, columns = cache.get_seq_length(), max(ids.shape[1], 0 if mask is None else mask.shape[1])
    if columns <= seen:
        raise ValueError(
            f"the ids have {columns} columns, but past_key_values has read {seen} already, expected those and at "
            "least one more: give the whole text, such as the sequences of the call that returned the cache."
        )


def _check_mask(mask, ids, begun):
    """Raises `ValueError` unless mask is None or has the shape of ids (B, T), or with a cache that of all the text."""
    if mask is None:
        return
    if not isinstance(mask, torch.Tensor):
        raise ValueError(f"attention_mask is a {type(mask).__name__}, expected a tensor of the shape of the prompts.")
    longer = begun and mask.dim() == 2 and len(mask) == len(ids) and mask.shape[1] > ids.shape[1]
    if mask.shape != ids.shape and not longer:
        raise ValueError(
            f"attention_mask has the shape {tuple(mask.shape)}, but the prompts have {tuple(ids.shape)}: expected 1 "
            "or 0 for every id."
        )


def _check_prompt(name, ids):
    """Raises `ValueError` unless ids is an integer tensor (B, T) with B, T > 0."""
    if not isinstance(ids, torch.Tensor):
        raise ValueError(
            f"{name} is a {type(ids).__name__}, expected a tensor of ids (batch, length): "
            "tokenizer(texts, padding=True, return_tensors='pt') makes one, or give a text to the pipeline."
        )
    if ids.is_floating_point() or ids.dim() != 2 or 0 in ids.shape:
        raise ValueError(
            f"{name} is a tensor of {ids.dtype} with the shape {tuple(ids.shape)}, expected ids (batch, length) with "
            "a row or more and at least <bos> in it; leave it out to start with <bos>."
        )


def _refuse(options):
    """Raises `ValueError` for decoding that a recurrent model cannot do, with the reason."""
    for name in ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit"):
        if options.get(name) is not None:
            raise ValueError(
                f"{name} was given, but assisted decoding takes drafted characters back, and the state of a recurrent "
                "model cannot be taken back: leave it out; plain generate() is fast."
            )
    beams = options.get("num_beams") or getattr(options.get("generation_config"), "num_beams", None) or 1
    if options.get("streamer") is not None and beams > 1:
        raise ValueError(
            f"a streamer was given with num_beams={beams}, but beam search changes its mind about the text until the "
            "end: stream with num_beams=1, or leave the streamer out."
        )


def _check_return_latents(generation_config, model_kwargs):
    if not generation_config.return_dict_in_generate:
        raise ValueError("return_latents was given without return_dict_in_generate=True, expected both.")
    if generation_config.num_beams > 1:
        raise ValueError(
            f"return_latents was given with num_beams={generation_config.num_beams}, expected 1: beams exchange plans."
        )
    if model_kwargs.get("prompt_lengths") is None:
        raise ValueError(
            "return_latents was given with past_key_values or inputs_embeds, expected ids from the start of the text."
        )


def _join_latents(prompt_latents, segments, planned):
    """Each row's first `segments` latents from the prompt, then its planned ones: latents and mask, (B, K, ·)."""
    batch, most, size = prompt_latents.shape
    extra = planned.shape[1]
    places = torch.arange(most + extra, device=planned.device).expand(batch, most + extra)
    behind = places - segments[:, None]
    both = torch.cat([prompt_latents, planned], 1)
    source = torch.where(behind < 0, places, most + behind).clamp(max=most + extra - 1)
    latents = both.gather(1, source[..., None].expand(batch, most + extra, size))
    return latents, (behind < extra) & ~latents.isnan().any(-1)


def _segment_starts(mask, prompt_lengths, segment_length):
    """(B, T) bool for the whole text so far, of which `mask` (B, T) tells the real characters."""
    place = mask.long().cumsum(1) - 1
    after_prompt = place - (prompt_lengths[:, None] - 1)
    return torch.where(after_prompt < 0, place, after_prompt) % segment_length == 0
