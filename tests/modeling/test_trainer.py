"""transformers' own Trainer trains a boustro model as it trains any other."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from boustro import BoustroConfig, BoustroForCausalLM, BoustroTokenizer, modeling_boustro
from tests.conftest import SMALL, small_model

TEXTS = [f"{animal} {verb}." for animal in ("the cat", "a dog", "my old horse") for verb in ("sleeps", "eats", "ran")]


def test_trainer_learns_evaluates_and_saves(tmp_path):
    tokenizer = BoustroTokenizer.train_from_iterator(TEXTS)
    torch.manual_seed(0)
    model = BoustroForCausalLM(BoustroConfig(**{**SMALL, "vocab_size": len(tokenizer), "segment_length": 24}))
    data = Dataset.from_dict(dict(tokenizer([text + "\n" for text in TEXTS] * 4)))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            tmp_path,
            max_steps=30,
            per_device_train_batch_size=12,
            learning_rate=3e-2,
            gradient_accumulation_steps=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
        ),
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert after < 0.7 * before
    trainer.save_model(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.config.use_cache
    ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
    assert torch.allclose(loaded(ids).logits, model.eval()(ids).logits, atol=1e-5)


def trainer_of(model, tokenizer, folder, **options):
    texts = [text[: 3 + 2 * i] for i, text in enumerate(TEXTS)]
    options = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", **options}
    return Trainer(
        model=model,
        args=TrainingArguments(folder, **options),
        train_dataset=Dataset.from_dict(dict(tokenizer(texts))),
        eval_dataset=Dataset.from_dict(dict(tokenizer(texts))),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_batch_and_single_rows_have_the_same_loss(side, tmp_path):
    """Nine texts of 3 to 14 characters in one batch, or each by itself: the mean over all characters."""
    tokenizer, losses = BoustroTokenizer.train_from_iterator(TEXTS), []
    tokenizer.padding_side = side
    for batch, accumulated in ((9, 1), (1, 9)):
        model = small_model(latent_size=0, dropout=0.0, vocab_size=len(tokenizer)).train()
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
        trainer = trainer_of(model, tokenizer, tmp_path, max_steps=1, learning_rate=0.0, **sizes)
        losses.append(trainer.train().training_loss)
    rows = [tokenizer(text[: 3 + 2 * i], return_tensors="pt")["input_ids"] for i, text in enumerate(TEXTS)]
    counts = torch.tensor([float(row.shape[1] - 1) for row in rows])
    wanted = sum(model.eval()(row, labels=row).loss * n for row, n in zip(rows, counts, strict=True)) / counts.sum()
    assert losses == pytest.approx([wanted.item()] * 2, rel=1e-4)


def test_metrics_get_the_logits_alone(tmp_path):
    tokenizer = BoustroTokenizer.train_from_iterator(TEXTS)
    trainer = trainer_of(small_model(vocab_size=len(tokenizer)), tokenizer, tmp_path)
    assert trainer.predict(trainer.eval_dataset).predictions.shape[::2] == (9, len(tokenizer))


def test_a_loss_without_labels_is_warned_of_once(monkeypatch):
    warnings = []
    monkeypatch.setattr(modeling_boustro.logger, "warning_once", warnings.append)
    model, ids = small_model(), torch.full((1, 8), 5)
    model(ids)
    model.train()
    model(ids, labels=ids)
    model.generate(ids, max_new_tokens=2, do_sample=False)
    small_model(latent_size=0).train()(ids)
    assert not warnings
    model(ids).logits.sum().backward()
    assert len(warnings) == 1 and "label_smoothing_factor" in warnings[0]
