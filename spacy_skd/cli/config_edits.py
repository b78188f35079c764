"""Single changes to a training config: its vectors, number of updates, or components."""

from pathlib import Path
from typing import Collection

from thinc.api import Config


def with_vectors(config: Config, path: Path) -> Config:
    """Let the embeddings of a config look up words in static vectors.

    config (Config): From `make_config`, not interpolated.
    path (Path): The vectors, as `spacy skd vectors` saves them.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    config["paths"]["vectors"] = str(path)
    for name in config["nlp"]["pipeline"]:
        embed = config["components"][name]["model"]["tok2vec"]["tok2vec"]["embed"]
        while "embed" in embed:  # a layer around the embedding
            embed = embed["embed"]
        embed["include_static_vectors"] = True
    return config


def set_max_steps(config: Config, steps: int) -> None:
    """Set the number of updates of a config in place. A schedule of the learning rate that ended
    with the updates still does.

    config (Config): The config, not interpolated.
    steps (int): The number of updates; 0, as in spaCy, for no limit. A schedule is left alone then.
    """
    training = config.setdefault("training", {})
    rate = training.get("optimizer", {}).get("learn_rate")
    has_end = isinstance(rate, dict) and "total_steps" in rate
    if steps and has_end and rate["total_steps"] == training.get("max_steps"):
        rate["total_steps"] = steps
    training["max_steps"] = steps


_SCORES = {"ner": ("ents_f", "ents_p", "ents_r"), "parser": ("dep_uas", "dep_las", "sents_f")}


def only(config: Config, kept: Collection[str]) -> Config:
    """Drop components from a shipped config, and share out their weights in the score.

    config (Config): The config, not interpolated.
    kept (Collection[str]): "ner", "parser", or both. Components of other names are always kept.
    RETURNS (Config): Another config.
    """
    config = config.copy()
    dropped = [name for name in config["nlp"]["pipeline"] if name in _SCORES and name not in kept]
    config["nlp"]["pipeline"] = [n for n in config["nlp"]["pipeline"] if n not in dropped]
    for name in dropped:
        del config["components"][name]
    weights = config["training"]["score_weights"]
    not_set = {score for name in dropped for score in _SCORES[name]}
    total = sum(weight for score, weight in weights.items() if weight and score not in not_set)
    for score, weight in weights.items():
        if score in not_set:
            weights[score] = None  # and the log does not show it
        elif weight:
            weights[score] = weight / total
    return config
