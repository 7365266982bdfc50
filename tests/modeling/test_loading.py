"""Loading: safetensors alone, and a tokenizer from where the model came from."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModel, AutoModelForCausalLM

from boustro import BoustroForCausalLM, BoustroTokenizer
from tests.conftest import small_model
from tests.hub_server import HubServer, Repository

TOKEN = "token-of-anna"

# no login: the token is that of the call alone
PRIVATE_PROCESS = """
import json, os, sys
if sys.argv[1] == "remote":
    sys.modules["boustro"] = None
    from transformers import AutoModelForCausalLM as Model
else:
    from boustro import BoustroForCausalLM as Model
assert "HF_TOKEN" not in os.environ
options = json.loads(sys.argv[2])
model = Model.from_pretrained("anna/x", token="token-of-anna", trust_remote_code=True, **options)
print(json.dumps(model.reconstruct("the fox", max_new_tokens=9)))
model.save_pretrained(sys.argv[3])
"""


@pytest.fixture
def folder(tmp_path):
    """Model and tokenizer as they are saved."""
    tokenizer = BoustroTokenizer.train_from_iterator(["the quick brown fox"])
    small_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def pickled(folder):
    """The same with its weights as a pickle alone."""
    torch.save(BoustroForCausalLM.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForCausalLM, BoustroForCausalLM])
@pytest.mark.parametrize("options", [{}, {"use_safetensors": None}, {"trust_remote_code": True}])
def test_a_pickle_is_not_loaded(auto_class, options, pickled, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("something was unpickled"))
    with pytest.raises(ValueError, match=r"holds no model.safetensors, and .* pickles, which are not loaded"):
        auto_class.from_pretrained(pickled, **options)


def test_a_pickle_is_converted_on_demand(pickled, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(pickled, use_safetensors=False)
    model.save_pretrained(tmp_path / "safe")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "safe")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_a_config_cannot_name_a_pickle(pickled):
    (pickled / "pytorch_model.bin").rename(pickled / "adapter_model.bin")
    config = json.loads((pickled / "config.json").read_text())
    (pickled / "config.json").write_text(json.dumps(config | {"transformers_weights": "adapter_model.bin"}))
    with pytest.raises(StrictDataclassClassValidationError, match=r"transformers_weights is 'adapter_model\.bin'"):
        AutoModelForCausalLM.from_pretrained(pickled)


def test_what_is_wrong_otherwise_is_said_as_transformers_says_it(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        BoustroForCausalLM.from_pretrained(tmp_path / "nowhere")


def test_loading_information_is_given_as_in_transformers(folder):
    model, found = BoustroForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and model.reconstruct("the fox", max_new_tokens=3)


def test_the_tokenizer_comes_from_the_subfolder_of_the_model(folder):
    expected = BoustroForCausalLM.from_pretrained(folder).reconstruct("the fox", max_new_tokens=9)
    model = AutoModelForCausalLM.from_pretrained(folder.parent, subfolder=folder.name)
    assert model.reconstruct("the fox", max_new_tokens=9) == expected


@pytest.mark.parametrize("code", ["remote", "installed"])
def test_a_private_repository_gives_its_tokenizer_to_the_token_of_the_call(code, folder, tmp_path):
    expected = BoustroForCausalLM.from_pretrained(folder).reconstruct("the fox", max_new_tokens=9)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    # on main the tokenizer of another model, which has too many characters for this one
    other = BoustroTokenizer.train_from_iterator(["xylophone, the quick brown fox? 你好世界"])
    other.save_pretrained(tmp_path / "other")
    wrong = (tmp_path / "other" / "tokenizer.json").read_bytes()
    repository = Repository(private=True)
    repository.commit("main", "another one", files | {"tokenizer.json": wrong})
    repository.commit("v2", "model", files | {f"best/{name}": content for name, content in files.items()})
    for options in ({"revision": "v2"}, {"revision": "v2", "subfolder": "best", "cache_dir": str(tmp_path / "cache")}):
        with HubServer({TOKEN: "anna"}) as hub:
            hub.repositories["anna/x"] = repository
            command = [sys.executable, "-c", PRIVATE_PROCESS, code, json.dumps(options), str(tmp_path / "again")]
            env = hub.environment(tmp_path / f"home-{len(options)}")
            run = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout.splitlines()[-1]) == expected
        for path in (tmp_path / "again").iterdir():
            assert TOKEN.encode() not in path.read_bytes(), f"{path.name} holds the token"


def test_a_pickled_model_holds_no_token(folder):
    model = BoustroForCausalLM.from_pretrained(folder, token=TOKEN)
    model.reconstruct("the fox", max_new_tokens=3)
    assert TOKEN.encode() not in pickle.dumps(model)
    assert pickle.loads(pickle.dumps(model)).reconstruct("the fox", max_new_tokens=3)
