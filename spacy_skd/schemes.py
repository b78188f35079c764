"""Tagging schemes: the tags of entity labels, and which tag may follow which.

Viterbi, the forward algorithm and the losses all take the valid sequences from here.
"""

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy

# For each scheme: the prefixes in the order of the tags, those that open an entity, and those that
# close one. An entity is a run of tags of one label from an opening to a closing prefix. In BIO any
# tag of an entity may be the last.
_PREFIXES: Dict[str, Tuple[str, ...]] = {"BIO": ("B", "I"), "BILUO": ("B", "I", "L", "U")}
_OPENS: Dict[str, str] = {"BIO": "B", "BILUO": "BU"}
_CLOSES: Dict[str, str] = {"BIO": "BI", "BILUO": "LU"}
_CONTINUES: Dict[str, Dict[str, str]] = {
    "BIO": {"B": "I", "I": "I"},
    "BILUO": {"B": "IL", "I": "IL", "L": "", "U": ""},
}


@dataclass(frozen=True)
class ValidTags:
    """The valid sequences of tags. True means allowed.

    transitions (ndarray): bool, (n_tags, n_tags); [i, j]: tag j may follow tag i.
    start (ndarray): bool, (n_tags,); the tags at which a sequence may start.
    end (ndarray): bool, (n_tags,); the tags at which a sequence may end.
    """

    transitions: numpy.ndarray
    start: numpy.ndarray
    end: numpy.ndarray

    def restrict(self, tags: numpy.ndarray) -> "ValidTags":
        """Leave out tags.

        tags (ndarray): bool, (n_tags,); False for the tags to leave out.
        RETURNS (ValidTags): Of the same shapes, False for everything with a tag that is left out.
        """
        return ValidTags(
            transitions=self.transitions & tags[:, None] & tags[None, :],
            start=self.start & tags,
            end=self.end & tags,
        )


class TagScheme:
    """The tags of a set of entity labels, in a fixed order: O, then the tags of each label.

    The order depends on the order of the labels alone. The tags of a label that is added at the end
    come at the end, so that a model keeps what it has learned about the others.

    name (str): "BIO" or "BILUO".
    labels (Iterable[str]): The entity labels, in the order of the model's output.
    RAISES (ValueError): If there is no such scheme.
    """

    def __init__(self, name: str, labels: Iterable[str]) -> None:
        if name not in _PREFIXES:
            names = " or ".join(f'"{prefix}"' for prefix in _PREFIXES)
            raise ValueError(f'Unknown tagging scheme "{name}": set scheme to {names}.')
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
        """Count the tags of each label in a scheme.

        name (str): "BIO" or "BILUO".
        RETURNS (int): 2 or 4.
        """
        return len(_PREFIXES[name])

    @property
    def valid(self) -> ValidTags:
        """RETURNS (ValidTags): The valid sequences of these tags."""
        if self._valid is None:
            opens, closes = _OPENS[self.name], _CLOSES[self.name]
            continues, prefixes = _CONTINUES[self.name], _PREFIXES[self.name]
            prefix = [tag[0] for tag in self.tags]
            start = numpy.array([p == "O" or p in opens for p in prefix])
            end = numpy.array([p == "O" or p in closes for p in prefix])
            transitions = end[:, None] & start[None, :]
            # By position, since two labels may have the same name.
            for first in range(1, len(self.tags), len(prefixes)):
                for i, p in enumerate(prefixes):
                    for follower in continues[p]:
                        transitions[first + i, first + prefixes.index(follower)] = True
            self._valid = ValidTags(transitions=transitions, start=start, end=end)
        return self._valid

    def entity_tags(self, label: str, length: int) -> List[int]:
        """List the tags of an entity.

        label (str): The entity's label, one of the scheme's labels.
        length (int): The number of tokens, at least 1.
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
        """List the entities of a valid tag sequence.

        tags (Union[Sequence[int], ndarray]): Indices into `tags`, one for each token.
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
        """RETURNS (bool): Whether two labels have the same name, which happens if several of a
        teacher's labels are mapped to one of the student's."""
        return len(set(self.labels) - {""}) < len([label for label in self.labels if label])

    def is_finer_than(self, other: "TagScheme") -> bool:
        """Check whether several tags stand for one tag of another scheme: B and U of BILUO for B of
        BIO, or the tags of labels with the same name. Each valid sequence of these tags is a valid
        sequence of the other scheme's tags all the same.

        other (TagScheme): The other scheme.
        RETURNS (bool): Whether there are such tags.
        """
        return self.is_ambiguous or (self.name == "BILUO" and other.name == "BIO")

    def in_biluo(self) -> Tuple["TagScheme", numpy.ndarray]:
        """Convert the scheme to BILUO.

        RETURNS (Tuple[TagScheme, ndarray]): The BILUO scheme with the same labels; and int,
            (n_biluo_tags,), for each of its tags the tag here with the same potentials. See
            `index_in`.
        """
        biluo = TagScheme("BILUO", self.labels)
        if self.name == "BILUO":
            return biluo, numpy.arange(len(biluo))
        of_label = numpy.array([1, 2, 2, 1])  # B, I, I and B, for B, I, L and U
        first = 2 * numpy.arange(len(self.labels))
        return biluo, numpy.concatenate([[0], (first[:, None] + of_label).ravel()])

    def index_in(self, other: "TagScheme") -> numpy.ndarray:
        """Find the tag of another scheme that each tag is, or is one kind of.

        BIO scores can be turned into BILUO scores in this way: a BILUO chain whose tags have the
        potentials of the BIO tags that they stand for has the same distribution. The reverse is not
        possible: a BIO bigram does not say whether the entity continues.

        other (TagScheme): The other scheme, equally fine or coarser.
        RETURNS (ndarray): int, (n_tags,); -1 for tags of a label that the other scheme lacks.
        RAISES (ValueError): If the other scheme is finer.
        """
        if other.is_finer_than(self):
            raise ValueError(f"A tag of {self.name} may be one of several of {other.name}.")
        as_other = {"O": "O", "B": "B", "I": "I", "L": "I", "U": "B"}
        if self.name == other.name:
            as_other = {prefix: prefix for prefix in as_other}
        return numpy.array(
            [other.index.get(as_other[tag[0]] + tag[1:], -1) for tag in self.tags], dtype="i"
        )
