"""HTML and wiki mark-up out of a text, in time that grows with its length, whatever is left open.

    strip_markup("<p>one<br/>two <b>3</b> if x < y</p>")  # "\none\ntwo 3 if x < y\n"

A tag has a known name, or is written as nothing but a tag is: </x>, <x/>, <x a="b">. What only looks like one, such as
x<y && y>z or vector<int>, stays; so does a comment without an end.
"""

import re

import regex

_BLOCKS = {"br", "p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "section", "article"}
_HTML = """
    a abbr acronym address applet area article aside audio b base basefont bdi bdo big blink blockquote body br button
    canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed
    fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe
    img input ins kbd label legend li link main map mark marquee menu meta meter nav nobr noframes noscript object ol
    optgroup option output p param picture pre progress q rb rp rt rtc ruby s samp script search section select slot
    small source span strike strong style sub summary sup svg table tbody td template textarea tfoot th thead time
    title tr track tt u ul var video wbr
"""
_WIKI = """
    categorytree ce chem gallery graph hiero imagemap includeonly indicator inputbox mapframe maplink math noinclude
    nowiki onlyinclude pagelist poem ref references score syntaxhighlight tabber templatestyles timeline translate
    comment contributor dbname format generator id ip mediawiki minor model namespace namespaces ns origin page
    parentid redirect restrictions revision sha1 siteinfo sitename text timestamp upload username
"""  # extensions of MediaWiki, then its dumps
_NAMES = frozenset((_HTML + _WIKI).split())
# Attributes that may stand without a value; any other word without one is taken for text (a <b and c> d).
_FLAGS = """
    allowfullscreen async autofocus autoplay checked compact controls default defer disabled download formnovalidate
    hidden inert inline ismap itemscope loop multiple muted nomodule noshade novalidate nowrap open playsinline
    readonly required reversed selected
"""
_NAMED = r"[A-Za-z_:@][\w:.@-]*+"
_VALUE = r"""(?:"[^"]*+"|'[^']*+'|[^\s"'=<>`]++)"""
_ATTRIBUTE = rf"(?:{_NAMED}\s*+=\s*+{_VALUE}|(?:{'|'.join(_FLAGS.split())})(?![\w:.@-])|\w++-[\w-]++)"
_MARK = regex.compile(
    rf"""<(?:
        (?P<end>/?)(?P<name>[A-Za-z][\w:.-]*+)(?P<rest>(?:(?:[\s/]++|(?<=["'])){_ATTRIBUTE})*+[\s/]*+)>
      | (?P<comment>!--)
      | !(?:DOCTYPE|ELEMENT|ATTLIST|ENTITY|NOTATION)\b[^<>]*+>
      | !\[[^<>]*+> | \?[A-Za-z][^<>]*+(?<=\?)>
    )""",
    regex.VERBOSE | regex.IGNORECASE,
)
_ENDS = {
    "!--": re.compile("-->"),
    "script": re.compile(r"</script\s*>", re.IGNORECASE),
    "style": re.compile(r"</style\s*>", re.IGNORECASE),
}


def strip_markup(text: str) -> str:
    """Returns the text without tags, comments, declarations, scripts and styles; a line end for tags of blocks."""
    parts, done, place, unended = [], 0, 0, set()
    while mark := _MARK.search(text, place):
        place = mark.end()
        name = "!--" if mark["comment"] else (mark["name"] or "").lower()
        if mark["name"] and not _is_tag(mark, name):
            continue
        if name in _ENDS and not mark["end"]:
            end = None if name in unended else _ENDS[name].search(text, place)
            if end:
                place = end.end()
            else:
                unended.add(name)  # nor will there be an end for those that follow
                if mark["comment"]:
                    continue
        parts += [text[done : mark.start()], "\n" if name in _BLOCKS else ""]
        done = place
    return "".join([*parts, text[done:]])


def _is_tag(mark: regex.Match, name: str) -> bool:
    """Whether it has a known name, or an end or quotes that nothing but a tag has."""
    return (
        name in _NAMES or bool(mark["end"]) or mark["rest"].endswith("/") or '"' in mark["rest"] or "'" in mark["rest"]
    )
