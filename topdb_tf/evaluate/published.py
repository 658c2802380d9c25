"""The figures that the paper printed, to stand beside ours.

Source: Quispe and Pedrini, Top DropBlock for Activation Enhancement in Person
Re-Identification, ICPR 2020, Tables I and II (https://arxiv.org/abs/2010.05435).
"""

from collections.abc import Sequence
from typing import NamedTuple

TITLES = {
    "market1501": "Market-1501",
    "dukemtmc-reid": "DukeMTMC-reID",
    "cuhk03-labeled": "CUHK03-L",
    "cuhk03-detected": "CUHK03-D",
}
_LETTERS = {
    "market1501": "M",
    "dukemtmc-reid": "D",
    "cuhk03-labeled": "C3",
    "cuhk03-detected": "C3",
    "msmt17-v1": "MS",
    "msmt17-v2": "MS",
}
_LEAVE_ONE_OUT = (
    "leave one of four out, as Zhou et al., TPAMI 2021 (https://arxiv.org/abs/"
    "1910.06827) and Zhao et al., CVPR 2021 (https://arxiv.org/abs/2012.00417)"
)
# In the order of the paper's Table I.
METHOD_OF_RECIPE = {
    "bdb": "Baseline (BDB)",
    "no_drop": "no-drop",
    "no_reg": "no-reg",
    "paper": "Top-DB-Net",
    "authors": "Top-DB-Net",
}
METHOD = "Top-DB-Net"
"""The paper's own, whose figures stand beside a run that is no method's."""
NOTES = {
    "cuhk03-detected": "Published mAP of Top-DB-Net on CUHK03-D: 73.2 in the paper's "
    "Table I, 74.2 in the README of the authors' code.",
}


class Published(NamedTuple):
    """Two figures of one row and one data set, in percent.

    Deviations over the runs, and how many there were, stand where they are given; the
    paper does not say which deviation it is.
    """

    mean_ap: float
    rank_1: float
    mean_ap_deviation: float | None = None
    rank_1_deviation: float | None = None
    num_seeds: int | None = None


TABLE_1 = {
    "Baseline (BDB)": {
        "market1501": Published(85.2, 94.1),
        "dukemtmc-reid": Published(73.2, 85.6),
        "cuhk03-labeled": Published(72.2, 74.7),
        "cuhk03-detected": Published(70.3, 73.7),
    },
    "no-drop": {
        "market1501": Published(84.7, 94.4),
        "dukemtmc-reid": Published(72.7, 86.1),
        "cuhk03-labeled": Published(70.7, 73.8),
        "cuhk03-detected": Published(68.4, 71.9),
    },
    "no-reg": {
        "market1501": Published(83.9, 93.9),
        "dukemtmc-reid": Published(71.1, 86.1),
        "cuhk03-labeled": Published(71.4, 74.6),
        "cuhk03-detected": Published(69.4, 73.5),
    },
    "Top-DB-Net": {
        "market1501": Published(85.8, 94.9, 0.1, 0.1, 5),
        "dukemtmc-reid": Published(73.5, 87.5, 0.2, 0.3, 5),
        "cuhk03-labeled": Published(75.4, 79.4, 0.2, 0.5, 5),
        "cuhk03-detected": Published(73.2, 77.3, 0.1, 0.5, 5),
    },
}


def transfer_name(trained_on: Sequence[str], tested: str) -> str | None:
    """Returns what papers on domain generalisation call a training and its test.

    Nothing is returned for data sets that they have no letters for, and for a test on
    what was trained on.

    Example:
        >>> from topdb_tf.evaluate.published import transfer_name
        >>> transfer_name(["market1501", "cuhk03-detected"], "dukemtmc-reid")
        'M+C3 -> D'
    """
    letters = [_LETTERS.get(name) for name in (*trained_on, tested)]
    if None in letters or letters[-1] in letters[:-1]:
        return None
    name = f"{'+'.join(letters[:-1])} -> {letters[-1]}"
    is_leave_one_out = set(letters) == set(_LETTERS.values())
    return f"{name}, {_LEAVE_ONE_OUT}" if is_leave_one_out else name


def printed_of(
    method: str, dataset: str, *, reranked: bool = True
) -> list[tuple[str, Published]]:
    """Returns the figures of a method, as far as they are printed, each with its end.

    That is what follows the name of the method, such as ", re-ranked".
    """
    tables = [("", TABLE_1), (", re-ranked", TABLE_2)][: 1 + reranked]
    figures = [(end, table.get(method, {}).get(dataset)) for end, table in tables]
    return [(end, printed) for end, printed in figures if printed is not None]


# With k-reciprocal re-ranking.
TABLE_2 = {
    "Top-DB-Net": {
        "market1501": Published(94.1, 95.5),
        "dukemtmc-reid": Published(88.6, 90.9),
        "cuhk03-labeled": Published(88.5, 86.7),
        "cuhk03-detected": Published(86.9, 85.7),
    },
}
