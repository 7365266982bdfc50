import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import findfont

from boustro.evaluation import pictures
from boustro.evaluation.pictures import draw_alignment, draw_latent_map, draw_unit_kl, principal_components
from boustro.evaluation.report import write_section

BEGIN, END = "<!-- evaluation:begin -->", "<!-- evaluation:end -->"


def test_a_section_is_put_at_the_end_and_replaced_in_its_place(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n\n# model\n", encoding="utf-8")
    write_section(card, "evaluation", "first")
    assert card.read_text(encoding="utf-8").endswith(f"# model\n\n{BEGIN}\n\nfirst\n\n{END}\n")
    card.write_text(card.read_text(encoding="utf-8") + "\nlater text\n", encoding="utf-8")
    write_section(card, "evaluation", f"second, which quotes {END}")
    write_section(card, "evaluation", r"third, with a \1 in it")
    text = card.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1 and r"a \1 in" in text
    assert text.startswith("---\nlicense") and text.endswith("later text\n") and "second" not in text


def test_two_sections_do_not_touch_each_other(tmp_path):
    card = tmp_path / "README.md"
    write_section(card, "evaluation", "one")
    write_section(card, "safety", f"two, which quotes {END}")
    write_section(card, "evaluation", "three")
    text = card.read_text(encoding="utf-8")
    assert "three" in text and "one" not in text and text.count("<!-- safety:begin -->") == 1


def test_a_card_is_begun_where_there_is_none(tmp_path):
    assert (
        write_section(tmp_path / "README.md", "evaluation", "x")
        .read_text(encoding="utf-8")
        .startswith(f"# {tmp_path.name}\n")
    )


def test_pictures_are_drawn(tmp_path, recwarn):
    draw_alignment(tmp_path / "a.png", np.eye(4), ["a", "\n", "你", "<eos>"])
    draw_latent_map(tmp_path / "b.png", torch.randn(9, 3), torch.arange(9), "length")
    draw_unit_kl(tmp_path / "c.png", [0.1, 2.0], mixture=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def drawn(monkeypatch, draw, *arguments):
    """The axes of the picture that `draw` would write."""
    figures = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: figures.append(figure))
    draw(None, *arguments)
    return figures[0].axes[0]


@pytest.fixture
def han_font(tmp_path) -> str:
    """The file of a font that has a single character."""
    builder, pen = FontBuilder(1000), TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder.setupGlyphOrder([".notdef", "ni"])
    builder.setupCharacterMap({ord("你"): "ni"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "ni": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "ni": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "One Character", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "one.ttf")
    return str(tmp_path / "one.ttf")


def test_a_character_is_drawn_in_an_installed_font_that_has_it_else_its_place_is_shown(monkeypatch, han_font, recwarn):
    monkeypatch.setattr(pictures, "installed_fonts", lambda: [findfont("DejaVu Serif"), han_font])
    axes = drawn(monkeypatch, draw_alignment, np.eye(4), ["a", "\n", "你", "好"])
    for axis in (axes.xaxis, axes.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["a", "⏎", "你", "3"]
        assert axis.get_ticklabels()[2].get_fontproperties().get_file() == han_font
    axes.figure.canvas.draw()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_installed_fonts_are_upright_ones_first_and_have_no_boxes_for_all_characters():
    files = pictures.installed_fonts()
    assert "Oblique" not in files[0] and any(file.endswith("DejaVuSans.ttf") for file in files)
    assert not any("lastresort" in file.lower() for file in files)
    assert pictures.fonts_for(["\U0010fffd"]) == {}  # a private character that no font should have


def test_the_units_of_a_mixture_are_said_to_be_estimates(monkeypatch):
    assert "estimates" in drawn(monkeypatch, draw_unit_kl, [0.1, 2.0], True).get_title()
    assert "estimates" not in drawn(monkeypatch, draw_unit_kl, [0.1, 2.0], False).get_title()


def test_principal_components_of_points_on_a_line():
    line = torch.tensor([[1.0, 2.0, 2.0]]) * torch.tensor([[-2.0], [0.0], [2.0]])
    points, shares = principal_components(line)
    assert np.abs(points[:, 0]).tolist() == pytest.approx([6, 0, 6]) and shares == pytest.approx([1, 0], abs=1e-9)
    assert principal_components(torch.tensor([[1.0], [3.0]]))[1] == [1, 0]
