"""What the commands of figures share: what is drawn, and where it is written."""

from collections.abc import Callable, Sequence
from pathlib import Path

from topdb_tf.cli.options import (
    data_overrides,
    evaluation_overrides,
    features_in,
    read_features,
    say,
    show,
)
from topdb_tf.files import plain, whole_file


def draw_images(
    draw: Callable, places, *, name, num, seed, data_root, dataset=None, **options
) -> None:
    """Draws images by a run, which is the first of the places if that is one."""
    from topdb_tf.figures.images import ImageChoice
    from topdb_tf.runs.folder import RunFolder, open_run

    run = None
    if places and RunFolder(places[0]).holds_run:
        run, *places = places
    choice = ImageChoice(tuple(places), dataset, num, seed)
    run = open_run(run, data_overrides(None, data_root), say=say)
    default = _file_of_run(run.path, name)
    write_figure(draw, run, choice, default=default, say=say, **options)


def draw_embedded(
    draw: Callable,
    run,
    dataset,
    data_root,
    best,
    metric,
    ignore_cameras,
    *,
    name,
    check=None,
    **options,
) -> None:
    """Draws test images, embedded or read when the names of files are checked."""
    from topdb_tf.evaluate.embedding import embed_run
    from topdb_tf.runs.folder import open_run

    files = features_in([run] if run else [], "dataset", "data_root", "best")
    if files:
        default = _file_of_features(run, name)
    else:
        overrides = data_overrides(None, data_root)
        overrides += evaluation_overrides(metric, ignore_cameras)
        run = open_run(run, overrides, say=say)
        default = _file_of_run(run.path, name)

    def draw_source(**options):
        if files:
            embedded = read_features(run, metric, ignore_cameras)
            if check is not None:
                check(embedded.split)
        else:
            embedded = embed_run(run, dataset, best=best, check=check, say=say)
        return draw(embedded, **options)

    write_figure(draw_source, default=default, **options)


def draw_scored(
    draw: Callable,
    runs: Sequence[Path],
    *,
    name: str,
    metric: str | None,
    ignore_cameras: bool,
    data_root: Path | None,
    rerank: bool,
    **options,
) -> None:
    """Draws the scores of trainings, and of features in files."""
    from topdb_tf.evaluate.arrays import scores_of_files

    files = features_in(runs, "dataset", "data_root", "best")
    options |= {"rerank": rerank, "say": say}
    if files:
        chosen = {"metric": metric} if metric else {}
        chosen |= {"rerank": rerank, "ignore_cameras": ignore_cameras}
        options["features"] = scores_of_files(files, **chosen)
    runs = [run for run in runs if run not in files]
    if files and not runs:
        default = _file_of_features(files[0], name)
        write_figure(draw, [], default=default, **options)
        return
    overrides = data_overrides(None, data_root)
    overrides += evaluation_overrides(metric, ignore_cameras)
    draw_trainings(draw, runs, name=name, overrides=overrides, **options)


def draw_trainings(
    draw: Callable,
    runs: Sequence[Path],
    *,
    name: str,
    overrides: Sequence[str] = (),
    **options,
) -> None:
    """Opens trainings and draws a figure of them, with the options of its command."""
    from topdb_tf.evaluate.trainings import trainings_of

    trainings = trainings_of(runs, overrides)
    folder = runs[0] if runs else trainings[0].runs[0].path
    write_figure(draw, trainings, default=_file_of_run(folder, name), **options)


def _file_of_features(file: Path, name: str) -> Path:
    return file.with_name(f"{file.stem}-{name}.png")


def _file_of_run(folder: Path, name: str) -> Path:
    return folder / "figures" / f"{name}.png"


def write_figure(
    draw: Callable,
    *arguments,
    default: Path,
    out: Sequence[Path],
    column: bool,
    as_json: bool,
    **options,
) -> None:
    """Draws a figure, writes it whole, and shows its files, or all that is in it.

    Without `out` it is written where it is by default. Names of files are checked
    before anything is drawn.
    """
    from topdb_tf.drawing import style

    for file in out:
        style.check_format(file)
    files = list(out) or [default]
    view = draw(*arguments, **options)
    for note in getattr(view.facts, "notes", ()):
        say(note)
    drawn = view.picture(style.COLUMN_WIDTH if column else style.PAGE_WIDTH)
    for file in files:
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as partial:
            style.save_figure(drawn, partial)
    names = [str(file) for file in files]
    show({**plain(view.facts), "files": names}, lambda _: names, as_json)
