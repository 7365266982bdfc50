"""boustro models: base class, the latent LSTM backbone and the causal language model with its objective."""

import math

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging

from .cache_boustro import BoustroCache
from .configuration_boustro import BoustroConfig
from .generation_boustro import BoustroGenerationMixin
from .latents_boustro import BoustroLatentsMixin
from .layers_boustro import WORD_UNKNOWN, Alignment, LockedDropout, LSTMStack, Prior
from .objective_boustro import discounted, floored_kl, kl_to_prior, negative_elbo, token_nll
from .outputs_boustro import BoustroCausalLMOutput, BoustroModelOutput
from .pipelines_boustro import custom_pipelines
from .planning_boustro import IGNORE_INDEX, PlanInputs, SegmentPlanner, check_latents, check_segment_length
from .segments_boustro import expand_index

logger = logging.get_logger(__name__)

HORIZONS = 6  # in training, places of a segment beyond so many backward horizons weigh nothing (exp(−6) = 0.0025)
OPENED_WITH = ("token", "revision", "cache_dir", "subfolder", "local_files_only")
AUTO_MAP = {
    "AutoConfig": "configuration_boustro.BoustroConfig",
    "AutoModel": "modeling_boustro.BoustroModel",
    "AutoModelForCausalLM": "modeling_boustro.BoustroForCausalLM",
}


class BoustroPreTrainedModel(PreTrainedModel):
    """Weight initialisation, saving with code, loading of safetensors, and the flags `transformers` reads."""

    config_class = BoustroConfig
    base_model_prefix = "model"
    _is_stateful = True
    _opened_with = {}  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.LSTM):
            for name, weight in module.named_parameters(recurse=False):
                init.copy_(weight, _lstm_weight(name, weight))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=2 / math.sqrt(module.embedding_dim))
        elif isinstance(module, Alignment):
            distance = torch.arange(-module.max_distance, module.max_distance + 1)
            init.copy_(module.distance_bias, -0.5 * distance.abs().to(module.distance_bias))
        elif isinstance(module, Prior) and module.conditional:
            init.normal_(module.means)
            init.constant_(module.log_variances, -2.0)

    def resize_token_embeddings(self, new_num_tokens=None, *args, **kwargs):
        """As in transformers; the backward decoder's output layer, which predicts the same ids, grows along."""
        embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        if self.config.latent_size > 0:
            decoder = self.base_model.planner.backward_decoder
            decoder.output = self._get_resized_lm_head(decoder.output, embeddings.num_embeddings)
        return embeddings

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, use_safetensors=None, **kwargs):
        """
        As in transformers, but of safetensors alone, for a pickle can run code: `use_safetensors` is True unless it is
        False. What the folder or repository was opened with (`token`, `revision` …) opens its tokenizer later; it is
        saved nowhere. Raises `ValueError` where there are no safetensors.
        """
        safe = use_safetensors is not False
        try:
            found = super().from_pretrained(pretrained_model_name_or_path, *model_args, use_safetensors=safe, **kwargs)
        except OSError as error:
            variant = f".{kwargs['variant']}" if kwargs.get("variant") else ""
            name = f"model{variant}.safetensors"
            if not safe or f"file named {name}" not in str(error):
                raise
            raise ValueError(
                f"{pretrained_model_name_or_path} holds no {name}, and other weights, such as pytorch_model.bin, are "
                "pickles, which are not loaded. Where you trust the file, convert it once: "
                "from_pretrained(…, use_safetensors=False).save_pretrained(folder)."
            ) from error
        model = found[0] if kwargs.get("output_loading_info") else found
        model._opened_with = {name: kwargs[name] for name in OPENED_WITH if name in kwargs}
        return found

    def __getstate__(self):
        """What pickling and copying take: all but the token."""
        opened_with = {name: value for name, value in self._opened_with.items() if name != "token"}
        return self.__dict__ | {"_opened_with": opened_with}

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Saves weights, config and code; the config names every Auto class and pipeline that the folder serves."""
        self.config.auto_map = dict(AUTO_MAP)
        self.config.custom_pipelines = custom_pipelines() if self.config.latent_size > 0 else {}
        # transformers.Trainer switches the cache off while it trains, which generation must not inherit
        self.config.use_cache = True
        return super().save_pretrained(save_directory, *args, **kwargs)


def _lstm_weight(name: str, like: torch.Tensor) -> torch.Tensor:
    """Orthogonal recurrent gates, Xavier input gates, zero biases but 1 for the forget gate (order i, f, g, o)."""
    size = like.shape[0] // 4
    if "bias" in name:
        forget = 1.0 if "bias_ih" in name else 0.0
        return torch.zeros_like(like).index_fill_(0, torch.arange(size, 2 * size, device=like.device), forget)
    fill = nn.init.orthogonal_ if "weight_hh" in name else nn.init.xavier_uniform_
    gates = [fill(torch.empty(size, like.shape[1], dtype=torch.float32, device=like.device)) for _ in range(4)]
    return torch.cat(gates).to(like.dtype)


class BoustroModel(BoustroPreTrainedModel):
    r"""
    The backbone: characters → context LSTM → a latent and a backward plan for each segment → alignment → generator
    LSTM, whose output is added to the context's, and with `config.plan_skip` to a projection of the aligned plan. With
    `config.latent_size == 0` there is no planner, and context and generator are one plain LSTM stack with the skip
    connection of the context.
    """

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012

    def __init__(self, config: BoustroConfig):
        super().__init__(config)
        size, plan_size = config.hidden_size, 0
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.context = LSTMStack(config.embedding_size, size, config.num_context_layers, config.dropout)
        if config.latent_size > 0:
            self.planner = SegmentPlanner(config)
            plan_size = config.backward_hidden_size
            if config.plan_skip:
                self.plan_skip = nn.Linear(plan_size, size, bias=False)
        self.generator = LSTMStack(size + plan_size, size, config.num_generator_layers, config.dropout)
        self.post_init()

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: BoustroCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        target_ids: torch.LongTensor | None = None,
        word_starts: torch.LongTensor | None = None,
        segment_starts: torch.BoolTensor | None = None,
        latents: torch.FloatTensor | None = None,
        latent_mask: torch.BoolTensor | None = None,
        latent_noise: torch.FloatTensor | None = None,
        segment_length: int | None = None,
        use_cache: bool | None = None,
        output_alignments: bool = False,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BoustroModelOutput:
        r"""
        Without `target_ids` the result is causal: latents come from the prior. With them they come from the
        posterior of each segment's targets, and a segment starts at the first position of the call.

        Args:
            input_ids: (B, T).  inputs_embeds: (B, T, E) instead.
            attention_mask: (B, T) or (B, past + T), 0 on padding, which may lie on either side.
            past_key_values: state after the characters read before.
            target_ids: (B, T), the character that follows each position, −100 for none.
            word_starts: (B, T) codes of the targets: 0 inside a word, 1 at its start, 2 unknown. Default unknown.
            segment_starts: (B, T) bool, true where a segment starts. Default: every `segment_length` characters.
            latents: (B, K', Z), z of the first K' segments, counted from the start of the text, or with `target_ids`
                from the start of the call.
            latent_mask: (B, K') bool, which of `latents` to use. Default all.
            latent_noise: (B, K'', Z), standard normal draws from which samples are made, counted likewise; zero
                beyond. Default: zero (the mean of the prior's likeliest component) without targets, fresh draws (a
                posterior sample) with them.
            segment_length: S of this call, at most `config.segment_length`, which is the default. With `target_ids`
                only: training begins with short segments.
            use_cache: return `past_key_values`. Default: `config.use_cache` without targets, else no.
            output_alignments: return the alignment weights.

        Raises `ValueError` for ids outside the vocabulary and for shapes that do not fit.
        """
        embeds = self._embed(input_ids, inputs_embeds)
        _check_shapes(
            embeds, attention_mask, target_ids=target_ids, word_starts=word_starts, segment_starts=segment_starts
        )
        check_latents(latents, len(embeds), self.config.latent_size)
        check_segment_length(segment_length, self.config.segment_length, target_ids is not None)
        if use_cache is None:
            use_cache = self.config.use_cache and target_ids is None
        inputs = PlanInputs(
            target_ids, None, word_starts, segment_starts, latents, latent_mask, latent_noise, segment_length
        )
        embeds, inputs, order, lengths = self._front(embeds, attention_mask, inputs)
        past = BoustroCache() if past_key_values is None else past_key_values
        # padded rows need their own length only where the state after them matters
        state_lengths = lengths if use_cache and order is not None else None

        context, context_state = self._read_context(embeds, past, state_lengths)
        plan = self.planner(context, lengths, past, inputs) if self.config.latent_size > 0 else None
        hidden, generator_state = self._write(context, plan, past.generator_state, state_lengths)
        if use_cache:
            past.update(context_state, generator_state, plan, embeds.shape[1])
        if order is not None:
            hidden = hidden.scatter(1, expand_index(order, hidden), hidden)
        output = _model_output(hidden, past if use_cache else None, plan, output_alignments)
        return output if return_dict is not False else output.to_tuple()

    def _read_context(self, embeds, past, lengths):
        """Output (B, T, H) and state of the context LSTM, from the cache where it has read these characters ahead."""
        ahead = past.context_ahead
        if ahead is None:
            return self.context(embeds, past.context_state, lengths)
        if ahead.shape[:2] != embeds.shape[:2]:
            raise ValueError(
                f"the cache has read {ahead.shape[1]} characters ahead in {len(ahead)} rows, but the call has "
                f"{embeds.shape[1]} in {len(embeds)}: give it those that were read."
            )
        return ahead, past.context_state

    def _write(self, context, plan, state, lengths):
        """Output (B, T, H) and state of the generator LSTM over context and aligned plan, skip connections added."""
        hidden, direct = context, context
        if plan is not None:
            aligned = plan.aligned.to(context.dtype)
            hidden = torch.cat([context, aligned], -1)
            if self.config.plan_skip:
                direct = context + self.plan_skip(aligned)
        hidden, state = self.generator(hidden, state, lengths)
        return (hidden + direct if self.config.num_generator_layers > 0 else hidden), state

    def infer(
        self,
        input_ids: torch.LongTensor,
        target_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: BoustroCache | None = None,
        **segments,
    ) -> BoustroModelOutput:
        """
        `latents`, `posterior_…`, `prior` and `segment_targets` as `forward` returns them for the same arguments,
        without the work of the backward decoder and the generator. `segments`: `segment_starts`, `latents`,
        `latent_mask` and `latent_noise` of `forward`. A cache only hands the context's state on, to a call that
        starts with a new segment. `last_hidden_state` (B, T, H) is that of the context LSTM, real characters first.
        """
        past, inputs = past_key_values or BoustroCache(), PlanInputs(target_ids, **segments)
        embeds, inputs, _, lengths = self._front(self._embed(input_ids, None), attention_mask, inputs)
        context, past.context_state = self.context(embeds, past.context_state)
        found = self.planner.infer(context, lengths, inputs)
        posterior = found.posterior or (None, None)
        return BoustroModelOutput(
            last_hidden_state=context,
            latents=found.latents,
            posterior_mean=posterior[0],
            posterior_log_variance=posterior[1],
            prior=found.prior,
            segment_targets=found.targets,
        )

    def _front(self, embeds, attention_mask, inputs):
        """Embeddings and inputs with every row's real positions first, the order that does it, and their number."""
        order, lengths = _front_packing(attention_mask, embeds)
        if order is not None:
            embeds = _reorder(embeds, order)
            inputs.target_ids = _reorder(inputs.target_ids, order)
            inputs.word_starts = _reorder(inputs.word_starts, order)
            inputs.segment_starts = _reorder(inputs.segment_starts, order)
        if inputs.target_ids is not None:
            if inputs.target_ids.device.type == "cpu":
                real = inputs.target_ids.masked_fill(inputs.target_ids == IGNORE_INDEX, 0)
                _check_ids("labels", real, self.config.vocab_size)
            inputs.target_embeds = self.embedding(inputs.target_ids.clamp(min=0))
        return embeds, inputs, order, lengths

    def _embed(self, input_ids, inputs_embeds):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds, and not both.")
        if inputs_embeds is not None:
            return inputs_embeds
        if input_ids.dim() != 2:
            raise ValueError(f"input_ids has the shape {tuple(input_ids.shape)}, expected (rows, characters).")
        if input_ids.numel() == 0:
            raise ValueError("input_ids holds no character, expected at least <bos> in every row.")
        # on a GPU the check would cost a synchronisation at every step
        if input_ids.device.type == "cpu":
            _check_ids("input_ids", input_ids, self.config.vocab_size)
        return self.embedding(input_ids)


def _check_shapes(embeds, attention_mask, **others):
    """Raises `ValueError` unless the mask has a place for every position, with a cache for those before as well, and
    the others have the shape of the call."""
    batch, times = embeds.shape[:2]
    mask = attention_mask
    if mask is not None and (mask.dim() != 2 or len(mask) != batch or mask.shape[1] < times):
        raise ValueError(
            f"attention_mask has the shape {tuple(mask.shape)}, expected ({batch}, {times}), or with a cache as many "
            "columns more as it has read."
        )
    for name, given in others.items():
        if given is not None and given.shape != (batch, times):
            raise ValueError(f"{name} has the shape {tuple(given.shape)}, expected ({batch}, {times}).")


def _check_ids(name, ids, vocab_size):
    if torch.compiler.is_compiling():  # a branch on values is none of a graph
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name} holds the id {low if low < 0 else high}, expected ids from 0 to {vocab_size - 1}: "
            "is this the tokenizer the model was trained with?"
        )


def _front_packing(attention_mask, embeds):
    """The order (B, T) that moves real positions to the front, or None if all are real; and their number (B,)."""
    batch, times, _ = embeds.shape
    if attention_mask is not None:
        real = attention_mask[:, -times:].bool()
        if not bool(real.all()):
            return torch.argsort((~real).to(torch.uint8), dim=1, stable=True), real.sum(1)
    return None, torch.full((batch,), times, device=embeds.device)


def _reorder(x, order):
    return None if x is None else x.gather(1, expand_index(order, x))


def _model_output(hidden, cache, plan, output_alignments):
    if plan is None:
        return BoustroModelOutput(last_hidden_state=hidden, past_key_values=cache)
    posterior = plan.posterior or (None, None)
    return BoustroModelOutput(
        last_hidden_state=hidden,
        past_key_values=cache,
        latents=plan.latents,
        posterior_mean=posterior[0],
        posterior_log_variance=posterior[1],
        prior=plan.prior,
        backward_states=plan.backward_states,
        segment_targets=plan.segment_targets,
        alignments=plan.alignments if output_alignments else None,
    )


class BoustroForCausalLM(BoustroPreTrainedModel, BoustroLatentsMixin, BoustroGenerationMixin):
    """A boustro backbone with a softmax over the vocabulary: P(x_t | x_<t, z)."""

    _tied_weights_keys = {"lm_head.weight": "model.embedding.weight"}  # noqa: RUF012

    def __init__(self, config: BoustroConfig):
        super().__init__(config)
        self.model = BoustroModel(config)
        self.dropout = LockedDropout(config.dropout)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    @torch.no_grad()
    def set_output_bias(self, frequencies: torch.Tensor) -> None:
        """
        Starts the softmax, and the backward decoder's, at the unigram distribution: `frequencies` (V,) counts each id,
        and one is added.
        """
        smoothed = frequencies.to(self.lm_head.bias) + 1
        self.lm_head.bias.copy_(torch.log(smoothed / smoothed.sum()))
        if self.config.latent_size > 0:
            self.model.planner.backward_decoder.output.bias.copy_(self.lm_head.bias)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: BoustroCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        target_ids: torch.LongTensor | None = None,
        word_starts: torch.LongTensor | None = None,
        segment_starts: torch.BoolTensor | None = None,
        latents: torch.FloatTensor | None = None,
        latent_mask: torch.BoolTensor | None = None,
        latent_noise: torch.FloatTensor | None = None,
        segment_length: int | None = None,
        kl_weight: float = 1.0,
        kl_floor: float | None = None,
        backward_weight: float | None = None,
        use_cache: bool | None = None,
        output_alignments: bool = False,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BoustroCausalLMOutput:
        r"""
        With labels: the objective and its parts. Without: causal logits, with latents from the prior.

        Args:
            labels: (B, T), the ids themselves; position t predicts `labels[:, t + 1]`. −100 is ignored.
            target_ids: (B, T), instead of `labels`: the id that follows each position. For streams, where the
                target of a window's last character is the next window's first.
            word_starts: (B, T), word-start codes of the labels, shifted as they are.
            kl_weight: factor of the KL in training mode (annealing); evaluation mode always uses 1.
            kl_floor, backward_weight: values for training mode in place of the config's.
            logits_to_keep: how many of the last positions get logits (0: all), or an index tensor.
            num_items_in_batch: target characters to average over, when a larger batch is accumulated; with `labels`
                counted as `transformers.Trainer` does, all but the first of a row that are not −100. That counts
                the <bos> after padding on the left; exact where all pieces have as many such rows.
            The others: see [`BoustroModel.forward`].
        """
        labels = labels if target_ids is None else None
        if labels is None and target_ids is None and latents is None:
            self._warn_of_lost_labels()
        if labels is not None:
            target_ids = _shift(_without_padding(labels, attention_mask), IGNORE_INDEX)
            word_starts = None if word_starts is None else _shift(word_starts, WORD_UNKNOWN)
        if target_ids is not None:
            target_ids = _without_padding(target_ids, attention_mask)
        backbone = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            target_ids=target_ids,
            word_starts=word_starts,
            segment_starts=segment_starts,
            latents=latents,
            latent_mask=latent_mask,
            latent_noise=latent_noise,
            segment_length=segment_length,
            use_cache=use_cache,
            output_alignments=output_alignments,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        hidden = backbone.last_hidden_state if target_ids is not None else backbone.last_hidden_state[:, keep]
        logits, loss, parts = self.lm_head(self.dropout(hidden)), None, {}
        if target_ids is not None:
            parts, auxiliary = self._loss_parts(logits, target_ids, backbone)
            count = _characters_to_average(parts["target_count"], labels, num_items_in_batch)
            weights = kl_weight, kl_floor, backward_weight
            loss = self._objective(parts, auxiliary, backbone, weights, count, latents is not None)
        output = BoustroCausalLMOutput(
            loss=loss,
            logits=logits,
            **parts,
            latents=backbone.latents,
            posterior_mean=backbone.posterior_mean,
            alignments=backbone.alignments,
            past_key_values=backbone.past_key_values,
        )
        return output if return_dict is not False else output.to_tuple()

    def _warn_of_lost_labels(self):
        """Says, once, that a loss made from logits alone leaves the latent untrained."""
        if (
            self.training
            and self.config.latent_size > 0
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
        ):
            logger.warning_once(
                "A model with latents was called in training mode without labels: what is computed from its logits "
                "trains neither the posterior nor the backward decoder's own prediction. Give labels and use the "
                "output's loss (transformers.Trainer: without label_smoothing_factor and compute_loss_func)."
            )

    def _loss_parts(self, logits, targets, backbone):
        """Reconstruction, KL and backward likelihood in nats, not reduced over rows and segments; and the last one
        summed as the training objective weights it."""
        auxiliary = 0.0
        parts = {
            "reconstruction": token_nll(logits, targets).sum(1),
            "target_count": (targets != IGNORE_INDEX).sum(1),
        }
        if backbone.segment_targets is not None:
            present = (backbone.segment_targets != IGNORE_INDEX).any(-1)  # (B, K)
            posterior = backbone.posterior_mean, backbone.posterior_log_variance
            kl = kl_to_prior(*posterior, backbone.latents, backbone.prior)
            parts["kl"] = kl * present
            parts["segment_count"] = present.sum(1)
            places = self._backward_places(backbone.segment_targets.shape[2])
            backward_logits = self.model.planner.backward_decoder.logits(backbone.backward_states[:, :, :places])
            backward_nll = token_nll(backward_logits, backbone.segment_targets[:, :, :places])  # (B, K, places)
            parts["backward_nll"] = backward_nll.sum((1, 2))
            auxiliary = discounted(backward_nll, self.config.backward_horizon).sum()
        return parts, auxiliary

    def _backward_places(self, segment_length):
        """Places of a segment whose backward likelihood is computed: in training, those that weigh something."""
        horizon = self.config.backward_horizon
        if not self.training or horizon <= 0:
            return segment_length
        return min(math.ceil(HORIZONS * horizon), segment_length)

    def _objective(self, parts, auxiliary, backbone, weights, count, latents_given):
        """Nats per character: the objective in training, the bound in evaluation, −log p(x | z) for given latents."""
        reconstruction, kl = parts["reconstruction"], parts.get("kl")
        if kl is None or latents_given:
            return reconstruction.sum() / count
        if not self.training:
            return negative_elbo(reconstruction, kl, count)
        kl_weight, kl_floor, backward_weight = weights
        kl_floor = self.config.kl_floor if kl_floor is None else kl_floor
        backward_weight = self.config.backward_weight if backward_weight is None else backward_weight
        target_counts = (backbone.segment_targets != IGNORE_INDEX).sum(-1)
        kl = floored_kl(kl, target_counts, kl_floor, backbone.segment_targets.shape[2])
        return negative_elbo(reconstruction, kl, count, kl_weight) + backward_weight * auxiliary / count


def _characters_to_average(target_counts, labels, num_items):
    """What the loss of a call with `target_counts` (B,) is divided by; `labels` where those are the targets."""
    if labels is None and num_items is not None:
        return num_items
    count = target_counts.sum().clamp(min=1)
    if num_items is None:
        return count
    # a <bos> after padding on the left is a label, but no target
    return num_items * count / (labels[:, 1:] != IGNORE_INDEX).sum().clamp(min=1)


def _without_padding(ids, attention_mask):
    """ids (B, T), −100 where `attention_mask`, of the same end or None, has padding."""
    if attention_mask is None:
        return ids
    return ids.masked_fill(attention_mask[:, -ids.shape[1] :] == 0, IGNORE_INDEX)


def _shift(x, fill):
    return nn.functional.pad(x[:, 1:], (0, 1), value=fill)


__all__ = ["BoustroForCausalLM", "BoustroModel", "BoustroPreTrainedModel"]
