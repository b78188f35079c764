"""`spacy skd`, which groups the commands that spaCy has no name for."""

import typer
from spacy.cli._util import app

skd = typer.Typer(name="skd", help="Distil pipelines: spacy-skd", no_args_is_help=True)
app.add_typer(skd)
