"""From raw text to encoded train and validation corpora: load, clean, filter, split, segment, encode.

prepared = prepare(DataArguments(train_file=["corpus/*.txt"]))
prepared.train.ids, prepared.tokenizer, prepared.report
"""

from dataclasses import dataclass

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from boustro.tokenization_boustro import BoustroTokenizer

from .arguments import DataArguments
from .canaries import plant
from .cleaning import clean_batch
from .encoding import CharacterEncoder, EncodedCorpus, encode_corpus
from .errors import DataError
from .filters import filter_rows
from .mapping import apply
from .sources import load_files, load_texts
from .splits import join_rows, split_documents, split_stream


@dataclass(frozen=True)
class PreparedData:
    """What a training run needs of its data.

    Attributes:
        report: plain numbers and strings for `metrics.json` and the model card (see `prepare`).
    """

    train: EncodedCorpus
    validation: EncodedCorpus
    tokenizer: PreTrainedTokenizerBase
    report: dict


def prepare(args: DataArguments, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0) -> PreparedData:
    """Prepares the data that `args` name. The same files, options and seed give the same result.

    Args:
        tokenizer: a character tokenizer to encode with; without one it is built from the training part.
        seed: for the choice of validation rows (input mode "documents").

    Returns:
        The encoded parts and a report:
        "source", "input_mode";
        "input": {"rows", "characters"} as read, "kept": the same after cleaning and filtering,
        "dropped": rows by reason;
        "validation_input", "validation_kept", "validation_dropped": the same of `args.validation_file`;
        "canaries": what was planted in the training part, see `boustro.data_scripts.canaries`;
        "train", "validation": {"documents", "characters", "bytes", "ids"};
        "vocabulary_size", and "unknown_share", the share of validation characters that are spelt in bytes.

    Raises:
        DataError: for everything about the data that the user can mend.
    """
    rows, report = _clean_and_filter(load_texts(args), args, _source(args))
    report = {"source": _source(args), "input_mode": args.input_mode, **report}
    if args.validation_file:
        name = ", ".join(args.validation_file)
        held_out, facts = _clean_and_filter(load_files(args.validation_file, args), args, name)
        report |= {f"validation_{key}": value for key, value in facts.items()}
        train, validation = _arrange(rows, args), _arrange(held_out, args)
    elif args.input_mode == "stream":
        train, validation = split_stream(_arrange(rows, args), args.validation_fraction)
    else:
        train, validation = split_documents(rows, args.validation_fraction, seed)
    train, report["canaries"] = plant(train, args.canaries, args.input_mode, seed)
    if tokenizer is None:
        tokenizer = BoustroTokenizer.train_from_iterator(
            train["text"][:], min_frequency=args.min_frequency, max_vocab_size=args.max_vocab_size
        )
    encoder = CharacterEncoder(tokenizer)
    train, validation = (encode_corpus(part, encoder, args.num_proc) for part in (train, validation))
    report |= {
        "train": _sizes(train),
        "validation": _sizes(validation),
        "vocabulary_size": len(tokenizer),
        "unknown_share": validation.unknown_characters / validation.characters,
    }
    return PreparedData(train, validation, tokenizer, report)


def prepare_whole(args: DataArguments, tokenizer: PreTrainedTokenizerBase) -> tuple[EncodedCorpus, dict]:
    """Prepares the text that `args` name as one corpus, for scoring; returns it and the counts of `prepare`'s report.

    Raises `DataError` as `prepare` does.
    """
    rows, report = _clean_and_filter(load_texts(args), args, _source(args))
    return encode_corpus(_arrange(rows, args), CharacterEncoder(tokenizer), args.num_proc), report


def _source(args: DataArguments) -> str:
    if args.train_file:
        return ", ".join(args.train_file)
    return args.dataset_name or "Python reference topics (pydoc_data.topics)"


def _clean_and_filter(raw: Dataset, args: DataArguments, name: str) -> tuple[Dataset, dict]:
    """The rows worth keeping and the counts "input", "kept" and "dropped"."""
    cleaned = apply(
        raw,
        clean_batch,
        description="Cleaning",
        num_proc=args.num_proc,
        fn_kwargs={"form": args.normalization},
    )
    kept, dropped = filter_rows(
        cleaned,
        min_characters=args.min_characters,
        deduplicate=args.deduplicate,
        num_proc=args.num_proc,
    )
    if len(kept) == 0:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise DataError(
            f"Nothing is left of {name} after cleaning: {len(raw)} rows read, dropped {counts}. "
            f"Give more text, or lower min_characters (now {args.min_characters})."
        )
    return kept, {"input": _count(raw), "kept": _count(kept), "dropped": dropped}


def _arrange(rows: Dataset, args: DataArguments) -> Dataset:
    """Rows as they are encoded: joined to one text for a stream, else untouched."""
    return join_rows(rows, args.sample_by, args.num_proc) if args.input_mode == "stream" else rows


def _count(rows: Dataset) -> dict[str, int]:
    return {"rows": len(rows), "characters": sum(len(text or "") for text in rows["text"][:])}


def _sizes(corpus: EncodedCorpus) -> dict[str, int]:
    return {
        "documents": len(corpus.offsets) - 1,
        "characters": corpus.characters,
        "bytes": corpus.bytes,
        "ids": len(corpus.ids),
    }
