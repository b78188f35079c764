"""Scores to structures: tag sequences, trees, sentences.

Works in the array module of its input; only decoded structures come to the host.
"""

from .sentences import sentence_spans, with_shorter_sentences
from .trees import decode_heads
from .viterbi import viterbi

__all__ = ["decode_heads", "sentence_spans", "viterbi", "with_shorter_sentences"]
