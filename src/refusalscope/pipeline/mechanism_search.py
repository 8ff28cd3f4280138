"""The mechanism's search for a suffix: which prompts it is sought on, and its record."""

from refusalscope.mechanism.suffix_search import SearchOptions
from refusalscope.pipeline.journaled_search import SEARCH_JOURNAL, journaled_search
from refusalscope.pipeline.mechanism_study import Study
from refusalscope.pipeline.stages import kept_indices
from refusalscope.results.files import write_file
from refusalscope.results.mechanism_folder import MECHANISM, SUFFIX_SEARCH


def do_search(study: Study, key: str) -> None:
    """Search for a suffix on training prompts and write it with its loss curve."""
    run, asked = study.run, study.options
    record = journaled_search(
        run,
        study.direction.vector,
        kept_indices(run, "harmful_train"),
        SearchOptions(
            n_tokens=asked.suffix_tokens,
            steps=asked.search_steps,
            candidates=asked.search_candidates,
            top_k=asked.search_top_k,
            enough=asked.search_enough,
            seed=run.options.seed,
        ),
        n_prompts=asked.search_prompts,
        journal=run.folder.path / MECHANISM / f"{SEARCH_JOURNAL}{key[:16]}.jsonl",
    )
    write_file(run.folder.path / SUFFIX_SEARCH, record.to_json())
