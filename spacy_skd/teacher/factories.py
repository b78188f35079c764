"""The factories of spaCy and of this package: what their components set and read."""

from typing import Any, List, Mapping, Set

from thinc.api import Config

# Components that set entities, and components that set parses: ours, and spaCy's with a beam.
ENTITIES = {"ner", "beam_ner", "crf_ner"}
PARSES = {"parser", "beam_parser", "biaffine_parser"}

# The attributes of tokens that components set.
_ANNOTATION = {"TAG", "POS", "MORPH", "LEMMA", "DEP", "ENT_TYPE", "ENT_IOB", "SENT_START"}

# Components that set neither entities nor sentences.
_NEITHER = {
    "tagger",
    "morphologizer",
    "lemmatizer",
    "trainable_lemmatizer",
    "attribute_ruler",
    "textcat",
    "textcat_multilabel",
    "entity_linker",
    "spancat",
    "spancat_singlelabel",
    "span_finder",
}
_SENTENCES = PARSES | {"senter", "sentencizer"}
ENCODERS = {"tok2vec", "transformer", "curated_transformer"}


def enabled(config: Config) -> List[str]:
    """RETURNS (List[str]): The components that a pipeline of this config runs when it is loaded."""
    disabled = config["nlp"].get("disabled", ())
    return [name for name in config["nlp"]["pipeline"] if name not in disabled]


def runs_before(config: Config, name: str) -> List[str]:
    """Find the components of a pipeline whose annotation a component depends on.

    config (Config): The pipeline's config.
    name (str): The component.
    RETURNS (List[str]): The components before it, in order, without those that set nothing that it
        reads. A component that is neither spaCy's nor ours may read and set anything.
    """
    pipeline: List[str] = config["nlp"]["pipeline"]
    runs = enabled(config)
    upstream = [other for other in pipeline[: pipeline.index(name)] if other in runs]
    settings = {other: config["components"][other] for other in [*upstream, name]}
    factories = {other: block.get("factory", "") for other, block in settings.items()}
    if not set(factories.values()) <= _NEITHER | ENTITIES | _SENTENCES | ENCODERS:
        return upstream
    if any(_reads_annotation(block) for block in settings.values()):
        return upstream
    read: Set[str] = set(ENCODERS)
    # Entities and sentence starts that are set are kept. spaCy's `ner` ends entities at the end of
    # a sentence.
    if factories[name] in ENTITIES:
        read |= ENTITIES
    if factories[name] in PARSES | {"ner", "beam_ner"}:
        read |= _SENTENCES
    return [other for other in upstream if factories[other] in read]


def _reads_annotation(settings: Any) -> bool:
    """RETURNS (bool): Whether a component's config lists an attribute that components set."""
    if isinstance(settings, Mapping):
        return any(_reads_annotation(value) for value in settings.values())
    if isinstance(settings, (list, tuple)):
        return any(_reads_annotation(value) for value in settings)
    return isinstance(settings, str) and settings in _ANNOTATION
