"""Goes on with texts, planned anew or like another text.

The defaults are those of the model's generation_config.json.
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

from boustro.commands.common import (
    add_model_options,
    add_output_options,
    add_text_options,
    batches,
    load,
    read_texts,
    write,
)
from boustro.data_scripts.errors import DataError
from boustro.tokenization_boustro import repair_surrogates

SAMPLING = ("temperature", "top_k", "top_p", "latent_temperature")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument("--prompt", help='Text to go on with, "" for none. Default: every line of the input.')
    parser.add_argument("--max-new-tokens", type=int, default=200, help="Characters to write, at most.")
    parser.add_argument("--greedy", action="store_true", help="The likeliest character at every place.")
    parser.add_argument("--num-beams", type=int, help="Beam search.")
    parser.add_argument("--num-return-sequences", type=int, default=1, help="Texts for every prompt.")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--like", help="A text to plan like: its latents are those of the new text.")
    parser.add_argument("--latent-temperature", type=float, help="Factor of the noise that latents are drawn with.")
    parser.add_argument("--stop", action="append", help="Text after which to stop; may be given several times.")
    parser.add_argument("--only-new", action="store_true", help="Leave the prompt out of the result.")
    add_text_options(parser)
    add_output_options(parser)
    add_model_options(parser)


def run(options: argparse.Namespace) -> None:
    """Writes every text, the prompt included, or `{"prompt", "text"}`."""
    if options.prompt is not None and (options.input or options.whole):
        raise DataError("--prompt was given with --input or --whole, expected one of them: leave one out.")
    for name in SAMPLING:
        value = getattr(options, name)
        if value is not None and not math.isfinite(value):
            raise DataError(f"--{name.replace('_', '-')} is {value}, expected a finite number.")
    if options.top_p is not None and not 0 < options.top_p <= 1:
        raise DataError(f"--top-p is {options.top_p}, expected a number above 0 and at most 1.")
    for name in ("max_new_tokens", "num_beams", "num_return_sequences"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise DataError(f"--{name.replace('_', '-')} is {value}, expected 1 or more.")
    if "" in (options.stop or []):
        raise DataError("--stop is empty, expected text after which to stop; leave the option out to stop nowhere.")
    prompts = read_texts(options, keep_empty=True) if options.prompt is None else [repair_surrogates(options.prompt)]
    write(options, generated(options, prompts), "{text}")


def generated(options: argparse.Namespace, prompts: list[str]) -> Iterator[dict[str, Any]]:
    """`prompt` and `text` of every new text."""
    model, tokenizer = load(options)
    settings = {name: getattr(options, name) for name in SAMPLING}
    like = None if options.like is None else repair_surrogates(options.like)
    stop = None if options.stop is None else [repair_surrogates(text) for text in options.stop]
    settings |= {"num_beams": options.num_beams, "latents_from": like, "stop_strings": stop}
    settings = {name: value for name, value in settings.items() if value is not None}
    settings |= {"num_return_sequences": options.num_return_sequences, "max_new_tokens": options.max_new_tokens}
    if options.greedy:
        settings["do_sample"] = False
    elif options.temperature is not None or options.top_k is not None or options.top_p is not None:
        settings["do_sample"] = True
    for some in batches(prompts, options.batch_size):
        batch = tokenizer(some, padding=True, return_tensors="pt").to(options.device)
        ids = model.generate(**batch, **settings, tokenizer=tokenizer)
        new = tokenizer.batch_decode(ids[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
        for i, text in enumerate(new):
            prompt = some[i // options.num_return_sequences]
            yield {"prompt": prompt, "text": text if options.only_new else prompt + text}
