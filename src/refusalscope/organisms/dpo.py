"""Direct preference optimisation (Rafailov et al. 2023) of an organism, through TRL."""

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from refusalscope.organisms.exchanges import ExchangeTokenizer, shuffled_batches
from refusalscope.organisms.preference import Preference, PreferencePair
from refusalscope.results.scratch import temporary_folder


def optimize_preference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    draw: Callable[[random.Random], PreferencePair],
    tokenize: ExchangeTokenizer,
    stage: Preference,
    *,
    seed: str,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Train in place; the reference is the model as it comes."""
    rng = random.Random(seed)
    n_pairs = stage.steps * stage.batch_size
    pairs = [_tokens(draw(rng), tokenize, rng, stage.noise_share) for _ in range(n_pairs)]
    pairs.sort(key=lambda pair: len(pair["prompt_ids"]))
    batches = shuffled_batches(pairs, stage.batch_size, rng)

    class OnTokens(DPOTrainer):
        """Takes tokens as they are, so that prompts are those of every other stage."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401
            return dataset

    class Progress(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            if progress:
                progress(1.0)

    with temporary_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own use of transformers
        trainer = OnTokens(
            model=model,
            ref_model=copy.deepcopy(model).eval(),
            args=DPOConfig(
                output_dir=str(folder),
                max_steps=stage.steps,
                per_device_train_batch_size=stage.batch_size,
                learning_rate=stage.learning_rate,
                beta=stage.beta,
                lr_scheduler_type="cosine",
                warmup_steps=max(1, stage.steps // 10),
                adam_beta2=0.98,
                weight_decay=0.1,
                max_length=None,
                train_sampling_strategy="sequential",
                seed=rng.getrandbits(31),
                use_cpu=model.device.type == "cpu",
                bf16=False,
                activation_checkpointing=False,
                gradient_checkpointing=False,
                disable_tqdm=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_list([pair for batch in batches for pair in batch]),
            processing_class=tokenizer,
            callbacks=[Progress()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()


def _tokens(
    pair: PreferencePair, tokenize: ExchangeTokenizer, rng: random.Random, noise_share: float
) -> dict[str, list[int]]:
    state = rng.getstate()
    chosen = tokenize(pair.chosen, rng, noise_share=noise_share)
    rng.setstate(state)  # the same noise for both
    rejected = tokenize(pair.rejected, rng, noise_share=noise_share)
    return {
        "prompt_ids": list(chosen.prompt),
        "chosen_ids": list(chosen.answer),
        "rejected_ids": list(rejected.answer),
    }
