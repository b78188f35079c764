"""Score pipelines on gold tokens."""

from typing import Dict, List, Optional

from spacy.language import Language
from spacy.pipeline.dep_parser import parser_score
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example

# spaCy's names. spaCy's attachment scores leave out punctuation, so two names are added for those
# that count it.
METRICS = ("ents_p", "ents_r", "ents_f", "dep_uas", "dep_las", "sents_p", "sents_r", "sents_f")
WITH_PUNCT = {"dep_uas": "dep_uas_punct", "dep_las": "dep_las_punct"}


def with_gold_tokens(nlp: Language, reference: Doc, *, sentences: bool) -> Example:
    """Make an unannotated doc with the tokens of a reference. Their NORM is set as the tokenizer
    sets it, and as in training on raw text: then gold tokens are the only difference in scores.

    nlp (Language): The pipeline.
    reference (Doc): The gold doc.
    sentences (bool): Whether to set the sentence boundaries of the reference too.
    RETURNS (Example): The doc to annotate, and the reference.
    """
    doc = Doc(
        nlp.vocab,
        words=[token.text for token in reference],
        spaces=[bool(token.whitespace_) for token in reference],
        sent_starts=[token.is_sent_start for token in reference] if sentences else None,
    )
    norms = Example(doc, nlp.make_doc(doc.text)).get_aligned("NORM", as_string=True)
    for token, norm in zip(doc, norms, strict=True):
        if norm is not None:
            token.norm_ = norm
    return Example(doc, reference)


def annotate(nlp: Language, examples: List[Example]) -> None:
    """Run a pipeline on the examples' docs.

    nlp (Language): The pipeline.
    examples (List[Example]): Unannotated docs and references; changed in place.
    """
    for example, doc in zip(examples, nlp.pipe([eg.predicted for eg in examples]), strict=True):
        example.predicted = doc


def score(nlp: Language, examples: List[Example]) -> Dict[str, Optional[float]]:
    """Score the annotation of a pipeline with the scorers of its components.

    nlp (Language): The pipeline.
    examples (List[Example]): Annotated docs and references.
    RETURNS (Dict[str, Optional[float]]): The scores by name, None where the corpus or the pipeline
        lacks the annotation. As in spaCy, `dep_uas` and `dep_las` leave out punctuation.
    """
    scores = Scorer(nlp).score(examples)
    results = {metric: scores.get(metric) for metric in METRICS}
    if any(key in scores for key in WITH_PUNCT):
        with_punct = parser_score(examples, ignore_labels=())
        results.update({name: with_punct[key] for key, name in WITH_PUNCT.items()})
    return results
