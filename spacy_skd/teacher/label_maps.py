"""What a teacher's labels are called in the student."""

from typing import Any, Dict, Mapping, Optional

# For each of a teacher's labels, the name in the student, or None for a label that is not learned.
LabelMap = Dict[str, Optional[str]]


def label_map(name: str, value: Any) -> LabelMap:
    """Read the label map of a config.

    name (str): The student's component.
    value (Union[Dict, List]): Names by label, or pairs of a label and a name.
    RETURNS (LabelMap): Names by label.
    RAISES (ValueError): If the value is neither, or the config's syntax has split a label at a
        colon.
    """
    if isinstance(value, (list, tuple)):
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value):
            raise ValueError(
                f'The label_maps of "{name}" is a list, but not one of pairs such as '
                '["nsubj:pass", "nsubjpass"].'
            )
        return {own: other for own, other in value}
    if not isinstance(value, Mapping):
        raise ValueError(
            f'The label_maps of "{name}" is {value!r}, but has to map labels: e.g. '
            '{"GPE": "LOC", "DATE": null}.'
        )
    for own, other in value.items():
        if isinstance(other, str) and " = " in other:
            raise ValueError(
                f'The label_maps of "{name}" map "{own}" to {other!r}: where a label has a colon, '
                "a config takes the part before it for the key. Give pairs instead, e.g. "
                '[["nsubj:pass", "nsubjpass"]].'
            )
    return dict(value)
