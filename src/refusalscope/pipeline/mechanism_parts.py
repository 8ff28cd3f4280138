"""The parts of the mechanism that need the run alone: tokens, curves, maps and geometry."""

from safetensors.torch import load_file

from refusalscope.engine.rows import under
from refusalscope.mechanism.cosines import cosines_by_layer, curve
from refusalscope.mechanism.geometry import (
    category_differences,
    cosine_table,
    layer_components,
    states_at,
)
from refusalscope.mechanism.token_study import token_study
from refusalscope.mechanism.where_it_acts import n_sweeps, where_it_acts
from refusalscope.metrics.refusal_phrases import is_refusal_in_answer
from refusalscope.models.prompts import Prompt
from refusalscope.pipeline.candidates import TRAIN_SETS, VAL_SETS
from refusalscope.pipeline.mechanism_study import Study
from refusalscope.pipeline.stages import conditions
from refusalscope.results.files import write_file
from refusalscope.results.mechanism_folder import GEOMETRY, TOKEN_STUDY, TRAJECTORIES, WHERE_IT_ACTS
from refusalscope.results.mechanism_maps import Geometry, LayerCurve, Trajectories
from refusalscope.results.records import Condition, ExtractionFacts
from refusalscope.results.run_records import (
    EXTRACTION,
    MEAN_DIFFERENCES,
    read_dataset_completions,
    read_record,
)

_MIN_CATEGORY = 5
"""Prompts that a harm category needs to have a difference in means of its own."""
_TRAJECTORY: tuple[Condition, ...] = ("baseline", "subtraction", "ablation")
_TEST_SETS = ("harmful", "harmless")


def do_tokens(study: Study) -> None:
    """The refusal metric on training prompts, and its errors on test ones (Figures 9 and 10)."""
    run = study.run
    tested: list[Prompt] = []
    refused: list[bool] = []
    for name in _TEST_SETS:
        rows = read_dataset_completions(run.folder.path, name, "baseline")
        prompts = run.prompts(name)
        tested += [prompts[row.index] for row in rows]
        refused += [is_refusal_in_answer(row.text) for row in rows]
    harmful, harmless = (run.prompts(name) for name in TRAIN_SETS)
    with run.progress.stage("tokens", 1, unit="studies") as advance:
        record = token_study(
            run.chat,
            harmful=harmful,
            harmless=harmless,
            refusal_tokens=run.refusal_tokens,
            tested=tested,
            refused=refused,
            batch_size=run.options.batch_size,
        )
        advance(1)
    write_file(run.folder.path / TOKEN_STUDY, record.to_json())


def do_trajectories(study: Study) -> None:
    """Cosine by layer, untouched, under subtraction and under ablation (Figure 22)."""
    run = study.run
    interventions = conditions(run, _TRAJECTORY)
    prompts = {
        name: [p for i, p in enumerate(run.prompts(name)) if i in set(study.kept[name])]
        for name in _TEST_SETS
    }
    curves: dict[str, dict[str, LayerCurve]] = {name: {} for name in _TEST_SETS}
    total = len(_TRAJECTORY) * sum(len(own) for own in prompts.values())
    with run.progress.stage("curves", total, unit="prompts") as advance:
        for name, own in prompts.items():
            for condition, intervention in interventions.items():
                cosines = cosines_by_layer(
                    run.chat,
                    own,
                    study.direction.vector,
                    around=under(run.chat, intervention),
                    batch_size=run.options.batch_size,
                )
                curves[name][condition] = curve(cosines)
                advance(len(own))
    record = Trajectories(n_prompts={n: len(own) for n, own in prompts.items()}, curves=curves)
    write_file(run.folder.path / TRAJECTORIES, record.to_json())


def do_where(study: Study) -> None:
    """Which part of ablation and addition does the work, on validation prompts."""
    run = study.run
    extraction = read_record(ExtractionFacts, run.folder.path / EXTRACTION)
    prompts = {name: run.prompts(name) for name in VAL_SETS}
    harmful, harmless = ([prompts[name][i] for i in extraction.kept[name]] for name in VAL_SETS)
    with run.progress.stage("where", n_sweeps(run.chat), unit="sweeps") as advance:
        record = where_it_acts(
            run.chat,
            study.direction.vector,
            harmful=harmful,
            harmless=harmless,
            refusal_tokens=run.refusal_tokens,
            batch_size=run.options.batch_size,
            progress=advance,
        )
    write_file(run.folder.path / WHERE_IT_ACTS, record.to_json())


def do_geometry(study: Study) -> None:
    """Cosines of candidates, by layer, position and harm category; principal components."""
    run, direction = study.run, study.direction.vector
    candidates = load_file(run.folder.path / MEAN_DIFFERENCES)["mean_differences"]
    place = run.chat.positions.index(study.position)
    own = {name: run.prompts(name) for name in TRAIN_SETS}
    with run.progress.stage("geometry", 2, unit="sets") as advance:
        states = []
        for prompts in own.values():
            states.append(
                states_at(run.chat, prompts, study.position, batch_size=run.options.batch_size)
            )
            advance(1)
    harmful, harmless = states
    instructions = run.sets[TRAIN_SETS[0]].instructions
    sizes, by_category = category_differences(
        harmful[study.layer],
        harmless[study.layer],
        [i.category for i in instructions],
        min_prompts=_MIN_CATEGORY,
    )
    chosen = direction.double().cpu()[None]
    record = Geometry(
        positions=run.chat.positions,
        with_chosen=tuple(
            tuple(row[0] for row in cosine_table(own_layers, chosen)) for own_layers in candidates
        ),
        between_layers=cosine_table(candidates[place], candidates[place]),
        between_positions=cosine_table(candidates[:, study.layer], candidates[:, study.layer]),
        categories=sizes,
        between_categories=cosine_table(by_category, by_category),
        category_with_chosen=tuple(row[0] for row in cosine_table(by_category, chosen)),
        components=tuple(
            layer_components(layer, harmful[layer], harmless[layer], direction)
            for layer in range(run.chat.n_layers)
        ),
    )
    write_file(run.folder.path / GEOMETRY, record.to_json())
