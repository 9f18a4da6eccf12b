"""Numbers of the paper that its chapter draws: figure 4 and the part of table 3 at 384 pixels (version 2)."""

from collections.abc import Mapping

# Validation accuracy in per cent, as printed, in pre-training: of ImageNet-1k on a part of its training set that was
# held out. The models without a ResNet; the columns are those of ``LEVELS``, first without regularisation, then with.
_PANELS = {
    "i1k 300": """
        Ti/16  72 76 75 75 74 72 71   71 72 68 65 63 63 62
        S/32   64 71 76 76 76 74 74   70 72 72 71 71 69 68
        S/16   71 77 79 81 82 80 80   76 79 80 79 79 77 77
        B/32   63 70 73 75 76 75 76   69 74 77 77 78 77 77
        B/16   70 76 79 79 81 80 80   76 79 81 82 83 82 82
        L/16   69 76 77 78 78 76 76   74 78 78 78 79 77 77""",
    "i21k 30": """
        Ti/16  38 37 35 34 33 32 31   34 32 29 27 26 25 25
        S/32   40 39 38 37 35 35 34   37 34 33 32 31 30 29
        S/16   44 43 43 42 41 40 39   42 40 39 38 37 35 35
        B/32   43 42 43 42 41 40 41   42 40 40 38 38 36 36
        B/16   46 47 47 46 46 45 44   46 45 45 44 43 42 41
        L/16   45 48 49 49 49 48 47   48 48 48 47 46 45 45""",
    "i21k 300": """
        Ti/16  41 41 40 39 37 37 36   38 36 34 33 32 31 29
        S/32   43 43 43 42 42 41 40   41 40 39 38 36 36 35
        S/16   46 47 47 47 46 45 45   45 45 43 43 42 41 40
        B/32   42 46 48 47 47 47 46   45 46 46 45 44 44 43
        B/16   43 48 50 51 50 50 50   47 49 49 49 48 48 48
        L/16   43 46 49 49 51 51 51   46 48 51 51 51 51 51""",
}

Row = tuple[tuple[int, ...], tuple[int, ...]]


def _rows(panel: str) -> dict[str, Row]:
    rows = {}
    for line in panel.split("\n")[1:]:
        name, *numbers = line.split()
        values = tuple(map(int, numbers))
        rows[name] = values[:7], values[7:]
    return rows


FIGURE_4: Mapping[str, Mapping[str, Row]] = {title: _rows(panel) for title, panel in _PANELS.items()}

# Accuracy on ImageNet-1k in per cent after fine-tuning at 384 pixels. The last column is of the ViT paper.
_COLUMNS = ("i1k 300", "i21k 30", "i21k 300", "i21k 300, chosen on V2", "JFT-300M")
TABLE_3: Mapping[str, Mapping[str, float | None]] = {
    name: dict(zip(_COLUMNS, row, strict=True))
    for name, row in {
        "L/16": (77.21, 84.48, 85.59, 87.08, 87.12),
        "B/16": (81.63, 83.46, 85.49, 86.15, 84.15),
        "S/16": (80.70, 80.22, 83.73, 83.15, None),
        "B/32": (76.60, 78.65, 83.59, 83.59, 80.73),
        "S/32": (75.65, 75.74, 79.58, 80.01, None),
        "Ti/16": (74.64, 74.20, 78.22, 77.83, None),
    }.items()
}
