"""How many tokens a transformer can read at a time, and how fast it should learn."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

import numpy

# The lengths of windows in tokens, the shipped one first. A length is taken if at most this share
# of windows has more pieces than the transformer reads.
WINDOWS, LOST = (128, 96, 64, 48, 32, 16), 0.01
# The width of the transformer that the shipped learning rate was chosen for.
USUAL_WIDTH = 384
# What tokenizers have for "no limit" is larger.
_NO_LIMIT = 10**6
_AFTER_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
    "luke",
    "ibert",
    "data2vec-text",
)


@dataclass
class Transformer:
    """The settings that a transformer needs in a teacher's config.

    rate (float): A factor of the learning rate: a quarter for twice the width, as is usual for
        fine-tuning.
    window (int): The length of windows in tokens.
    lost (float): The share of windows that are cut off if no window is short enough, else 0.
    max_pieces (Optional[int]): How many pieces the transformer reads, if the tokenizer has no
        limit.
    """

    rate: float
    window: int
    lost: float
    max_pieces: Optional[int]


def read_transformer(folder: Path, docs: List[List[str]]) -> Transformer:
    """Read a transformer's settings, and split words with its tokenizer.

    folder (Path): The transformer.
    docs (List[List[str]]): The words of docs.
    RETURNS (Transformer): The settings that it needs.
    RAISES (ValueError): If it can't be loaded.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        settings = AutoConfig.from_pretrained(str(folder))
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except Exception as err:  # of whatever library a tokenizer needs
        raise ValueError(
            f"transformers can't load the settings and the tokenizer in {folder} "
            f"({type(err).__name__}: {err}): take another transformer (--vars.teacher)."
        ) from None
    width = getattr(settings, "hidden_size", USUAL_WIDTH)
    positions = getattr(settings, "max_position_embeddings", 0)
    positions = positions if positions > 0 else _NO_LIMIT
    # RoBERTa and its relatives do not use the positions up to that of padding.
    if settings.model_type in _AFTER_PADDING:
        positions -= 2
    limit = min(tokenizer.model_max_length, positions)
    says = tokenizer.model_max_length <= positions
    n_special = tokenizer.num_special_tokens_to_add()
    words = sorted({word for doc in docs for word in doc})
    pieces = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    n_pieces = {word: len(ids) for word, ids in zip(words, pieces, strict=True)}
    for window in WINDOWS:
        lost = _share_cut_off(docs, n_pieces, window, limit - n_special)
        if lost <= LOST:
            break
    return Transformer(
        rate=min(1.0, (USUAL_WIDTH / width) ** 2),
        window=window,
        lost=lost if lost > LOST else 0.0,
        max_pieces=None if says or limit >= _NO_LIMIT else int(limit),
    )


def _share_cut_off(
    docs: List[List[str]], n_pieces: Dict[str, int], window: int, limit: int
) -> float:
    """RETURNS (float): The share of adjacent windows that have more pieces than a limit."""
    sizes: List[int] = []
    for doc in docs:
        lengths = [n_pieces[word] for word in doc]
        starts = numpy.arange(0, len(lengths), window)
        sizes.extend(numpy.add.reduceat(lengths, starts) if lengths else [])
    return float((numpy.array(sizes) > limit).mean()) if sizes else 0.0
