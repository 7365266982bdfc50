"""transformers' own Trainer trains a boustro model as it trains any other."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from boustro import BoustroConfig, BoustroForCausalLM, BoustroTokenizer
from tests.conftest import SMALL

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
