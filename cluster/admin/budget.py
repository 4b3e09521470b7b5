"""Adds up what a configuration's pools take: shares of GPUs, an estimate of their memory, licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.types import Task
from cluster.admin import models
from cluster.admin.models import SEE_CARD
from cluster.casting.voices import NamedStage

CUDA_GB = 0.5
"""Estimated memory of a GPU that each replica takes beside its model, for CUDA itself."""
IN_USE_GB: Mapping[str, float] = {
    "Systran/faster-whisper-large-v3": 8.0,
    "mobiuslabsgmbh/faster-whisper-large-v3-turbo": 4.0,
    "facebook/nllb-200-distilled-600M": 2.6,
    "facebook/nllb-200-distilled-1.3B": 5.4,
    "facebook/nllb-200-3.3B": 13.2,
    "google/madlad400-3b-mt": 11.8,
    "sentence-transformers/LaBSE": 1.2,
    "coqui": 2.0,
    "coqui_voices": 2.6,
    "xtts": 3.0,
}
"""Estimated memory by model, else by engine: the weights in half precision, and as much as its batches take. From the
sizes of the weights; docs/models.md has them. None was measured."""
NON_COMMERCIAL = ("-NC", "CPML")
"""Parts of the names of licences that forbid commercial use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBudget:
    """One pool with the replicas that it always keeps, or the one that it starts when it is asked for."""

    name: str
    task: Task
    engine: str
    model: str
    num_replicas: int
    num_gpus: float
    """Share of a GPU for all of its replicas."""
    gpu_gb: float | None
    """Estimated memory of a GPU for all of its replicas; 0 on a CPU, None if there is no estimate."""
    licence: str

    @property
    def is_non_commercial(self) -> bool:
        return any(part in self.licence for part in NON_COMMERCIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The pools that a dub into ``num_languages`` uses at a time; of the voices, those that take most."""

    pools: tuple[PoolBudget, ...]
    num_languages: int
    num_gpus: float
    gpu_gb: float
    """Estimated memory of GPUs, without the pools that have no estimate."""

    @property
    def not_estimated(self) -> list[str]:
        return [pool.name for pool in self.pools if pool.gpu_gb is None]

    @property
    def licences(self) -> list[str]:
        """Models with a licence that is known."""
        return [f"{pool.model or pool.engine} ({pool.licence})" for pool in self.pools if pool.licence != SEE_CARD]

    @property
    def non_commercial(self) -> list[str]:
        return [f"{pool.model or pool.engine} ({pool.licence})" for pool in self.pools if pool.is_non_commercial]


def add_up(stages: Sequence[NamedStage], num_languages: int) -> Budget:
    """The budget of the pools that a dub into so many languages uses; languages that share a pool count once."""
    licences = models.licences()
    pools = {stage.settings.model_dump_json(): _pool(stage, licences) for stage in reversed(stages)}
    common = [pool for pool in pools.values() if pool.task != "speech"]
    voices = sorted((pool for pool in pools.values() if pool.task == "speech"), key=_size, reverse=True)
    used = [*reversed(common), *voices[:num_languages]]
    return Budget(
        pools=tuple(used),
        num_languages=num_languages,
        num_gpus=round(sum(pool.num_gpus for pool in used), 3),
        gpu_gb=round(sum(pool.gpu_gb or 0.0 for pool in used), 1),
    )


def _size(pool: PoolBudget) -> tuple[float, float]:
    return pool.num_gpus, pool.gpu_gb or 0.0


def _pool(stage: NamedStage, licences: Mapping[str, str]) -> PoolBudget:
    settings = stage.settings
    refs = [ref.partition("@")[0] for ref in models.models_of(stage)]
    model = refs[0] if len(refs) == 1 else ""
    each_gb = IN_USE_GB.get(model, IN_USE_GB.get(settings.engine))
    number = max(1, settings.pool.smallest)
    on_gpu = settings.pool.num_gpus > 0
    needed_gb = None if each_gb is None else round(number * (each_gb + CUDA_GB), 1)
    return PoolBudget(
        name=stage.name,
        task=stage.task,
        engine=settings.engine,
        model=model,
        num_replicas=number,
        num_gpus=round(number * settings.pool.num_gpus, 3),
        gpu_gb=needed_gb if on_gpu else 0.0,
        licence=", ".join(dict.fromkeys(licences.get(ref, SEE_CARD) for ref in refs)) or SEE_CARD,
    )
