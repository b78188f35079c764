"""Scores to structures: tag sequences, trees, sentences.

Arrays stay in the array module of the input. Only decoded structures are copied to the host.
"""

from .parses import Parse, batches_of_tokens, decode_parses
from .sentences import sentence_spans, with_shorter_sentences
from .trees import decode_heads
from .viterbi import viterbi

__all__ = [
    "Parse",
    "batches_of_tokens",
    "decode_heads",
    "decode_parses",
    "sentence_spans",
    "viterbi",
    "with_shorter_sentences",
]
