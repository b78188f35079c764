"""Tagging schemes: which tags there are, and which may follow which.

Everything that walks over tag sequences (Viterbi, the forward algorithm, the local losses) takes
validity from here, so that no two parts can disagree about what a well-formed sequence is.
"""

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy

# Per scheme: the prefixes in tag order, which of them open an entity, and which close one.
# An entity is a run of tags of one label from an opening to a closing prefix. In BIO any tag of an
# entity may be its last.
_PREFIXES: Dict[str, Tuple[str, ...]] = {"BIO": ("B", "I"), "BILUO": ("B", "I", "L", "U")}
_OPENS: Dict[str, str] = {"BIO": "B", "BILUO": "BU"}
_CLOSES: Dict[str, str] = {"BIO": "BI", "BILUO": "LU"}
_CONTINUES: Dict[str, Dict[str, str]] = {
    "BIO": {"B": "I", "I": "I"},
    "BILUO": {"B": "IL", "I": "IL", "L": "", "U": ""},
}


@dataclass(frozen=True)
class ValidTags:
    """What a well-formed tag sequence may contain; True means allowed.

    transitions (ndarray): bool, (n_tags, n_tags); [i, j]: tag j may follow tag i.
    start (ndarray): bool, (n_tags,); tags a sequence may start with.
    end (ndarray): bool, (n_tags,); tags a sequence may end with.
    """

    transitions: numpy.ndarray
    start: numpy.ndarray
    end: numpy.ndarray

    def restrict(self, tags: numpy.ndarray) -> "ValidTags":
        """The same with only some of the tags allowed anywhere.

        tags (ndarray): bool, (n_tags,).
        RETURNS (ValidTags): Same shapes, False wherever an excluded tag takes part.
        """
        return ValidTags(
            transitions=self.transitions & tags[:, None] & tags[None, :],
            start=self.start & tags,
            end=self.end & tags,
        )


class TagScheme:
    """The tags of a set of entity labels, in a fixed order: O, then each label's tags in turn.

    The order depends on the order of the labels alone, so a label added at the end adds its tags
    at the end, and what a model has learned about the others stays where it was.

    name (str): "BIO" or "BILUO".
    labels (Iterable[str]): The entity labels, in the order of the model's output.
    RAISES (ValueError): On an unknown scheme.
    """

    def __init__(self, name: str, labels: Iterable[str]) -> None:
        if name not in _PREFIXES:
            known = " or ".join(f'"{known}"' for known in _PREFIXES)
            raise ValueError(f'Unknown tagging scheme "{name}": set scheme to {known}.')
        self.name = name
        self.labels: Tuple[str, ...] = tuple(labels)
        self.tags: Tuple[str, ...] = ("O",) + tuple(
            f"{prefix}-{label}" for label in self.labels for prefix in _PREFIXES[name]
        )
        self.index: Dict[str, int] = {tag: i for i, tag in enumerate(self.tags)}
        self._valid: Optional[ValidTags] = None

    def __len__(self) -> int:
        return len(self.tags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagScheme) and (self.name, self.labels) == (
            other.name,
            other.labels,
        )

    def __hash__(self) -> int:
        return hash((self.name, self.labels))

    def __repr__(self) -> str:
        return f"TagScheme({self.name!r}, {self.labels!r})"

    @staticmethod
    def tags_per_label(name: str) -> int:
        """How many tags a label has in a scheme.

        name (str): "BIO" or "BILUO".
        RETURNS (int): 2 or 4.
        """
        return len(_PREFIXES[name])

    @property
    def valid(self) -> ValidTags:
        """RETURNS (ValidTags): What a well-formed sequence of these tags may contain."""
        if self._valid is None:
            opens, closes = _OPENS[self.name], _CLOSES[self.name]
            continues, prefixes = _CONTINUES[self.name], _PREFIXES[self.name]
            prefix = [tag[0] for tag in self.tags]
            start = numpy.array([p == "O" or p in opens for p in prefix])
            end = numpy.array([p == "O" or p in closes for p in prefix])
            transitions = end[:, None] & start[None, :]
            # By position and not by name, since two labels may have the same.
            for first in range(1, len(self.tags), len(prefixes)):
                for i, p in enumerate(prefixes):
                    for follower in continues[p]:
                        transitions[first + i, first + prefixes.index(follower)] = True
            self._valid = ValidTags(transitions=transitions, start=start, end=end)
        return self._valid

    def entity_tags(self, label: str, length: int) -> List[int]:
        """The tags of one entity.

        label (str): The entity's label, one of the scheme's.
        length (int): Its length in tokens, at least 1.
        RETURNS (List[int]): Indices into `tags`.
        """
        if self.name == "BIO":
            prefixes = "B" + "I" * (length - 1)
        elif length == 1:
            prefixes = "U"
        else:
            prefixes = "B" + "I" * (length - 2) + "L"
        return [self.index[f"{prefix}-{label}"] for prefix in prefixes]

    def entities(self, tags: Union[Sequence[int], numpy.ndarray]) -> List[Tuple[int, int, str]]:
        """The entities of a well-formed tag sequence.

        tags (Union[Sequence[int], ndarray]): Indices into `tags`, one a token.
        RETURNS (List[Tuple[int, int, str]]): (start, end, label), end exclusive, in order.
        """
        entities: List[Tuple[int, int, str]] = []
        opens = _OPENS[self.name]
        indices = numpy.asarray(tags)
        for i in numpy.flatnonzero(indices != self.index["O"]):
            name = self.tags[indices[i]]
            if name[0] in opens:
                entities.append((int(i), int(i) + 1, name[2:]))
            else:
                begin, _, label = entities[-1]
                entities[-1] = (begin, int(i) + 1, label)
        return entities

    @property
    def is_ambiguous(self) -> bool:
        """RETURNS (bool): Whether two of its labels have the same name, as where a teacher's are
        mapped to one of a student's."""
        return len(set(self.labels) - {""}) < len([label for label in self.labels if label])

    def is_finer_than(self, other: "TagScheme") -> bool:
        """Whether several of its tags stand for one of another scheme: B and U of BILUO for B of
        BIO, or those of labels with the same name. Each well-formed sequence of its tags is one of
        the other's all the same.

        other (TagScheme): The other scheme.
        """
        return self.is_ambiguous or (self.name == "BILUO" and other.name == "BIO")

    def in_biluo(self) -> Tuple["TagScheme", numpy.ndarray]:
        """The same labels in BILUO, and for each of its tags the one here that it takes its
        potentials from: see `index_in`.

        RETURNS (Tuple[TagScheme, ndarray]): The scheme, and int, (n_biluo_tags,).
        """
        biluo = TagScheme("BILUO", self.labels)
        if self.name == "BILUO":
            return biluo, numpy.arange(len(biluo))
        of_label = numpy.array([1, 2, 2, 1])  # of B, I, L and U: B, I, I and B
        first = 2 * numpy.arange(len(self.labels))
        return biluo, numpy.concatenate([[0], (first[:, None] + of_label).ravel()])

    def index_in(self, other: "TagScheme") -> numpy.ndarray:
        """For each tag, the tag of another scheme that it is, or is one of.

        From BIO to BILUO scores can be taken over so: a BILUO chain whose tags take their
        potentials from the BIO tag they stand for has the same distribution. The other way a BIO
        bigram would have to know whether its entity goes on, which it does not.

        other (TagScheme): The other scheme, as fine or coarser.
        RETURNS (ndarray): int, (n_tags,); -1 for tags of a label that the other lacks.
        RAISES (ValueError): If the other is finer.
        """
        if other.is_finer_than(self):
            raise ValueError(f"A tag of {self.name} may be one of several of {other.name}.")
        as_other = {"O": "O", "B": "B", "I": "I", "L": "I", "U": "B"}
        if self.name == other.name:
            as_other = {prefix: prefix for prefix in as_other}
        return numpy.array(
            [other.index.get(as_other[tag[0]] + tag[1:], -1) for tag in self.tags], dtype="i"
        )
