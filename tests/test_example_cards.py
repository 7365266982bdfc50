"""The committed example cards are whole: valid, with their pictures, and without traces of the machine."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.hub_server import card_errors

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
CARDS = sorted(EXAMPLES.glob("*/README.md"))


def test_there_is_an_english_and_a_chinese_one():
    assert {tuple(ModelCard.load(card).data.language) for card in CARDS} == {("en",), ("zh",)}


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.parent.name)
def test_the_card_is_valid_and_measured(card):
    text = card.read_text(encoding="utf-8")
    assert card_errors(text) == []
    assert ModelCard(text).data.eval_results[0].metric_value > 0
    for heading in ("## Evaluation on", "### Beside baselines", "### Reconstructions", "### Memorisation"):
        assert heading in text
    assert "planted 100× in the training text: exposure" in text and "gender, zh" in text
    assert "edacted: not measured" not in text and "peak memory of a process that loads it" in text
    assert not re.search(r"/(tmp|home|root|Users)/", text)


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.parent.name)
def test_its_pictures_lie_beside_it_and_are_small(card):
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card.read_text(encoding="utf-8"))
    assert {"training_curves.png", "alignment.png", "latent_map.png", "unit_kl.png"} == set(pictures)
    assert sum((card.parent / picture).stat().st_size for picture in pictures) < 300_000
