"""Reads tables and pictures back."""

from matplotlib.image import imread


def parse(markdown):
    """The Markdown tables in a text, each as rows of stripped cells, headings first."""
    parsed = []
    for block in markdown.split("\n\n"):
        if block.startswith("|"):
            rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.split("\n")]
            parsed.append([rows[0], *rows[2:]])
    return parsed


def names(paths):
    """The file names, after a look that every file is a picture with something on it."""
    for path in paths:
        inked = imread(path)[..., :3].min(axis=-1) < 0.9
        assert 0.01 < inked.mean() < 0.5
    return [path.name for path in paths]


def written_figures(monkeypatch, module):
    """Lets the module's figures be written, and keeps them."""
    kept = []
    write = module.write_png

    def write_and_keep(figure, path):
        kept.append(figure)
        return write(figure, path)

    monkeypatch.setattr(module, "write_png", write_and_keep)
    return kept


def points(line):
    """A line's points, shape [n, 2]; error bars hold them as objects."""
    return line.get_xydata().astype(float)
