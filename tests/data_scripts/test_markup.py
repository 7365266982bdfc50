import pytest

from boustro.data_scripts.markup import strip_markup


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("<p>one<br/>two</p><!-- x --><i>3 > 2</i>", "\none\ntwo\n3 > 2"),
        ("<DIV CLASS=a id = 'b'\n title=\"x > y\">one</DIV >", "\none\n"),
        ('<a href="u"class="c">link</a><input disabled value=3 /><td nowrap data-x>', "link"),
        ("<script>y<z && '<p>'</script>a<STYLE type=x>p {}</style >b<script src='x'>", "ab"),
        ("a<!-- <p> --- <b -->b<!---->c", "abc"),
        ('<!DOCTYPE html><?xml version="1.0"?><![endif]>text', "text"),
        ("fact<ref name=foo/><ref>{{cite}}</ref><nowiki>''</nowiki><references />", "fact{{cite}}''"),
        ('<page>\n<title>Anarchism</title>\n<text xml:space="preserve">', "\nAnarchism\n"),
        ("<unknown a=\"1\">b</unknown><x/><y:z key='v'>", "b"),  # no name is known, but nothing else is written so
        ("x<y && y>z", "x<y && y>z"),
        ("if x <y and z> w", "if x <y and z> w"),
        ("if a <b and c> d, i <s or t> u", "if a <b and c> d, i <s or t> u"),
        ("#include <stdio.h>, vector<int> v; List<String>", "#include <stdio.h>, vector<int> v; List<String>"),
        ("<li@example.com> wrote: a <- b <> c <= d </ e", "<li@example.com> wrote: a <- b <> c <= d </ e"),
        ("x <!y> z, a <? b >", "x <!y> z, a <? b >"),
        ("never ended <!-- a <b>c</b>", "never ended <!-- a c"),
        ('broken <a href="x', 'broken <a href="x'),
    ],
)
def test_tags_go_and_what_looks_like_one_stays(marked, plain):
    assert strip_markup(marked) == plain


@pytest.mark.parametrize("piece", ["<!-- a", "<a b='", '<a b="', "<a ", "<![a", "<?a ", "</script ", "<b -"])
def test_long_texts_of_what_is_never_ended(piece):
    assert strip_markup(piece * 50_000) == piece * 50_000
    assert strip_markup(f"<script>{piece}" * 50_000) == piece * 50_000
