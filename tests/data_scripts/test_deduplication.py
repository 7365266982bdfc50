import numpy as np
import pytest

from boustro.data_scripts.deduplication import (
    SHORTEST,
    fingerprint,
    group_exact,
    group_near,
    mark_batch,
    normal_form,
    signatures,
)
from boustro.data_scripts.ngrams import ngram_hashes

ENGLISH = ["".join(word) for word in np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (900, 5))]
CHINESE = [chr(0x4E00 + 7 * number) for number in range(900)]


def document(rng, alphabet, words=60):
    joiner = " " if alphabet is ENGLISH else ""
    return joiner.join(rng.choice(alphabet, size=words * (1 if joiner else 5)))


def edited(rng, text, share=0.05):
    characters = list(text)
    for place in rng.choice(len(text), round(share * len(text)), replace=False):
        characters[place] = (text[rng.integers(len(text))], "", characters[place] * 2)[rng.integers(3)]
    return "".join(characters)


def groups_of(texts, threshold=0.5):
    exact = group_exact(np.array([fingerprint(text) for text in texts]))
    return group_near(signatures(texts), np.array([len(normal_form(text)) for text in texts]), exact, threshold)


def test_ngrams_are_those_of_each_text():
    texts = ["abcdef", "", "ab", "你好世界啊呀", "bcdef"]
    hashes, bounds = ngram_hashes(texts, 5)
    assert np.diff(bounds).tolist() == [2, 1, 1, 2, 1]
    alone = [ngram_hashes([text], 5)[0].tolist() for text in texts]
    assert hashes.tolist() == [value for row in alone for value in row]
    assert hashes[1] == hashes[-1] and len(set(hashes.tolist())) == 6  # "bcdef" twice
    assert [len(part) for part in ngram_hashes([], 5)] == [0, 1]


def test_copies_are_equal_but_for_white_space_and_width():
    assert fingerprint("A  b\n c ") == fingerprint("Ａ b c")
    assert len({fingerprint(text) for text in ("a b", "A b", "ab", "a, b")}) == 4


def test_the_share_of_equal_values_estimates_the_similarity():
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 150)))
    one, other = letters[:110], letters[40:]
    sets = [{text[start : start + 5] for start in range(len(text) - 4)} for text in (one, other)]
    similarity = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    first, second = signatures([one, other])
    assert abs((first == second).mean() - similarity) < 0.1


@pytest.mark.parametrize("alphabet", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_near_copies_are_found_and_nothing_else(alphabet):
    rng = np.random.default_rng(0)
    documents = [document(rng, alphabet) for _ in range(150)]
    texts = documents + [edited(rng, text) for text in documents[:50]]
    groups = groups_of(texts, 0.5)
    assert np.array_equal(groups[:150], np.arange(150))
    assert (groups[150:] == np.arange(50)).mean() >= 0.95


def test_short_texts_are_like_their_equals_alone():
    assert groups_of(["短", "短文", "短", "ab", "a b", ""]).tolist() == [0, 1, 0, 3, 4, 5]
    lines = [f"Chapter {number}" for number in range(1, 41)]
    lines += [
        f"{who} was born in {year}, in a small house near the river." for who in ("He", "She") for year in (12, 13)
    ]
    lines += [f"话说第{number}回，{'宝玉来了，' * 8}且听下回分解。" for number in range(1, 30)]
    assert groups_of(lines).tolist() == list(range(len(lines)))
    assert groups_of([*lines, *lines]).tolist() == list(range(len(lines))) * 2


@pytest.mark.parametrize("filler", ["a", "好"], ids=["ascii", "three bytes"])
def test_near_copies_begin_at_200_bytes_of_the_normal_form(filler):
    rng = np.random.default_rng(0)
    alphabet = ENGLISH if filler == "a" else CHINESE
    text = normal_form(document(rng, alphabet))
    while len(text.encode("utf-8")) > SHORTEST - 2:
        text = text[:-1]
    text += "x" * (SHORTEST - len(text.encode("utf-8")))
    longer = ["  " + text, text[:-1] + "y"]
    assert {len(normal_form(one).encode("utf-8")) for one in longer} == {SHORTEST}
    assert groups_of(longer).tolist() == [0, 0]
    shorter = ["  " + text[1:], text[1:-1] + "y"]
    assert max(len(normal_form(one).encode("utf-8")) for one in shorter) < SHORTEST
    assert groups_of(shorter).tolist() == [0, 1]


def test_a_text_of_which_another_is_a_part_is_no_copy():
    rng = np.random.default_rng(2)
    one, more = document(rng, ENGLISH, 100), document(rng, ENGLISH, 100)
    texts = [one, f"{one} {more[:250]}", f"{one} {more[:25]}"]  # 600 characters and 250 or 25 more
    first, second = signatures(texts[:2])
    assert (first == second).mean() > 0.5
    assert groups_of(texts).tolist() == [0, 1, 0]


def test_chains_of_copies_become_one_group():
    rng = np.random.default_rng(1)
    chain = [document(rng, CHINESE)]
    for _ in range(6):
        chain.append(edited(rng, chain[-1]))
    assert set(groups_of([document(rng, CHINESE), *chain]).tolist()) == {0, 1}


def test_a_bucket_of_unlike_rows_is_searched_through():
    rows = np.random.default_rng(0).integers(0, 2**32, (6, 256), dtype=np.uint32)
    rows[3:] = rows[:3]  # three pairs of copies
    rows[:, :4] = 7  # all six share a band
    assert group_near(rows, np.full(6, 300)).tolist() == [0, 1, 2, 0, 1, 2]


def test_marks_of_a_batch():
    marks = mark_batch({"text": ["one text", "one  text", "another"]})
    assert marks["fingerprint"][0] == marks["fingerprint"][1] != marks["fingerprint"][2]
    assert [len(signature) for signature in marks["signature"]] == [1024] * 3
    assert marks["length"] == [8, 8, 7]
    assert set(mark_batch({"text": ["a"]}, near=False)) == {"fingerprint"}
