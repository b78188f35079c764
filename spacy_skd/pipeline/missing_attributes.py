"""Attributes of spaCy's `ner` and `parser` that our components do not have, and what to use."""

HINTS = {
    **dict.fromkeys(
        ("TransitionSystem", "moves", "move_names", "transition_states", "get_batch_loss"),
        "it has no transition system: `labels` are its labels, `model.predict` gives its scores",
    ),
    **dict.fromkeys(
        ("beam_parse", "update_beam", "scored_ents", "scored_parses"),
        "it has no beam: it finds the best structure exactly, and `model.predict` gives the scores",
    ),
    "greedy_parse": "its search is exact: call `predict`",
    **dict.fromkeys(
        ("add_multitask_objective", "init_multitask_objectives"),
        "share a tok2vec with other components to learn several tasks",
    ),
}
