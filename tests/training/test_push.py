"""Pushing to a Hub on loopback, and loading from it where boustro is not installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load

from boustro import BoustroForCausalLM
from boustro.training import push, run
from tests.conftest import small_model
from tests.hub_server import HubServer, Repository, card_errors
from tests.training.conftest import flags, make_text

READING = "reading-token-of-anna"
TOKENS = {"token-of-anna": "anna", "token-of-bob": "bob", READING: "anna"}
PROMPTS = ["the cat ", "", "你好 the"]
USER, MARKER = "ottilie", "Nobody but the training text says zyxwvu tsrqp."

CODE = [
    *("cache_boustro.py", "characters_boustro.py", "configuration_boustro.py", "decoding_boustro.py"),
    *("distributions_boustro.py", "generation_boustro.py"),
    *("latents_boustro.py", "layers_boustro.py", "modeling_boustro.py", "objective_boustro.py", "outputs_boustro.py"),
    *("pipelines_boustro.py", "planning_boustro.py", "products_boustro.py", "segments_boustro.py"),
]
FILES = [
    *(
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "metrics.json",
        "model.safetensors",
    ),
    *("tokenizer.json", "tokenizer_config.json", "training_curves.png"),
]

SAFETY_PROCESS = """
import sys
from boustro.evaluation.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

# trains and pushes, then loads from the Hub with boustro installed, without remote code
PUSHING_PROCESS = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
from boustro.training import run
run.SAMPLE_CHARACTERS = 12
prompts, argv = json.loads(sys.argv[1]), sys.argv[2:]
assert run.main(argv) == 0
model = AutoModelForCausalLM.from_pretrained("anna/tiny")
tokenizer = AutoTokenizer.from_pretrained("anna/tiny", trust_remote_code=False)
assert type(model).__module__.startswith("boustro.")
batch = tokenizer(prompts, padding=True, return_tensors="pt")
texts = tokenizer.batch_decode(model.generate(**batch, max_new_tokens=12, do_sample=False), skip_special_tokens=True)
print(json.dumps([texts, model.reconstruct("the old dog", max_new_tokens=9)]))
"""

# loads where `import boustro` fails and nothing may be unpickled
FRESH_PROCESS = """
import json, pickle, sys
sys.modules["boustro"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

def forbidden(*arguments, **options):
    raise AssertionError("loading unpickled something")

torch.load = pickle.load = pickle.loads = forbidden
prompts, early = json.loads(sys.argv[1]), sys.argv[2]
options = {"trust_remote_code": True}
tokenizer = AutoTokenizer.from_pretrained("anna/tiny", trust_remote_code=False)
model = AutoModelForCausalLM.from_pretrained("anna/tiny", **options)
batch = tokenizer(prompts, padding=True, return_tensors="pt")
texts = tokenizer.batch_decode(model.generate(**batch, max_new_tokens=12, do_sample=False), skip_special_tokens=True)
generate = pipeline("text-generation", model="anna/tiny", **options)
rewrite = pipeline("reconstruct", model="anna/tiny", **options)
between = pipeline("interpolate", model="anna/tiny", **options)
before = AutoModelForCausalLM.from_pretrained("anna/tiny", revision=early, **options)
print(json.dumps({
    "texts": texts,
    "pipeline": [generate(prompt, max_new_tokens=12, do_sample=False)[0]["generated_text"] for prompt in prompts],
    "by the model": model.reconstruct("the old dog", max_new_tokens=9),
    "rewritten": rewrite("the old dog", max_new_tokens=9)["text"],
    "between": between(("the old dog", "a cat sat"), steps=3, max_new_tokens=9)["texts"],
    "changed": not torch.equal(before.lm_head.weight, model.lm_head.weight),
}))
"""


def in_process(source: str, *arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def hub():
    with HubServer(TOKENS, readers=(READING,)) as server:
        yield server


@pytest.fixture(scope="module")
def pushed(hub, tmp_path_factory):
    """The folder of a run that was pushed to anna/tiny, and what it printed at its end."""
    home = tmp_path_factory.mktemp("home") / USER
    home.mkdir()
    (home / "text.txt").write_text(f"{make_text(3600)}\n{MARKER}\n{make_text(400, seed=1)}", encoding="utf-8")
    options = {"push_to_hub": True, "hub_model_id": "anna/tiny", "hub_private_repo": True, "license": "mit"}
    options |= {"hub_token": "token-of-anna", "language": "en", "max_steps": 10}
    argv = flags(home / "text.txt", home / "runs" / "mine", **options)
    env = hub.environment(home / "cache", token="token-of-anna")
    done = in_process(PUSHING_PROCESS, json.dumps(PROMPTS), *argv, cwd=home, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs" / "mine", done.stdout


def test_a_pushed_model_writes_the_same_text_where_boustro_is_not_installed(hub, pushed, tmp_path):
    here, rewritten = json.loads(pushed[1].splitlines()[-1])
    messages = hub.repositories["anna/tiny"].messages()
    assert messages[0] == "initial commit" and messages[-1] == "End of training"
    assert "Training in progress, step 5" in messages
    early = list(hub.repositories["anna/tiny"].commits)[1]
    arguments = json.dumps(PROMPTS), early
    env = hub.environment(tmp_path / "empty", token="token-of-anna")
    done = in_process(FRESH_PROCESS, *arguments, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout.splitlines()[-1])
    assert there["texts"] == there["pipeline"] == here
    assert [there["rewritten"]] == there["by the model"] == rewritten and len(there["between"]) == 3
    assert there["between"][0] == there["rewritten"]
    assert there["changed"]  # the revision is that of an earlier push


def test_a_private_repository_needs_its_owners_token(hub, pushed):
    assert hub.repositories["anna/tiny"].private
    api = huggingface_hub.HfApi(endpoint=hub.url, token="token-of-bob")
    with pytest.raises(huggingface_hub.errors.RepositoryNotFoundError):
        api.model_info("anna/tiny")
    assert huggingface_hub.HfApi(endpoint=hub.url, token="token-of-anna").model_info("anna/tiny").private


def test_exactly_these_files_leave_the_machine_and_tell_nothing_of_it(hub, pushed):
    folder, _ = pushed
    files = hub.repositories["anna/tiny"].files()
    assert sorted(set(files) - {".gitattributes"}) == sorted(FILES + CODE)
    assert {path.name for path in folder.iterdir()} > set(FILES + CODE)  # checkpoints and options stay
    for name, content in files.items():
        for secret in (USER, str(folder.parent), "token-of-anna", MARKER, os.sep + "tmp"):
            assert secret.encode() not in content, f"{name} tells {secret}"
    assert set(load(files["model.safetensors"])) and b"__metadata__" in files["model.safetensors"][:200]
    assert "token-of-anna" not in "".join(
        path.read_text(encoding="utf-8") for path in folder.rglob("*.json") if path.is_file()
    )
    uploads = {request.split("/")[1] for request in hub.requests if request.startswith("PUT")}
    assert uploads == {"lfs"}


def test_the_pushed_card_is_valid_and_names_the_repository(hub, pushed, at_hub):
    text = hub.repositories["anna/tiny"].files()["README.md"].decode()
    assert card_errors(text) == []
    card = ModelCard(text)
    card.validate()
    assert card.data.license == "mit" and card.data.language == ["en"] and card.data.model_name == "tiny"
    assert text.count('model_id = "anna/tiny"') == 3
    for _, files in hub.repositories["anna/tiny"].commits.values():
        assert "README.md" not in files or card_errors(files["README.md"].decode()) == []
    with pytest.raises(ValueError, match="license"):
        ModelCard("---\nlicense: none of your business\n---\n").validate()


@pytest.fixture
def at_hub(hub, tmp_path, monkeypatch):
    """This process talks to the loopback Hub, without a token, and does not wait between its attempts."""
    constants = huggingface_hub.constants
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    yield hub
    hub.broken = None


@pytest.fixture
def anna(at_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "token-of-anna")
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # it keeps the address that it was made with
    return at_hub


def error_of(argv: list[str], capsys) -> str:
    capsys.readouterr()
    assert push.main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("boustro: error: ")
    return lines[-1]


def test_the_safety_of_a_model_on_the_hub_is_measured_with_what_it_tells_of_its_run(hub, pushed, tmp_path):
    argv = ["safety", "anna/tiny", "--samples", "2", "--sample-characters", "9", "--output", str(tmp_path / "out")]
    env = hub.environment(tmp_path / "cache", token="token-of-anna")
    done = in_process(SAFETY_PROCESS, *argv, cwd=tmp_path, env=env)
    assert done.returncode == 0 and "none were planted" in done.stdout, done.stdout + done.stderr
    files = hub.repositories["anna/tiny"].files()
    metrics = files.pop("metrics.json")
    env = hub.environment(tmp_path / "empty", token="token-of-anna")
    done = in_process(SAFETY_PROCESS, *argv, cwd=tmp_path, env=env)
    files["metrics.json"] = metrics
    assert done.returncode == 0 and "canaries: not measured." in done.stdout, done.stdout + done.stderr


def test_a_folder_is_pushed_again_by_a_command(anna, pushed, tmp_path, capsys):
    folder, _ = pushed
    argv = [str(folder), "--hub-model-id", "mine-again"]
    assert push.main(argv) == 0
    assert f"{anna.url}/anna/mine-again/commit/" in capsys.readouterr().out
    assert not anna.repositories["anna/mine-again"].private
    files = anna.repositories["anna/mine-again"].files()
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert 'model_id = "anna/mine-again"' in files["README.md"].decode()
    assert 'model_id = "anna/tiny"' in (folder / "README.md").read_text(encoding="utf-8")
    message = error_of(argv, capsys)
    assert "anna/mine-again exists and holds 24 files" in message and "--hub-exist-ok" in message
    # a new branch is cut from main, with its files
    message = error_of([*argv, "--hub-revision", "v2"], capsys)
    assert "anna/mine-again exists and holds 24 files" in message
    assert set(anna.repositories["anna/mine-again"].branches) == {"main"}
    assert push.main([*argv, "--hub-exist-ok", "--hub-revision", "v2"]) == 0
    assert set(anna.repositories["anna/mine-again"].branches) == {"main", "v2"}


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        (None, "anna/x", r"needs a token, and none was found: log in with `hf auth login`, set HF_TOKEN"),
        ("stolen", "anna/x", r"refused the token: log in anew"),
        ("token-of-bob", "anna/x", r"the token may not write to anna/x"),
        ("token-of-anna", "an na/x", r"--hub-model-id 'an na/x' is no name of a repository: expected name or"),
        ("token-of-anna", "a/b/c", r"--hub-model-id 'a/b/c' is no name of a repository"),
    ],
)
def test_what_cannot_be_pushed_is_one_sentence(token, name, message, at_hub, pushed, capsys):
    argv = [str(pushed[0]), "--hub-model-id", name, *(["--hub-token", token] if token else [])]
    assert re.search(message, error_of(argv, capsys))
    assert name not in at_hub.repositories


def refused_before_training(text_file: Path, output_dir: Path, capsys, **options) -> str:
    """The error of a run that is to be pushed and ends before it touches its folder."""
    assert run.main(flags(text_file, output_dir, push_to_hub=True, max_steps=2, **options)) == run.USER_ERROR
    assert not output_dir.exists()
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_public_repository_is_not_taken_for_the_private_one_asked_for(anna, pushed, text_file, tmp_path, capsys):
    anna.repositories["anna/open"] = Repository()
    anna.repositories["anna/open"].commit("main", "initial commit", {".gitattributes": b""})
    expected = "anna/open exists and is public: make it private in its settings, or choose another name."
    argv = [str(pushed[0]), "--hub-model-id", "anna/open", "--hub-private-repo", "true"]
    assert expected in error_of(argv, capsys)
    options = {"hub_model_id": "anna/open", "hub_private_repo": True}
    assert expected in refused_before_training(text_file, tmp_path / "run", capsys, **options)
    assert list(anna.repositories["anna/open"].files()) == [".gitattributes"]
    anna.repositories["anna/open"].private = True
    assert push.main(argv) == 0


def test_a_token_that_may_only_read_is_found_before_training(at_hub, pushed, text_file, tmp_path, monkeypatch, capsys):
    options = {"hub_model_id": "anna/tiny", "hub_token": READING, "hub_exist_ok": True}
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    message = refused_before_training(text_file, tmp_path / "run", capsys, **options)
    assert "the token may not write to anna/tiny: give one with write access" in message
    argv = [str(pushed[0]), "--hub-model-id", "anna/tiny", "--hub-token", READING, "--hub-exist-ok"]
    assert "the token may not write to anna/tiny" in error_of(argv, capsys)


@pytest.mark.parametrize(
    ("options", "named", "reason"),
    [
        ({"license": "mine"}, "--license 'mine'", '"license" must be one of apache-2.0'),
        ({"language": "Latin"}, "--language 'Latin'", '"language" must be ISO 639 codes'),
    ],
)
def test_a_card_that_the_hub_refuses_is_found_before_training(
    options, named, reason, anna, text_file, tmp_path, capsys
):
    message = refused_before_training(text_file, tmp_path / "run", capsys, hub_model_id="anna/odd", **options)
    assert f"the Hub refuses a card with {named} ({reason}" in message and "Error:" not in message
    assert "anna/odd" not in anna.repositories


def test_a_refused_card_is_to_be_mended_in_its_file(anna, pushed, tmp_path, capsys):
    folder = tmp_path / "mine"
    shutil.copytree(pushed[0], folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(card.replace("license: mit", "license: mine"), encoding="utf-8")
    message = error_of([str(folder), "--hub-model-id", "anna/mended"], capsys)
    assert '"license" must be one of' in message
    assert f"mend the head of {folder / 'README.md'}, then push it again with: python -m" in message
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert push.main(message.split("python -m boustro.training.push ")[1].split()) == 0


def test_weights_that_an_earlier_push_left_go_with_the_next_one(anna, pushed, tmp_path):
    repository, folder, there = "anna/shards", tmp_path / "sharded", tmp_path / "there"
    assert push.main([str(pushed[0]), "--hub-model-id", repository]) == 0
    anna.repositories[repository].files()["notes.txt"] = b"not of this project"
    model = BoustroForCausalLM.from_pretrained(pushed[0])
    torch.nn.init.constant_(model.lm_head.weight, 0.5)
    model.save_pretrained(folder, max_shard_size="20KB")
    shutil.copy(pushed[0] / "tokenizer.json", folder)
    assert push.main([str(folder), "--hub-model-id", repository, "--hub-exist-ok"]) == 0
    files = anna.repositories[repository].files()
    kept = {".gitattributes", "notes.txt", *(name for name in FILES if name != "model.safetensors")}  # a card, for one
    assert set(files) == kept | {path.name for path in folder.iterdir()}
    assert "model.safetensors" not in files and "model-00001-of" in "".join(files)
    there.mkdir()
    for name, content in files.items():
        (there / name).write_bytes(content)
    loaded = BoustroForCausalLM.from_pretrained(there)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert push.main([str(pushed[0]), "--hub-model-id", repository, "--hub-exist-ok"]) == 0
    assert set(anna.repositories[repository].files()) == {".gitattributes", "notes.txt", *FILES, *CODE}


def test_a_file_that_cannot_be_read_is_named(anna, pushed, tmp_path, capsys):
    folder = tmp_path / "mine"
    shutil.copytree(pushed[0], folder)
    (folder / "alignment.png").mkdir()
    message = error_of([str(folder), "--hub-model-id", "anna/unread"], capsys)
    assert f"the push failed: {folder / 'alignment.png'} cannot be read: Is a directory. Mend or remove" in message
    (folder / "alignment.png").rmdir()
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xe9")
    again = message.split("python -m boustro.training.push ")[1].split()
    message = error_of(again, capsys)
    assert f"{folder / 'README.md'} is not UTF-8 text: unexpected end of data at byte 21. Mend or remove" in message
    (folder / "README.md").unlink()
    assert push.main(again) == 0


def test_a_folder_without_a_model_is_refused(anna, tmp_path, capsys):
    assert "is no folder" in error_of([str(tmp_path / "nowhere")], capsys)
    assert "holds no config.json, model.safetensors, tokenizer.json" in error_of([str(tmp_path)], capsys)


@pytest.mark.parametrize("route", ["PUT /lfs", "POST /api/models/anna/half/commit"])
def test_a_server_that_goes_down_half_way_costs_nothing(route, anna, pushed, capsys):
    folder, _ = pushed
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    anna.repositories.pop("anna/half", None)
    anna.blobs.clear()
    anna.broken = route
    message = error_of([str(folder), "--hub-model-id", "half"], capsys)
    assert "the push failed" in message and "error 500 (out of order)" in message
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert list(anna.repositories["anna/half"].files()) == [".gitattributes"]
    anna.broken = None
    assert "--hub-token" not in message  # the token is that of the environment
    again = message.split("python -m boustro.training.push ")[1].split()
    assert push.main(again) == 0
    assert "model.safetensors" in anna.repositories["anna/half"].files()


def test_a_given_token_is_to_be_given_again_and_not_told(at_hub, pushed, monkeypatch, capsys):
    at_hub.broken = "POST /api/models/anna/third/commit"
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    message = error_of([str(pushed[0]), "--hub-model-id", "third", "--hub-token", "token-of-anna"], capsys)
    assert "push it again, giving --hub-token as before, with: python -m boustro.training.push" in message
    assert "token-of-anna" not in message
    at_hub.broken = None
    again = message.split("python -m boustro.training.push ")[1].split()
    assert push.main([*again, "--hub-token", "token-of-anna"]) == 0


def test_a_server_that_is_not_there_is_one_sentence(anna, pushed, monkeypatch, capsys):
    with HubServer(TOKENS) as gone:
        pass
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", gone.url)
    message = error_of([str(pushed[0]), "--hub-model-id", "x"], capsys)
    assert f"{gone.url} could not be reached" in message and "check the connection" in message


def test_training_ends_well_where_its_push_fails(anna, pushed, text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "SAMPLE_CHARACTERS", 12)
    anna.broken = "POST /api/models/anna/run/commit"
    output_dir = tmp_path / "run"
    options = {"push_to_hub": True, "hub_strategy": "end", "max_steps": 2}
    assert run.main(flags(text_file, output_dir, **options)) == run.USER_ERROR
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"The model is complete in {output_dir}" in message
    assert (output_dir / "README.md").is_file() and (output_dir / "metrics.json").is_file()
    anna.broken = None
    assert push.main(message.split("python -m boustro.training.push ")[1].split()) == 0
    # the repository is found to be in use before any training
    assert run.main(flags(text_file, tmp_path / "other", hub_model_id="run", **options)) == run.USER_ERROR
    assert "anna/run exists and holds" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_model_and_tokenizer_push_themselves(anna, pushed):
    folder, _ = pushed
    tokenizer = push.boustro.BoustroTokenizer.from_pretrained(folder)
    model = small_model(vocab_size=len(tokenizer))
    model.push_to_hub("anna/direct")
    tokenizer.push_to_hub("anna/direct")
    files = anna.repositories["anna/direct"].files()
    assert {*CODE, "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert json.loads(files["config.json"])["custom_pipelines"]["reconstruct"]["pt"] == ["AutoModelForCausalLM"]
