"""spacy-skd.ConsoleLogger.v1: spaCy's console log with gold and distillation loss apart."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Callable, Dict, Optional, Tuple, Union

from spacy.language import Language
from spacy.training.loggers import console_logger_v3

from .pipeline.structured_pipe import StructuredPipe

LogStep = Callable[[Optional[Dict[str, Any]]], None]


def console_logger(
    progress_bar: Optional[str] = None,
    console_output: bool = True,
    output_file: Optional[Union[str, Path]] = None,
) -> Callable[..., Tuple[LogStep, Callable[[], None]]]:
    """spaCy's console logger, which has a column for each component's loss, with two more for each
    component that has a distillation loss: `NAME_gold` and `NAME_distill`, which add up to it.

    progress_bar (Optional[str]): "train", "eval" or None, as for spacy.ConsoleLogger.v3.
    console_output (bool): Whether to print the log.
    output_file (Optional[Union[str, Path]]): A JSONL file to save the log to.
    RETURNS (Callable): The logger's set-up function.
    """
    setup_spacy_printer = console_logger_v3(progress_bar, console_output, output_file)

    def setup_printer(
        nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr
    ) -> Tuple[LogStep, Callable[[], None]]:
        # spaCy's logger takes its columns from the names in the pipeline.
        columns = []
        for name, pipe in nlp.pipeline:
            columns.append((name, pipe))
            if isinstance(pipe, StructuredPipe) and pipe.distillation is not None:
                columns += [(f"{name}_gold", pipe), (f"{name}_distill", pipe)]
        return setup_spacy_printer(
            SimpleNamespace(pipeline=columns, config=nlp.config), stdout, stderr
        )

    return setup_printer
