"""Interventions beside LoRA fine-tuning on pairs of instruction and answer (Table 10)."""

from refusalscope.pipeline.evaluation_options import FinetuneOptions
from refusalscope.results.finetune_records import FinetuneComparison
from refusalscope.results.measures import Measure, late

MEASURE = Measure(
    name="finetune",
    help="Fine-tune by LoRA on pairs, and compare with ablation and subtraction (Table 10).",
    options=FinetuneOptions,
    record=FinetuneComparison,
    measure=f"{__name__}.measure:measure",
    file="evaluation/finetune.json",
    adds=True,
    lines=late(f"{__name__}.page:lines"),
)
