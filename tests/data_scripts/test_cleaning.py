import pytest
from hypothesis import given
from hypothesis import strategies as st

from boustro.data_scripts.cleaning import VERBATIM, Cleaning, clean_batch, clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\r\nb\rc\n\r\n", "a\nb\nc\n\n"),
        ("\ufeffStart \ufeffmiddle", "Start middle"),
        ("a\x00b\x07c\x1bd\x7fe\tf", "abcde\tf"),
        ("page one\x0cpage two\x0bthree", "page one\npage two\nthree"),
        ("one\x1ctwo\x1dthree\x1efour\x1ffive", "one\ntwo\nthree\nfour five"),
        ("one\u2028two\u2029three", "one\u2028two\u2029three"),
        ("ภาษา\u200bไทย \u200bລາວ\u200b\u200bລາວ", "ภาษา\u200bไทย ລາວ\u200bລາວ"),  # between letters, and once
        ("ភាសា\x00\u200bខ្មែរ မြန်\u200bမာ", "ភាសា\u200bខ្មែរ မြန်\u200bမာ"),
        ("\u200bไทย\u200b, zero\u200bwidth 中\u200b\u200b文 ไทย\u200ba", "ไทย, zerowidth 中文 ไทยa"),
        ("cafe\u0301", "café"),
        ("e\x00\u0301", "é"),  # the control would have hindered composition
        ("\ud83d\ude00 \ud800!", "😀 \ufffd!"),
        ("你好，世界　（全角）", "你好，世界　（全角）"),
        ("👨‍👩‍👧 👍🏽 ❤️ می‌خواهم", "👨‍👩‍👧 👍🏽 ❤️ می‌خواهم"),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean


def test_every_rule_can_be_switched_off():
    raw = "\ufeffcafe\u0301 ﬁ\r\nâ€œhiâ€\x9d\x00 &lt;b&gt;<b>\u200b"
    assert clean_text(raw, VERBATIM) == raw
    assert clean_text("a\r\n", Cleaning(unify_line_ends=False, remove_controls=False)) == "a\r\n"
    assert clean_text("a\rb\r\n", Cleaning(unify_line_ends=False)) == "a\rb\r\n"
    assert clean_text("cafe\u0301", Cleaning(normalization="none")) == "cafe\u0301"


@pytest.mark.parametrize(
    ("rules", "raw", "clean"),
    [
        ({}, "sÃ£o, â€œhiâ€\x9d\n中文 schön", "são, “hi”\n中文 schön"),
        ({}, "ä½\xa0å¥½", "你好"),
        ({"unescape_entities": True}, "&lt;b&gt; &amp; &#20013;&#x6587;", "<b> & 中文"),
        ({"strip_markup": True}, "<p>one<br/>two</p><!-- x --><script>y<z</script> a < b, <i>3 > 2</i>",
         "\none\ntwo\n a < b, 3 > 2"),
        ({"han_script": "simplified"}, "漢字與頭髮", "汉字与头发"),
        ({"han_script": "traditional"}, "汉字", "漢字"),
        ({"width": "letters"}, "Ａ１，！　ｂ", "A1，！　b"),
        ({"width": "all"}, "Ａ１，！　ｂ", "A1,! b"),
        ({"unescape_entities": True}, "a&shy;b&#8203;c&#13;&#10;d&#xfeff;", "abc\nd"),
        ({"join_han": True}, "中\u00a0文 中\u3000文", "中文中文"),
        ({"join_han": True}, "床 前 明月 ， 光 ok 好 a", "床前明月，光 ok 好 a"),
        ({"tidy_spaces": True}, "a\u00a0b \t\n\n\n\n c  d ", "a b\n\n c  d"),
        ({"normalization": "NFKC"}, "ﬁ Ａ", "fi A"),
    ],
)  # fmt: skip
def test_rules(rules, raw, clean):
    assert clean_text(raw, Cleaning(**rules)) == clean


@given(st.text(st.characters(codec=None) | st.sampled_from("\u200bกລ\x0c\x1f\x00\r\n")))
def test_clean_text_is_encodable_and_apart_from_mojibake_idempotent(text):
    clean_text(text).encode("utf-8")
    rules = Cleaning(fix_mojibake=False)  # nonsense that lost a control may look like mojibake of another kind
    cleaned = clean_text(text, rules)
    assert clean_text(cleaned, rules) == cleaned


def test_batches_say_which_rule_changed_a_row():
    batch = clean_batch({"text": ["a\r\n", None, "cafe\u0301\x07"], "separator": ["\r\n", "", "\n"]})
    assert batch == {
        "text": ["a\n", "", "café"],
        "changes": [["unify_line_ends"], [], ["remove_controls", "normalization"]],
        "separator": ["\n", "", "\n"],
    }
