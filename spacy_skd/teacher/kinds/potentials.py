"""Teachers with our components, `crf_ner` and `biaffine_parser`, which give potentials."""

from typing import Any, List, Sequence

from spacy.language import Language
from spacy.tokens import Doc
from thinc.types import Floats2d, Floats3d, Ints2d

from ...models.biaffine_scorer import SentenceScorer
from ...pipeline.distilling_pipe import DistillingPipe
from ...structures import POTENTIALS, ArcScores, ChainScores, SentenceGroup
from ...structures.arcs import HEADS, LABELS
from ..lazy_pipeline import LazyPipeline
from ..pipe import TeacherPipe
from .entities_and_parses import EntityPipe, ParsePipe


class Potentials(TeacherPipe):
    """Reads the model of one of our components."""

    gives = POTENTIALS
    in_words = "potentials"

    def read(self, pipeline: LazyPipeline, docs: List[Doc]) -> Any:
        """See TeacherPipe.read. RETURNS (Any): The output of the component's model."""
        pipe: Any = pipeline.nlp.get_pipe(self.name)
        if not isinstance(pipe, DistillingPipe):
            raise ValueError(
                f'The teacher\'s component "{self.name}" is a {type(pipe).__name__}, which is not '
                "what its config says."
            )
        return pipe.model.predict(docs)


class TagPotentials(Potentials, EntityPipe):
    """A `crf_ner`."""

    factories = frozenset({"crf_ner"})
    output = ChainScores

    def configure(self, config: Any, student: Any) -> None:
        """See TeacherPipe.configure."""
        self.scheme_name = config["scheme"]

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        return [self.name, self.gives, self.scheme_name, list(self.own_labels)]


class ArcPotentials(Potentials, ParsePipe):
    """A `biaffine_parser`."""

    factories = frozenset({"biaffine_parser"})
    output = ArcScores

    def configure(self, config: Any, student: Any) -> None:
        """See TeacherPipe.configure."""
        super().configure(config, student)
        # Raw scores are matched on all arcs; probabilities depend on the probable arcs.
        self.prune = student.distillation.accepts != {POTENTIALS}

    def key(self) -> List[Any]:
        """See TeacherPipe.key."""
        kept = [HEADS, LABELS] if self.prune else None
        return [self.name, self.gives, "parse", list(self.own_labels), self.n_heads, kept]

    def average(self, members: Sequence[SentenceScorer]) -> Any:
        """See TeacherPipe.average."""
        return AveragedScorer(members)

    def complete(self, output: Any, nlp: Language, docs: List[Doc]) -> ArcScores:
        """See TeacherPipe.complete."""
        pipe: Any = nlp.get_pipe(self.name)
        scores: ArcScores = pipe.to_teach(output, docs, self.n_heads)
        return scores


class AveragedScorer:
    """The average of the scores of several parsers; see SentenceScorer.

    members (Sequence[SentenceScorer]): The scores of the same docs.
    """

    def __init__(self, members: Sequence[SentenceScorer]) -> None:
        self._members = members
        self.starts: Floats2d = _mean([m.starts for m in members])
        self.lengths: List[int] = members[0].lengths

    def arcs(self, groups: List[SentenceGroup]) -> List[Floats3d]:
        """See SentenceScorer.arcs."""
        return [_mean(blocks) for blocks in zip(*(m.arcs(groups) for m in self._members))]

    def labels(self, groups: List[SentenceGroup], heads: Ints2d) -> Floats3d:
        """See SentenceScorer.labels."""
        return _mean([m.labels(groups, heads) for m in self._members])


def _mean(arrays: Sequence[Any]) -> Any:
    return sum(arrays) / len(arrays)
