"""The fast decoding loop: one character costs what its arithmetic costs."""

from functools import cache, partial

import torch
from torch import nn
from torch.nn import functional as F
from transformers.generation import EosTokenCriteria, MaxLengthCriteria

from .cache_boustro import BoustroCache
from .planning_boustro import PlanInputs
from .products_boustro import Products, lay_out, product


class CharacterStep:
    r"""
    `BoustroForCausalLM.forward` for one character a row, from a cache's state and without the work a general call
    needs: fused cells on buffers made once in place of sequences, and a place in the segment that is an ordinary
    number, because it is the same in all rows.

    `step(ids)`: (B,) → logits (B, V). `write_back()` moves the cache on by the steps taken.

    Args:
        model: a `BoustroForCausalLM`.
        cache: the state after a prompt; `shares_place(cache)` must hold.
        inputs: latents, mask and noise for the segments to come.
        characters: how many steps are expected at most; weights are laid out anew where that pays.
    """

    def __init__(self, model: nn.Module, cache: BoustroCache, inputs: PlanInputs, characters: int):
        backbone = model.model
        self.cache, self.inputs, self.taken = cache, inputs, 0
        state = cache.context_state[0]
        products = Products(len(state), characters)
        self.embedding = backbone.embedding.weight.detach()
        # a table of what every id adds to the gates takes one product of V rows and spares one a step
        rows = characters * max(len(state), ROWS_OF_A_PRODUCT)
        self.reads_ids = state.device.type == "cpu" and rows >= model.config.vocab_size
        self.context = _cells(
            backbone.context, cache.context_state, products, self.embedding if self.reads_ids else None
        )
        self.generator = _cells(backbone.generator, cache.generator_state, products)
        self.head = products.linear(model.lm_head)
        self.planner = getattr(backbone, "planner", None)
        if self.planner is not None:
            alignment, self.length = self.planner.alignment, self.planner.segment_length
            # query · key = context · (queryᵀ key) · plan: the plan itself serves as its keys
            query = _wide(alignment.key.weight).t() @ _wide(alignment.query.weight)
            layout = products.layout(query)
            self.query = product(lay_out(query * cache.plan.shape[-1] ** -0.5, layout), layout)
            self.plan_skip = products.linear(backbone.plan_skip) if model.config.plan_skip else None
            self.distance_bias, self.max_distance = _wide(alignment.distance_bias), alignment.max_distance
            self.place, self.segment = int(cache.position[0]), cache.segment
            self._hold(cache.plan)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """The next logits, (B, V), after the characters `ids` (B,); good until the next call."""
        context = ids if self.reads_ids else F.embedding(ids, self.embedding)
        for cell in self.context:
            context = cell(context)
        hidden = context
        if self.generator:
            inputs, direct = (context,), context
            if self.planner is not None:
                inputs = (context, self._aligned(context))
                if self.plan_skip is not None:
                    direct = self.plan_skip(inputs[1], context)
            for cell in self.generator:
                hidden = cell(*inputs)
                inputs = (hidden,)
            hidden = hidden + direct
        self.taken += 1
        return self.head(hidden)

    def write_back(self) -> None:
        """Writes the state reached into the cache."""
        cache = self.cache
        cache.context_state, cache.generator_state = _states(self.context), _states(self.generator)
        cache.seen_tokens += self.taken
        if self.planner is not None:
            cache.plan, cache.segment = self.plan.clone(), self.segment.clone()
            cache.position = torch.full_like(cache.position, self.place)

    def _aligned(self, context):
        """The aligned plan (B, Hb) for this place; a new segment is planned first where one starts."""
        if self.place == 0:
            self._hold(self.planner.plan_segment(context[:, None], self.segment, self.inputs))
            self.segment = self.segment + 1
        # Alignment.forward for one query
        bias = self.distance_bias.narrow(0, self.max_distance - self.place, self.length)
        score = torch.baddbmm(bias, self.query(_wide(context)).unsqueeze(1), self.keys)
        self.place = (self.place + 1) % self.length
        aligned = torch.bmm(score.softmax(-1), self.values).squeeze(1)
        return aligned if aligned.dtype is context.dtype else aligned.to(context.dtype)

    def _hold(self, plan):
        # a product for each row is faster in float32, whatever the weights are
        self.plan, self.values = plan, _wide(plan)
        self.keys = self.values.transpose(1, 2)


def _wide(x):
    """In float32 at least."""
    # a call that changes nothing costs a microsecond
    return x if x.dtype is torch.float32 else x.to(torch.promote_types(x.dtype, torch.float32))


ROWS_OF_A_PRODUCT = 4  # a product of fewer rows takes no less time: the weights have to be read


def _cells(stack, state, products, embedding=None):
    """A cell for each layer of an `LSTMStack`, from `state` on; with `embedding` the first one reads ids."""
    cells = []
    for i, layer in enumerate(stack.layers):
        before = tuple(part[:, i].clone() for part in state)
        if layer.weight_hh_l0.device.type != "cpu":
            cells.append(_LibraryCell(layer, before))
        else:
            cells.append(_Cell(layer, before, products, embedding if i == 0 else None))
    return cells


def _states(cells):
    """The pair (h, c) of cells, each (B, layers, H), as a cache holds it."""
    return tuple(torch.stack(part, 1) for part in zip(*((c.hidden, c.memory) for c in cells), strict=True)) or None


class _LibraryCell:
    """A GPU has a kernel for the whole cell."""

    def __init__(self, layer, state):
        self.weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        self.hidden, self.memory = state

    def __call__(self, *inputs):
        x = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
        self.hidden, self.memory = torch.lstm_cell(x, (self.hidden, self.memory), *self.weights)
        return self.hidden


class _Cell:
    r"""
    An LSTM cell with one product, of inputs and state, for all gates. With `embedding` (V, E) it reads ids (B,), whose
    share in the gates is looked up in a table (V, 4H). `hidden` is h (B, H); it moves on in place, beside
    the inputs of the product.

    On a CPU a sigmoid takes a sixth of the time of a tanh, so tanh x = 1 − 2σ(−2x) is used: −2 is a factor of the
    candidate's weights, and c is kept as −2c, in float32 at least.
    """

    def __init__(self, layer, state, products, embedding=None):
        self.hidden, memory = state
        self.scaled_memory = -2 * _wide(memory)
        self.parts, size = None, layer.input_size
        self.gates = memory.new_empty(len(memory), 4 * memory.shape[1], dtype=self.scaled_memory.dtype)
        self.admit, self.forget, self.candidate, self.emit = self.gates.chunk(4, 1)
        if embedding is None:
            self.factors = torch.cat([memory.new_empty(len(memory), size), self.hidden], 1)
            self.hidden = self.factors[:, size:]
        sources = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        sources = tuple(x.detach() for x in sources) + (() if embedding is None else (embedding,))
        layout = products.layout(sources[1], 4 * memory.shape[1] * (self.hidden.shape[1] + (embedding is None) * size))
        self.table, bias, weight = products.made(layer, (layout,), sources, partial(_gate_weights, layout))
        self.product = product(weight, layout, bias)

    @property
    def memory(self):
        """c (B, H)."""
        return (self.scaled_memory / -2).to(self.hidden.dtype)

    def __call__(self, *inputs):
        """h (B, H) after the character whose parts `inputs` are."""
        if self.table is None:
            if self.parts is None:
                *self.parts, _ = self.factors.split([part.shape[1] for part in (*inputs, self.hidden)], 1)
            for part, found in zip(self.parts, inputs, strict=True):
                part.copy_(found)
            gates = self.product(self.factors)
        else:
            gates = self.product(self.hidden, self.table.index_select(0, inputs[0]))
        torch.sigmoid(_wide(gates), out=self.gates)
        # c ← forget · c + admit · (1 − 2 candidate), h = emit · (1 − 2 σ(−2c))
        memory = self.scaled_memory.mul_(self.forget).addcmul_(self.admit, self.candidate, value=4)
        squashed = memory.add_(self.admit, alpha=-2).sigmoid()
        return torch.addcmul(self.emit, self.emit, squashed, value=-2, out=self.hidden)


def _gate_weights(layout, weight_ih, weight_hh, bias_ih, bias_hh, embedding=None):
    """What a `_Cell` multiplies with: a table of the ids' share in the gates, the bias and the weight, laid out. The
    bias is in the table if there is one."""
    bias = _scale_candidate(bias_ih + bias_hh)
    if embedding is None:
        return None, bias, lay_out(_scale_candidate(torch.cat([weight_ih, weight_hh], 1)), layout)
    table = F.linear(embedding, _scale_candidate(weight_ih.clone()), bias)
    return table, None, lay_out(_scale_candidate(weight_hh.clone()), layout)


def _scale_candidate(gates):
    """Gates (4H, …) in the order i, f, g, o with g times −2, in place."""
    gates.chunk(4)[2].mul_(-2)
    return gates


def shares_place(cache: BoustroCache, mask: torch.Tensor | None, new: int, prompted: bool) -> bool:
    r"""
    Whether all rows will stand at the same place of a segment after the next call, as `CharacterStep` needs.

    Args:
        cache: the state so far, empty at the start of a text.
        mask: (B, T), 0 on padding, or None.
        new: characters of the next call.
        prompted: whether segments are counted from the prompt's end, so that it ends with a new segment in every row.
    """
    real = None if mask is None else mask[:, -new:].bool()
    if prompted:
        return real is None or bool(real.any(1).all())
    places = cache.position
    return (real is None or bool(real.all())) and (places is None or bool((places == places[0]).all()))


def decode(*arguments) -> dict:
    """`_decode` in inference mode, whose tensors are handed over as ordinary ones."""
    with torch.inference_mode():
        found = _decode(*arguments)
    scores, logits = ((None if kept is None else tuple(t.clone() for t in kept)) for kept in found[1:])
    return {"sequences": found[0].clone(), "scores": scores, "logits": logits}


def _decode(
    step: CharacterStep,
    ids: torch.Tensor,
    logits: torch.Tensor,
    logits_processor,
    stopping_criteria,
    generation_config,
    streamer,
) -> tuple[torch.Tensor, list | None, list | None]:
    r"""
    The loop of `GenerationMixin._sample`, greedy or sampling, with the same draws from the random generator.

    Args:
        step: the model, at the end of the prompt.
        ids: (B, T), the prompt.
        logits: (B, V), for the character after it.

    Returns sequences (B, T + new), and scores and logits, lists of (B, V), where the configuration asks for them,
    else None.
    """
    config = generation_config
    kept_scores = [] if config.return_dict_in_generate and config.output_scores else None
    kept_logits = [] if config.return_dict_in_generate and config.output_logits else None
    stop = _StopTest(stopping_criteria, ids)
    text = _Text(ids, stopping_criteria.max_length)
    while True:
        if kept_logits is not None or logits.dtype is not torch.float32:
            logits = logits.to(copy=True, dtype=torch.float32)
        scores = logits
        # `LogitsProcessorList` would look every processor's signature up again
        for processor in logits_processor:
            scores = processor(text.ids, scores)
        if kept_scores is not None:
            kept_scores.append(scores)
        if kept_logits is not None:
            kept_logits.append(logits)
        tokens = _draw(scores.softmax(-1)) if config.do_sample else scores.argmax(-1)
        tokens = stop.pad_finished(tokens, config._pad_token_tensor)
        text.append(tokens)
        if streamer is not None:
            streamer.put(tokens.cpu())
        if stop(text.ids, tokens, kept_scores):
            break
        logits = step.step(tokens)
    if streamer is not None:
        streamer.end()
    return text.ids, kept_scores, kept_logits


def _draw(probabilities):
    """What `torch.multinomial` draws from probabilities (B, V) for the same state of the random generator: (B,)."""
    if probabilities.device.type != "cpu":
        return torch.multinomial(probabilities, 1).squeeze(1)
    # the race of exponential clocks in multinomial, without its several passes of checks: the highest p / clock wins
    if probabilities.numel() >= MANY_CLOCKS and _clocks_are_uniform():
        best, tokens = probabilities.div_(_negative_clocks(probabilities.shape)).min(-1)
    else:
        best, tokens = probabilities.div_(torch.empty_like(probabilities).exponential_()).max(-1)
    if any(value != value for value in best.tolist()):
        raise RuntimeError("A character has no probability: the logits or a logits processor gave nan or only −inf.")
    return tokens


MANY_CLOCKS = 2**10  # from so many on `_negative_clocks` take less time than `exponential_`


def _negative_clocks(shape, generator=None):
    """Minus what `exponential_` draws where `_clocks_are_uniform`, in less than half the time."""
    uniform = torch.empty(shape, dtype=torch.float64).uniform_(generator=generator)
    return uniform.neg_().log1p_().float()


@cache
def _clocks_are_uniform():
    """Whether `exponential_` takes the logarithm of uniform numbers one by one, as it does where MKL has no kernel."""
    one, other = (torch.Generator().manual_seed(0) for _ in range(2))
    clocks = torch.empty(MANY_CLOCKS).exponential_(generator=one)
    return torch.equal(-clocks, _negative_clocks(clocks.shape, other))


FIRST_ROOM = 2**16  # places for new characters at first: a limit far away costs no memory


class _Text:
    """The ids so far, in a buffer that grows."""

    def __init__(self, ids, max_length):
        room = FIRST_ROOM if max_length is None else min(max(max_length - ids.shape[1], 1), FIRST_ROOM)
        self.buffer = torch.cat([ids, ids.new_zeros(len(ids), room)], 1)
        self.ids = ids

    def append(self, tokens):
        length = self.ids.shape[1]
        if length == self.buffer.shape[1]:
            self.buffer = torch.cat([self.buffer, torch.zeros_like(self.buffer)], 1)
        self.buffer.select(1, length).copy_(tokens)
        self.ids = self.buffer.narrow(1, 0, length + 1)


class _StopTest:
    """`StoppingCriteriaList` over the loop; length and end mark, which nearly every call has, without its tensors."""

    def __init__(self, criteria, ids):
        self.max_length, self.end_ids, self.others = None, None, []
        for criterion in criteria:
            if type(criterion) is MaxLengthCriteria and criterion.max_position_embeddings is None:
                self.max_length = criterion.max_length
            elif type(criterion) is EosTokenCriteria and self.end_ids is None:
                self.end_ids = criterion.eos_token_id.to(ids.device)
            else:
                self.others.append(criterion)
        self.finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        self.pads = any(hasattr(criterion, "eos_token_id") for criterion in criteria)
        self.may_finish_early = self.end_ids is not None or bool(self.others)

    def pad_finished(self, tokens, pad_token_id):
        """Rows that have ended go on with padding, where there is an end mark."""
        if not self.pads:
            return tokens
        return torch.where(self.finished, pad_token_id.to(tokens.device), tokens)

    def __call__(self, ids, tokens, scores):
        """Whether every row has ended, after `tokens` (B,), the last column of `ids`."""
        if self.max_length is not None and ids.shape[1] >= self.max_length:
            return True
        if not self.may_finish_early:
            return False
        if self.end_ids is not None:
            self.finished |= tokens == self.end_ids if len(self.end_ids) == 1 else torch.isin(tokens, self.end_ids)
        for criterion in self.others:
            self.finished |= criterion(ids, None if scores is None else tuple(scores))
        return bool(self.finished.all())
