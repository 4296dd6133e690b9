"""The translations in the report: their quality (the paper's Table 5), and examples (its Figures 2 to 4)."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duiit.util.statistics import summary
from duiit_cli.evaluation.scan_errors import errors_in
from duiit_cli.experiments.reporting import figures, formatting, page
from duiit_cli.experiments.reporting.results import HIGHER_IS_BETTER, Experiment

# How each figure of quality.json is headed, and which way is better. A figure keeps its own name: only `fid` is FID.
_HEADS = {"fid": "FID ↓", "is_mean": "Inception score ↑", "kid_mean": "KID ↓",
          "psnr": "PSNR (dB) ↑", "ssim": "SSIM ↑", "ssim_3d": "SSIM in 3D ↑"}
OVER = "over "                          # begins the parts that are errors against the truth
IN_WINDOW = "_in_window"
READ = ("held_out", "trained_on")       # the patients whose translations a label was read from
_ROUTINE = {"n_real", "n_fake", "n", "kid_std", "is_std"}           # counts, and spreads within a split
Shown = tuple[str, Any]         # an example's file, and its slice there
MOST_EXAMPLES = 8       # slices a source


def quality_tables(experiment: Experiment) -> list[tuple[str, page.Element]]:
    """[(source, table)]: distribution, paired and label figures of each translator, mean ± sd over the splits."""
    tables = []
    for source in _sources(experiment):
        names = [n for n in experiment.translators if any(_of(q, source) for q in _qualities(experiment, n).values())]
        known = {name: quality_figures(experiment, name, source) for name in names}
        keys = list(dict.fromkeys(key for found in known.values() for key in found))
        keys = [*(k for k in keys if k[0] == "distribution"), *(k for k in keys if k[0] != "distribution")]
        header = ["translator", "splits", *(_head(key, experiment) for key in keys)]
        rows = [[experiment.translators[n].title, len(_qualities(experiment, n)),
                 *(formatting.mean_sd(summary(known[n].get(key, [])), key[1]) for key in keys)] for n in names]
        if rows and keys:
            tables.append((source, page.grid(header, rows, name=f"translations_{source}",
                                             caption=f"Translations from {source.upper()}")))
    return tables


def example_tables(experiment: Experiment) -> list[tuple[str, int | None, page.Element]]:
    """[(source, split, table)]: slices as they are, as each translator makes them, and the truth if it is known."""
    tables = []
    for source in _sources(experiment):
        split, shown = _most_shown(experiment, source)
        if not shown:
            continue
        slices = list(dict.fromkeys(key for found in shown.values() for key in found))[:MOST_EXAMPLES]
        truth = any("truth" in _images(found[k]) for found in shown.values() for k in slices if k in found)
        header = ["slice", source.upper(), *(experiment.translators[n].title for n in shown),
                  *([f"true {experiment.target.upper()}"] if truth else [])]
        rows = [_example_row(experiment, key, shown, truth) for key in slices]
        picture = figures.examples(f"examples_{source}", header, rows)
        tables.append((source, split, page.examples(header, rows, picture)))
    return tables


def _example_row(experiment: Experiment, key: Shown, shown: Mapping[str, Mapping[Shown, dict[str, Any]]],
                 truth: bool) -> tuple[str, str, list[Path | None]]:
    known = [found[key] for found in shown.values() if key in found]
    first = known[0]
    label = first.get("label")
    told = f"label {label:.4g}" if isinstance(label, float) else f"label {label}" if label is not None else "no label"
    paths = [_inside(experiment, next((_images(e)["source"] for e in known if "source" in _images(e)), None))]
    paths += [_inside(experiment, _images(found.get(key, {})).get("translated")) for found in shown.values()]
    if truth:
        paths.append(_inside(experiment, next((_images(e)["truth"] for e in known if "truth" in _images(e)), None)))
    return f"{first.get('patient', '')}, {told}", key[0], paths


def _most_shown(experiment: Experiment, source: str) -> tuple[int | None, dict[str, dict[Shown, dict[str, Any]]]]:
    """(split, {translator: {(file, slice): example}}) of the first split that shows this source by most translators."""
    best: tuple[int | None, dict[str, dict[Shown, dict[str, Any]]]] = (None, {})
    for split in experiment.splits:
        shown = {}
        for name in experiment.translators:
            found = _of(experiment.qualities.get((name, split), {}), source).get("examples")
            found = [e for e in found if isinstance(e, dict) and _images(e)] if isinstance(found, list) else []
            if found:
                shown[name] = {(str(e.get("file", i)), e.get("slice")): e for i, e in enumerate(found)}
        if len(shown) > len(best[1]):
            best = (split, shown)
    return best


def _images(example: Mapping[str, Any]) -> dict[str, Any]:
    images = example.get("images")
    return images if isinstance(images, dict) else {}


def _inside(experiment: Experiment, name: object) -> Path | None:
    """The image's path, if it lies in the experiment's folder: a report shows no file from anywhere else."""
    if not isinstance(name, str):
        return None
    home = experiment.folder.resolve()
    path = (home / Path(name)).resolve()
    return path if path.is_relative_to(home) else None


def _sources(experiment: Experiment) -> list[str]:
    return list(dict.fromkeys(s for quality in experiment.qualities.values() for s in quality["sources"]))


def _qualities(experiment: Experiment, name: str) -> dict[int, dict[str, Any]]:
    return {k: q for (n, k), q in experiment.qualities.items() if n == name}


def _of(quality: Mapping[str, Any], source: str) -> dict[str, Any]:
    found = quality.get("sources", {}).get(source)
    return found if isinstance(found, dict) else {}


def quality_figures(experiment: Experiment, name: str, source: str) -> dict[tuple[str, str], list[float]]:
    """{(part, key): [value, one a split]}."""
    found: dict[tuple[str, str], list[float]] = {}
    for quality in _qualities(experiment, name).values():
        parts = _of(quality, source)
        fidelity = parts.get("label_fidelity")
        fidelity = fidelity if isinstance(fidelity, dict) else {}
        chosen = {"distribution": parts.get("distribution"), **_paired(parts.get("paired")),
                  **_label_errors(experiment, fidelity)}
        for part, values in chosen.items():
            for key, value in (values if isinstance(values, dict) else {}).items():
                if key not in _ROUTINE and isinstance(value, (int, float)) and not isinstance(value, bool):
                    found.setdefault((part, key), []).append(value)
    return found


def of_pixels(found: Mapping[tuple[str, str], list[float]], name: str) -> list[float]:
    """The values of one error against the truth (`psnr`, `ssim`), of quality_figures, over the first mask there is."""
    return next((values for (part, key), values in found.items() if part.startswith(OVER) and key == name), [])


def _paired(values: object) -> dict[str, dict[str, Any]]:
    """{which images and what part of them: {error: value}}. Results without a mask in them were computed before
    `duiit test` and `duiit evaluate` had one meaning of these names: they are never averaged with others."""
    if not isinstance(values, dict):
        return {}
    if "mask" not in values:
        return {f"{OVER}images, by an earlier version": values}
    parts: dict[str, dict[str, Any]] = {}
    for name, error in errors_in(values).items():
        window = f", {values.get('window')}" if name.endswith(IN_WINDOW) else ""
        parts.setdefault(f"{OVER}{values['mask']}{window}", {})[name.removesuffix(IN_WINDOW)] = error.get("mean")
    return parts


def _label_errors(experiment: Experiment, fidelity: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{which images, and by what: {error: value}}: the deciding error and the correlation, since the others of the same
    labels say little more, and crowd the table. By what the comparison decides; earlier results know them by image."""
    wanted = (experiment.metric, "pearson_r")
    found: dict[str, dict[str, Any]] = {}
    for part in READ:
        errors = fidelity.get(part)
        if isinstance(errors, dict) and errors:
            unit = experiment.unit if experiment.unit in errors else "by_image"
            errors = errors.get(unit, errors)
            found[f"{part}, {unit}".replace("_", " ")] = {k: errors[k] for k in wanted if k in errors}
    return found


def _head(key: tuple[str, str], experiment: Experiment) -> str:
    part, name = key
    if part.startswith(tuple(p.replace("_", " ") for p in READ)):
        unit = formatting.unit_of(name, experiment.settings) if experiment.settings.get("label_unit") else ""
        better = "↑" if name in HIGHER_IS_BETTER else "↓"
        return f"label {formatting.SHORT[name]}{f' ({unit})' if unit else ''}, {part} {better}"
    where = f", {part.removeprefix(OVER)}" if part.startswith(OVER) else ""
    if name.startswith("mae_"):
        return f"MAE ({name[4:].replace('_', ' ').replace('hu', 'HU')}){where} ↓"
    if name.startswith("fd_"):
        return f"Fréchet distance, {name[3:].replace('_', ' ')} ↓"
    head, arrow, _ = _HEADS.get(name, name.replace("_", " ")).partition(" ↑")
    return f"{head}{where}{arrow}"
