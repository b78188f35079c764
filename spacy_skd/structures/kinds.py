"""The kinds of scores that a teacher's component can give a student, the most informative first."""

# Potentials of the sub-structures that the student scores too.
POTENTIALS = "potentials"
# Potentials over finer tags than the student's. Sequences of such tags are sequences of the
# student's tags, but bigrams of such tags are not bigrams of the student's tags.
FINER_POTENTIALS = "finer_potentials"
# Some tag sequences with their probabilities.
SEQUENCES = "sequences"
# Probabilities of arcs.
ARC_MARGINALS = "arc_marginals"
# The one structure that the component sets.
STRUCTURE = "structure"
# The token vectors that the component reads.
TOKEN_VECTORS = "token_vectors"

# The log of a probability of zero. It is finite, so that no difference of two of them is NaN.
LOG_ZERO = -1e4
