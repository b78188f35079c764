"""`spacy skd init-config`: make the config of a student that learns all it can from a teacher."""

from pathlib import Path
from typing import Annotated, Optional

from spacy.cli._util import Arg, Opt
from wasabi import msg

from .app import errors_in_a_sentence, skd
from .config_edits import with_vectors
from .student_template import Optimize, left_out, make_config
from .whole_files import write_whole


@skd.command("init-config")
def init_config_cli(
    teacher: Annotated[str, Arg(help="Name or path of the teacher's pipeline")],
    output_file: Annotated[
        Path, Arg(help="File to save the config to, or - for stdout", allow_dash=True)
    ],
    optimize: Annotated[
        Optimize,
        Opt("--optimize", "-o", help="Whether to optimize for efficiency or accuracy"),
    ] = Optimize.efficiency,
    vectors: Annotated[
        Optional[Path],
        Opt(help="The teacher's word vectors, as saved by `spacy skd vectors`", exists=True),
    ] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Replace an existing file")] = False,
) -> None:
    """
    Make a config for `spacy train` or `spacy distill`. The student has a component for each of the
    teacher's that sets entities or parses, with the same name.
    """
    if output_file.exists() and not force:
        msg.fail(f"{output_file} already exists: give another name, or --force.", exits=1)
    with errors_in_a_sentence():
        config = make_config(teacher, optimize)
        if vectors is not None:
            config = with_vectors(config, vectors)
        text = config.to_str(interpolate=False)
        if str(output_file) != "-":
            write_whole(output_file, lambda path: path.write_text(text, encoding="utf8"))
    if str(output_file) == "-":
        print(text)
    else:
        msg.good(f"Saved the config to {output_file}")
        if missing := left_out(teacher, config):
            msg.info(f"The student leaves out {', '.join(missing)}, which its teacher has")
        print(
            f"spacy distill {teacher} {output_file} --output student --paths.train train.spacy "
            "--paths.dev dev.spacy\n"
            f"spacy distill {teacher} {output_file} --output student --raw texts"
        )
