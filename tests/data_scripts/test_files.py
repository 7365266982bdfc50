import pytest

from boustro.data_scripts.encoding_guess import guess_encoding
from boustro.data_scripts.errors import DataError
from boustro.data_scripts.files import builder_for, check_contents, drop_empty, find_files

CHINESE = "子曰：“学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？”\n这是一个简单的例子。\n"
TRADITIONAL = "子曰：「學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？人不知而不慍，」\n這是一個簡單的例子。\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"
KOREAN = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 이것은 예이다.\n"
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n"
FRENCH = "L'été dernier, le garçon était naïf et déjà très fatigué.\n"
ENGLISH = "It is a truth universally acknowledged, that a single man must want a wife.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "GB18030"),
        ("你好世界", "GB18030"),
        (ENGLISH + CHINESE, "GB18030"),
        (TRADITIONAL, "BIG5"),
        (JAPANESE, "SHIFT_JIS"),
        (JAPANESE, "EUC-JP"),
        (KOREAN, "EUC-KR"),
        (RUSSIAN, "CP1251"),
        (FRENCH, "CP1252"),
        ("café\n", "CP1252"),
        (CHINESE, "UTF-16"),
        (ENGLISH, "UTF-16"),
        (CHINESE, "UTF-16LE"),
        (ENGLISH, "UTF-16LE"),
        (ENGLISH, "UTF-16BE"),
        (ENGLISH, "UTF-32"),
    ],
)
def test_a_wrong_encoding_is_named(write, text, encoding):
    path = write("a.txt", text.encode(encoding))
    with pytest.raises(DataError, match=f"a.txt is not UTF-8; it looks like {encoding}. .*iconv -f {encoding} "):
        check_contents([path], is_text=True)


def test_a_guess_stands_a_cut_in_the_middle_of_a_character():
    assert guess_encoding(CHINESE.encode("GB18030")[:-2]) == "GB18030"


def test_the_advice_quotes_the_path(write):
    path = write("红楼 梦.txt", CHINESE.encode("GB18030"))
    with pytest.raises(DataError, match=r"红楼 梦.txt' > '.*红楼 梦.utf8.txt'"):
        check_contents([path], is_text=True)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00", ENGLISH.encode() + b"\x00"])
def test_a_binary_file(write, content):
    path = write("a.txt", content)
    with pytest.raises(DataError, match=f"holds a NUL byte at byte {content.index(0)}: it is a binary file"):
        check_contents([path], is_text=True)


def test_bytes_of_no_encoding(write):
    path = write("a.txt", bytes(range(1, 256)))
    with pytest.raises(DataError, match=r"is not UTF-8 text: byte 0x80 at byte 127 .line 2."):
        check_contents([path], is_text=True)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("天地\n世界".encode()[:-1], "byte 0xE7 at byte 10 .line 2., unexpected end of data"),
        ("天地\n玄".encode() + b"\xff" + "黄".encode(), "byte 0xFF at byte 10 .line 2., invalid start byte"),
    ],
)
def test_damaged_utf8(write, content, place):
    path = write("a.txt", content)
    with pytest.raises(DataError, match=f"a.txt is damaged UTF-8: {place}.*iconv -c -f UTF-8 "):
        check_contents([path], is_text=True)


def test_places_are_right_behind_the_first_block(write):
    line = "世界" * 500 + "\n"
    lines = (3 << 20) // len(line.encode())
    path = write("a.txt", line.encode() * lines + b"\xff")
    with pytest.raises(DataError, match=f"at byte {lines * len(line.encode())} .line {lines + 1}."):
        check_contents([path], is_text=True)


def test_only_the_first_block_of_a_stream_is_checked(write):
    good = write("good.txt", "世" * (1 << 20))
    assert check_contents([good], is_text=True, whole=False)
    check_contents([write("late.txt", b"a" * (1 << 20) + b"\xff")], is_text=True, whole=False)


def test_the_key_follows_the_contents(write):
    one, two, same = write("1.txt", "one"), write("2.txt", "two"), write("3.txt", "one")
    keys = [check_contents([path], is_text=True) for path in (one, two, same)]
    assert keys[0] == keys[2] != keys[1]


def test_globs_are_sorted_and_nothing_comes_twice(write, tmp_path):
    b, a, c = write("b.txt", "b"), write("a.txt", "a"), write("c.md", "c")
    (tmp_path / "d.txt").mkdir()
    assert find_files([b, str(tmp_path / "*.txt"), c]) == [b, a, c]


def test_a_file_with_the_characters_of_a_glob(write):
    path = write("[1] what?.txt", "text")
    assert find_files([path]) == [path]


def test_a_missing_file():
    with pytest.raises(DataError, match=r"nowhere.txt does not exist \(looked for in .*check the path"):
        find_files(["nowhere.txt"])


def test_a_glob_without_a_match(tmp_path):
    with pytest.raises(DataError, match=r"No file matches .*/\*.txt"):
        find_files([str(tmp_path / "*.txt")])


def test_a_directory(tmp_path):
    with pytest.raises(DataError, match=r"is a directory, expected files: give a glob such as .*\*.txt"):
        find_files([str(tmp_path)])


def test_an_unknown_extension():
    assert builder_for(["A.TXT", "b.txt"]) == "text"
    assert builder_for(["train.1.en", "corpus", "notes.md"]) == "text"
    with pytest.raises(DataError, match=r"a.docx has the extension .docx, expected plain text .*: save it as plain"):
        builder_for(["a.docx"])
    with pytest.raises(DataError, match=r"one object a line"):
        builder_for(["a.json"])


def test_mixed_kinds():
    with pytest.raises(DataError, match=r"of different kinds, for example a.txt and b.csv"):
        builder_for(["a.txt", "b.csv"])


def test_empty_files(write, caplog):
    empty, full = write("empty.txt", ""), write("full.txt", "x")
    assert drop_empty([empty, full]) == [full]
    assert "Skipped 1 empty file(s)" in caplog.text and "empty.txt" in caplog.text
    with pytest.raises(DataError, match=r"empty.txt is empty \(0 bytes\)"):
        drop_empty([empty])
