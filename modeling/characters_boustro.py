"""Whole characters in generation: bytes that would leave half a character are not drawn."""

import torch
from transformers import LogitsProcessor, MaxTimeCriteria

# BoustroTokenizer gives the bytes 0x00 to 0xFF these ids
FIRST_BYTE_ID = 3
LAST_BYTE_ID = FIRST_BYTE_ID + 255

# What may come next, as ranges of bytes and the state each leads to (Unicode Standard 17.0, table 3-7); state 0 stands
# between characters.
BETWEEN = 0
TRANSITIONS = (
    (
        (0x00, 0x7F, BETWEEN),
        (0xC2, 0xDF, 1),
        (0xE0, 0xE0, 4),
        (0xE1, 0xEC, 2),
        (0xED, 0xED, 5),
        (0xEE, 0xEF, 2),
        (0xF0, 0xF0, 6),
        (0xF1, 0xF3, 3),
        (0xF4, 0xF4, 7),
    ),
    ((0x80, 0xBF, BETWEEN),),
    ((0x80, 0xBF, 1),),
    ((0x80, 0xBF, 2),),
    ((0xA0, 0xBF, 1),),
    ((0x80, 0x9F, 1),),
    ((0x90, 0xBF, 2),),
    ((0x80, 0x8F, 2),),
)
LONGEST = 4  # bytes of a character


def _following() -> list[list[int]]:
    """For each state, the state after each id up to the last byte; every other id leads to `BETWEEN`."""
    table = [[BETWEEN] * (LAST_BYTE_ID + 1) for _ in TRANSITIONS]
    for state, ranges in enumerate(TRANSITIONS):
        for first, last, after in ranges:
            table[state][FIRST_BYTE_ID + first : FIRST_BYTE_ID + last + 1] = [after] * (last - first + 1)
    return table


_FOLLOWING = _following()


def character_states(input_ids: torch.LongTensor) -> list[int] | None:
    """The state of each row after its last ids, input_ids being (B, T); None if all stand between characters."""
    rows = input_ids[:, 1 - LONGEST :].tolist()
    states = [_state(ids) if ids and FIRST_BYTE_ID + 0x80 <= ids[-1] <= LAST_BYTE_ID else BETWEEN for ids in rows]
    return states if any(states) else None


def _state(ids):
    state = BETWEEN
    for i in ids:
        state = _FOLLOWING[state][i] if i <= LAST_BYTE_ID else BETWEEN
    return state


def continues_character(ids):
    """Whether ids, a tensor, an array or a number, are bytes that go on with a character: 0x80 to 0xBF."""
    return (ids >= FIRST_BYTE_ID + 0x80) & (ids < FIRST_BYTE_ID + 0xC0)


class WholeCharacters(LogitsProcessor):
    r"""
    Bans the byte ids that no UTF-8 text could have next, and any other id while a character lacks bytes. A character
    that would not be finished by the greatest length is not begun either, so that a generated text always ends with a
    whole character (unless something else than a length or an end mark stops it).

    Args:
        vocab_size: V.
        max_length: characters of prompt and new text together, or None for no limit.
        device: of the ids.
        max_time: seconds from now after which no longer character is begun, so that all rows soon stand between
            characters; or None for no limit.
    """

    supports_continuous_batching = False

    def __init__(self, vocab_size: int, max_length: int | None, device: torch.device, max_time: float | None = None):
        size = max(vocab_size, LAST_BYTE_ID + 1)
        self.max_length = max_length
        self.clock = None if max_time is None else MaxTimeCriteria(max_time)
        bias = torch.full((len(TRANSITIONS), size), -torch.inf)
        bias[BETWEEN, :FIRST_BYTE_ID] = bias[BETWEEN, LAST_BYTE_ID + 1 :] = 0
        for state, ranges in enumerate(TRANSITIONS):
            for first, last, _ in ranges:
                bias[state, FIRST_BYTE_ID + first : FIRST_BYTE_ID + last + 1] = 0
        # for each room, by state: (states, V)
        self.biases = [_with_room(bias, room)[:, :vocab_size].to(device) for room in range(LONGEST + 1)]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores (B, V) with −∞ for what cannot come next after input_ids (B, T)."""
        room = LONGEST if self.max_length is None else min(self.max_length - input_ids.shape[1], LONGEST)
        if self.clock is not None and bool(self.clock(input_ids, scores)[0]):
            room = min(room, 1)
        bias = self.biases[max(room, 0)]
        states = character_states(input_ids)
        if states is None:
            return scores + bias[BETWEEN]
        return scores + bias.index_select(0, torch.tensor(states, device=scores.device))


def _with_room(bias, room):
    """The bias (states, V) if `room` ids can still come: between characters, leads of longer ones are banned."""
    bias = bias.clone()
    for first, length in ((0xC2, 2), (0xE0, 3), (0xF0, 4)):
        if 0 < room < length:
            bias[BETWEEN, FIRST_BYTE_ID + first : LAST_BYTE_ID + 1] = -torch.inf
    return bias


class WholeCharactersTime(MaxTimeCriteria):
    """`max_time`, which lets every row finish the character that it is writing: at most three more ids."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        """(B,) bool, all true or none."""
        stop = super().__call__(input_ids, scores, **kwargs)
        return stop if character_states(input_ids) is None else torch.zeros_like(stop)
