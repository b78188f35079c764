"""spacy-skd.ConsoleLogger.v1: spaCy's console log with gold and distillation loss apart."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Callable, Dict, List, Optional, Tuple, Union

from spacy.language import Language
from spacy.training.loggers import console_logger_v3

from .pipeline.distilling_pipe import DistillingPipe

LogStep = Callable[[Optional[Dict[str, Any]]], None]


def console_logger(
    progress_bar: Optional[str] = None,
    console_output: bool = True,
    output_file: Optional[Union[str, Path]] = None,
) -> Callable[..., Tuple[LogStep, Callable[[], None]]]:
    """Create spaCy's console logger, with two more columns for each component with a distillation
    loss: `NAME_gold` and `NAME_distill`, which add up to the component's loss.

    progress_bar (Optional[str]): "train", "eval" or None, as for spacy.ConsoleLogger.v3.
    console_output (bool): Whether to print the log.
    output_file (Optional[Union[str, Path]]): A JSONL file to save the log to.
    RETURNS (Callable): The logger's set-up function.
    """
    setup_console = console_logger_v3(progress_bar, console_output)
    setup_file = console_logger_v3(None, False, output_file)

    def setup_printer(
        nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr
    ) -> Tuple[LogStep, Callable[[], None]]:
        # spaCy's loggers take their columns from the names in the pipeline.
        names, students = [], []
        for name, pipe in nlp.pipeline:
            if getattr(pipe, "is_trainable", False):
                names.append(name)
                if isinstance(pipe, DistillingPipe) and pipe.distillation is not None:
                    names += [f"{name}_gold", f"{name}_distill"]
                    students.append(name)
        titles = _titles(students)
        log_console, finalize_console = setup_console(
            _columns([titles.get(name, name) for name in names], nlp), stdout, stderr
        )
        log_file, finalize_file = setup_file(_columns(names, nlp), stdout, stderr)

        def log_step(info: Optional[Dict[str, Any]]) -> None:
            log_file(info)
            if info is not None:
                titled = {titles.get(name, name): loss for name, loss in info["losses"].items()}
                info = {**info, "losses": titled}
            log_console(info)

        def finalize() -> None:
            finalize_console()
            finalize_file()

        return log_step, finalize

    return setup_printer


def _titles(students: List[str]) -> Dict[str, str]:
    """Choose titles for the losses. spaCy cuts titles off after eight letters, so that
    "parser_gold" and "parser_distill" would look the same.

    students (List[str]): The names of the components.
    RETURNS (Dict[str, str]): A title for each loss, all different.
    """
    numbers = [str(i + 1) for i in range(len(students))]
    titles: Dict[str, str] = {}
    for shortened, gold, distill in (
        ([name[:3] for name in students], ":gold", ":dist"),
        ([name[:6] for name in students], ":g", ":d"),
        (numbers, ":gold", ":dist"),
    ):
        for name, short in zip(students, shortened):
            titles[f"{name}_gold"] = short + gold
            titles[f"{name}_distill"] = short + distill
        if len(set(titles.values())) == len(titles):
            break
    return titles


def _columns(names: List[str], nlp: Language) -> Any:
    """RETURNS (Any): What spaCy's logger reads from a pipeline, with a component of each name."""
    component = SimpleNamespace(is_trainable=True)
    return SimpleNamespace(pipeline=[(name, component) for name in names], config=nlp.config)
