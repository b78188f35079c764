"""`spacy distill` and `spacy skd`: a module adds its command to spaCy's own when it is imported."""
