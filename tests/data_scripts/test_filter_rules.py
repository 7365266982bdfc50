import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boustro.data_scripts.errors import DataError
from boustro.data_scripts.filters import (
    Blocklist,
    Boilerplate,
    Characters,
    Language,
    Length,
    Repetition,
    judge,
)

ENGLISH = "The old man went down to the river, and there he saw a boat with a red sail. "
CHINESE = "老人走到河边，看见一只红帆的小船，船上没有人，只有一只白色的鸟。"


@pytest.mark.parametrize(
    ("rule", "text", "reason"),
    [
        (Length(), " \n\u3000", "empty"),
        (Length(), " 字 ", None),
        (Length(min_characters=3), " ab ", "too_short"),
        (Length(min_characters=3), "三个字", None),
        (Characters(), "# # # title # and # more # of # it", "symbols"),
        (Characters(), "and … then … he … went … off …", "symbols"),
        (Characters(), "12.5 13.7 2024 1999 row 77 88 99", "digits"),
        (Characters(), "|---|---| x |---|---| y |---|---|", "few_letters"),
        (Characters(), "!!!???", None),  # too short to judge
        (Characters(), ENGLISH, None),
        (Characters(), CHINESE, None),
        (Characters(), "नमस्ते दुनिया, यह एक छोटा सा वाक्य है।", None),  # combining marks are no symbols
        (Repetition(), ("Buy now and save!\n" * 20), "repeated_lines"),
        (Repetition(), "点击这里立即购买，" * 40, "repeated_ngrams"),
        (Repetition(), ENGLISH * 10, "repeated_ngrams"),
        (Repetition(), "ha " * 20, None),  # too short to judge
        (Boilerplate(), "版权所有 未经许可不得转载\n沪ICP备12345678号", "boilerplate"),
        (Boilerplate(), "Please enable JavaScript to view this page.", "boilerplate"),
        (Boilerplate(), f"{ENGLISH * 3}\nAll rights reserved.", None),
        (Blocklist(("ass", "赌博")), "What an Ass.", "blocklist"),
        (Blocklist(("ass", "赌博")), "网络赌博平台", "blocklist"),
        (Blocklist(("ass", "赌博")), "first class", None),
    ],
)
def test_each_reason(rule, text, reason):
    assert rule(text) == reason


def test_verse_with_a_refrain_stays():
    strophes = [
        "The water is wide, I cannot get over,\nand neither have I wings to fly.\nGive me a boat that can carry two,",
        "There is a ship, and she sails the sea,\nshe's loaded deep as deep can be,\nbut not so deep as my love:",
        "I leaned my back against an oak,\nI thought it was a trusty tree,\nbut first it bent and then it broke,",
    ]
    assert Repetition()("".join(f"{strophe}\nand both shall row, my love and I.\n" for strophe in strophes)) is None


def test_the_first_reason_counts():
    assert judge("", [Length(), Characters()]) == "empty"
    assert judge(CHINESE, [Length(), Characters(), Repetition(), Boilerplate()]) is None


def test_language():
    pytest.importorskip("py3langid")
    rule = Language(("en", "zh"))
    assert rule(ENGLISH) is None and rule(CHINESE) is None
    assert rule("Der Zug kommt heute leider zehn Minuten später an als gewöhnlich.") == "language"
    assert rule("Oui.") is None  # too short to judge
    with pytest.raises(DataError, match=r"'english' is not known, expected some of .*, en, "):
        Language(("english",))


@given(
    st.sets(st.text("abA0 -!éÉßſİµΣσς漢字", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=1),
    st.text("abAB01 -!\néÉßẞſKıİμΜΣσς漢字", max_size=40),
)
def test_a_blocklist_finds_what_the_alternation_of_its_phrases_does(phrases, text):
    def bounded(phrase):
        before = "(?<![A-Za-z0-9])" if re.match("[A-Za-z0-9ſİ]", phrase) else ""
        after = "(?![A-Za-z0-9])" if re.search("[A-Za-z0-9ſİ]$", phrase) else ""
        return before + re.escape(phrase) + after

    plain = re.compile("|".join(map(bounded, phrases)), re.IGNORECASE)
    assert Blocklist(tuple(phrases))(text) == ("blocklist" if plain.search(text) else None)


def test_a_blocklist_knows_letters_that_share_a_capital():
    letters = [chr(code) for code in range(0x10000) if chr(code).isalpha()]
    for letter in letters:
        others = {other for other in (letter.lower(), letter.upper(), letter.title()) if len(other) == 1}
        assert all(Blocklist((other,))(letter) == "blocklist" for other in others)


def test_a_blocklist_file(write):
    assert Blocklist.from_file(write("list.txt", "\ufeffone\n\n two words \none\n")).phrases == ("one", "two words")
    with pytest.raises(DataError, match="holds no phrase"):
        Blocklist.from_file(write("empty.txt", "\n"))
    with pytest.raises(DataError, match=r"blocklist .*missing.txt cannot be read"):
        Blocklist.from_file("missing.txt")
    with pytest.raises(DataError, match=r"blocklist .*gb.txt is not UTF-8; it looks like GB18030"):
        Blocklist.from_file(
            write("gb.txt", "他们在网上赌博，我们不去。\n这是一个人的事情，你不要来。\n".encode("gb18030"))
        )
