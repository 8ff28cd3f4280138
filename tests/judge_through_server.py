"""Judge a file of completions through a server: what the killed-judge test kills.

Arguments: completions.jsonl, address, cache folder, file to write.
"""

import sys
from pathlib import Path

from refusalscope.evaluation.answers import AnswerCache
from refusalscope.evaluation.judge_kinds import JUDGES
from refusalscope.evaluation.judges import judge_all
from refusalscope.evaluation.model_judge import ModelJudge
from refusalscope.evaluation.server_answerer import ServerAnswerer, ServerOptions
from refusalscope.results.files import write_file
from refusalscope.results.run_records import read_completions


def main(completions: str, url: str, cache: str, out: str) -> None:
    kind = JUDGES["llama_guard_3"]
    options = ServerOptions(url=url, model="guard", concurrency=3, first_wait=0.01)
    judge = ModelJudge(kind, ServerAnswerer(kind, options), cache=AnswerCache(folder=Path(cache)))
    (judgements,) = judge_all(judge, read_completions(Path(completions)))
    write_file(Path(out), judgements.to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
