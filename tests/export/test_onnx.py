"""The ONNX graphs give what torch gives, in onnxruntime, for other sizes than those they were exported with."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from boustro import BoustroTokenizer
from boustro.export.onnx import export_onnx
from tests.conftest import random_ids, small_model

onnxruntime = pytest.importorskip("onnxruntime")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_generate.py"
MODELS = {
    "conditional": {},
    "standard": {"latent_prior": "standard"},
    "no plan skip": {"plan_skip": False},
    "deep": {"num_context_layers": 2, "num_generator_layers": 2},
    "plain": {"latent_size": 0},
    "context only": {"latent_size": 0, "num_generator_layers": 0},
}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def exported(request, tmp_path_factory):
    """Model, tokenizer, folder and the sessions by name."""
    folder = tmp_path_factory.mktemp("onnx")
    tokenizer = BoustroTokenizer.train_from_iterator(["abcdefghijklmnopqrstuvwxyz 汉字"])
    model = small_model(vocab_size=len(tokenizer), **request.param)
    with torch.no_grad():
        model.lm_head.bias[:259] -= 20  # generate() bans bytes out of place, the example does not
    tokenizer("ab", padding="max_length", max_length=12, truncation=True)  # what must not be exported
    export_onnx(model, tokenizer, folder)
    assert len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("ab").ids) == len(tokenizer("ab").input_ids)
    sessions = {path.stem: onnxruntime.InferenceSession(path) for path in folder.glob("*.onnx")}
    return model, tokenizer, folder, sessions


def run(session, **inputs):
    return session.run(None, {name: np.asarray(value) for name, value in inputs.items()})


def state(layers, rows):
    return np.zeros((max(layers, 1), rows, 12), np.float32)


def test_logits_step_by_step_and_at_once(exported):
    model, _, _, sessions = exported
    config, ids = model.config, random_ids(3, 9, vocab_size=model.config.vocab_size)
    h = c = state(config.num_context_layers, 3)
    context, *_ = run(sessions["reader"], ids=ids, h=h, c=c)
    found, write = [], [state(config.num_generator_layers, 3)] * 2
    for i in range(9):
        step, h, c = run(sessions["reader"], ids=ids[:, i : i + 1], h=h, c=c)
        np.testing.assert_allclose(step, context[:, i : i + 1], **TOLERANCE)
        plans = {}
        if config.latent_size:
            if i % 5 == 0:
                log_weights, means, _ = run(sessions["prior"], context=step[:, 0])
                (plan,) = run(sessions["planner"], latents=means[log_weights.argmax(1)])
            plans = {"plan": plan, "places": np.full((3, 1), i % 5)}
        logits, *write = run(sessions["writer"], context=step, h=write[0], c=write[1], **plans)
        found.append(logits)
    expected = model(ids).logits.detach()
    np.testing.assert_allclose(np.concatenate(found, 1), expected, **TOLERANCE)


def test_posterior_and_plan(exported):
    model, _, _, sessions = exported
    if not model.config.latent_size:
        assert set(sessions) == {"reader", "writer"}
        return
    ids = random_ids(2, 5, vocab_size=model.config.vocab_size)  # the segment is the last four
    output = model.model(ids[:, :-1], target_ids=ids[:, 1:], latent_noise=torch.zeros(2, 1, 4))
    h = c = state(model.config.num_context_layers, 2)
    context = run(sessions["reader"], ids=ids[:, :1], h=h, c=c)[0][:, 0]
    mean, log_variance = run(sessions["encoder"], segment=ids[:, 1:], context=context)
    np.testing.assert_allclose(mean, output.posterior_mean[:, 0].detach(), **TOLERANCE)
    np.testing.assert_allclose(log_variance, output.posterior_log_variance[:, 0].detach(), **TOLERANCE)
    (plan,) = run(sessions["planner"], latents=mean)
    np.testing.assert_allclose(plan, output.backward_states[:, 0].detach(), **TOLERANCE)
    log_weights, means, log_variances = run(sessions["prior"], context=context)
    np.testing.assert_allclose(log_weights, output.prior.log_weights[:, 0].detach(), **TOLERANCE)
    np.testing.assert_allclose(means, output.prior.means.detach(), **TOLERANCE)
    np.testing.assert_allclose(log_variances, output.prior.log_variances.detach(), **TOLERANCE)


def test_the_example_writes_what_generate_writes_without_torch(exported):
    model, tokenizer, folder, _ = exported
    arguments = ["onnx_generate.py", str(folder), "abcdefg", "--greedy", "--characters", "12"]
    code = f"import sys, runpy; sys.modules['torch'] = None; sys.argv = {arguments}"
    code += f"; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    batch = tokenizer("abcdefg", return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=12, do_sample=False, pad_token_id=0)
    expected = tokenizer.decode(ids[0], skip_special_tokens=True)
    assert done.stdout == expected + "\n"


def test_a_folder_of_a_model_is_left_alone(tmp_path):
    tokenizer = BoustroTokenizer.train_from_iterator(["abc"])
    small_model().save_pretrained(tmp_path)
    before = {file.name for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"holds a model, .*: choose another folder, for example .*onnx"):
        export_onnx(small_model(vocab_size=len(tokenizer)), tokenizer, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == before


def test_the_example_names_a_folder_without_graphs(tmp_path):
    run = subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path), "a"], capture_output=True, text=True)
    assert run.returncode == 2 and f"{tmp_path} holds no exported model" in run.stderr
    assert "Traceback" not in run.stderr
