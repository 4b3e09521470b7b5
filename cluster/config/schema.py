"""The typed configuration: every section, every setting with its default. ``load.py`` fills it from YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.pronunciation import Pronunciation
from cluster.alignment.config import AlignConfig
from cluster.audio.config import MixConfig, WindowConfig
from cluster.media.config import MediaConfig
from cluster.quality import QualityConfig
from cluster.speakers.config import SpeakersConfig
from cluster.storage.config import FetchConfig, StoreConfig
from cluster.subtitles.config import SubtitleConfig
from cluster.timing.config import FitConfig, GroupConfig, RankConfig
from cluster.tracing.config import TraceConfig


class Section(BaseModel):
    """A group of settings: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RayConfig(Section):
    """Connection to Ray, or the Ray that is started on this machine."""

    mode: Literal["auto", "local", "cluster", "inline"] = "auto"
    """``auto`` joins the cluster in ``address`` or RAY_ADDRESS if one is set, else starts Ray on this machine, as
    ``local`` does; ``cluster`` joins a cluster or fails; ``inline`` runs engines in this process, without Ray and
    without GPUs."""
    address: str | None = None
    """Address of the cluster, ``host:port``. None takes RAY_ADDRESS; in mode ``cluster`` without that, the cluster
    that runs on this machine."""
    object_store_bytes: int = Field(default=200_000_000, ge=80_000_000)
    """Bytes of shared memory for a Ray started on this machine. A cluster has its own setting."""
    full_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds in which a cluster without an autoscaler must have room for a driver or a replica; they count while
    nothing else of the batch works. With an autoscaler, ``drivers.start_timeout_s`` and the pools' ``place_timeout_s``
    hold instead, and do not count while a node is being started."""
    max_starting: int | None = Field(default=None, ge=1)
    """Maximum number of lost replicas that one driver restarts at a time; the pool with the smallest share of its
    replicas left goes first. None means one for each processor on a single machine, and no limit in a cluster."""


class AutoscalingConfig(Section):
    """Budget and pace of scaling for all pools of one process; each pool's range stands in its own settings."""

    max_gpus: float | None = Field(default=None, ge=0)
    """Total GPU budget for all replicas. None takes the GPUs of the cluster, or no limit where Ray's autoscaler may add
    nodes."""
    max_cpus: float | None = Field(default=None, ge=0)
    """Total CPU budget for all replicas, as they reserve CPUs. None for no limit."""
    interval_s: float = Field(default=0.25, gt=0)
    """Seconds between two scaling decisions."""


class BatchLimits(Section):
    """Limits of a micro-batch: its size, and how early it is fixed."""

    max_items: int = Field(default=8, ge=1, le=4096)
    """Maximum number of requests in a batch."""
    max_cost: float | None = Field(default=None, gt=0)
    """Maximum total cost of a batch, in the engine's unit (tokens, seconds of audio). None for no limit. One request
    alone may exceed it."""
    lead_s: float = Field(default=0.01, ge=0, le=10)
    """Seconds before the expected end of a replica's batch at which it is handed the next one if that is full, besides
    the measured time that a batch needs to reach its engine. An idle replica is handed whatever waits."""
    in_flight: int = Field(default=2, ge=1, le=16)
    """Maximum number of batches handed to one replica at a time. With 2, a replica has its next batch when it finishes
    one."""


class PoolConfig(Section):
    """Replicas of one engine: their number, the resources of each, batches, and limits on failures."""

    replicas: int = Field(default=1, ge=1, le=4096)
    """Number of replicas, and both ends of their range: ``min_replicas`` and ``max_replicas`` replace one end each."""
    min_replicas: int | None = Field(default=None, ge=0, le=4096)
    """Replicas kept while the pool is idle. None means ``replicas``. With 0, an idle pool gives up all of them until
    the next request."""
    max_replicas: int | None = Field(default=None, ge=1, le=4096)
    """Maximum number of replicas. None means the larger of ``replicas`` and ``min_replicas``."""
    target_drain_s: float = Field(default=2.0, gt=0)
    """Seconds in which the replicas should finish all waiting requests; another replica is wanted while they need
    longer."""
    up_delay_s: float = Field(default=1.0, ge=0)
    """Seconds for which a replica must be missing before it is added. A pool without replicas starts its first one at
    once."""
    down_delay_s: float = Field(default=30.0, ge=0)
    """Seconds for which a replica must be superfluous before it is removed, unless another pool needs its
    resources."""
    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that one replica reserves in Ray."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one replica reserves in Ray. A share, such as 0.25, lets several replicas use one GPU; engines on torch
    keep to that share of its memory. With 0, the engine runs on the CPU, even on a machine with GPUs."""
    resources: Mapping[str, float] = {}
    """Custom Ray resources that one replica reserves, by name."""
    accelerator_type: str | None = None
    """Ray's name of the GPU that a replica must run on, such as A100 or H100. None for any."""
    node_labels: Mapping[str, str] = {}
    """Labels that a replica's node must have: a value, or Ray's ``!value``, ``in(a,b)``, ``!in(a,b)``. To use CPU nodes
    only, give them a label (``ray start --labels=kind=cpu``) and ask for it here."""
    niceness: int = Field(default=0, ge=0, le=19)
    """Nice value of the replicas' processes, as in nice(1). With a higher value, other processes of the machine go
    first: set it for engines on scarce CPUs, so that interactive requests do not wait for dubs."""
    batch: BatchLimits = BatchLimits()
    """Limits of a micro-batch."""
    max_pending_items: int = Field(default=256, ge=1)
    """Maximum number of requests accepted at a time, waiting or running; further ones block their callers. It is
    raised to what all replicas hold, if that is more."""
    max_pending_items_per_job: int | None = Field(default=None, ge=1)
    """Maximum number of requests accepted from one job at a time. None for no limit but ``max_pending_items``. A free
    place goes to the job with the fewest."""
    place_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds in which a node must have room for a replica, including the time to add a node."""
    load_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds in which a replica must load its engine."""
    call_timeout_s: float = Field(default=300.0, gt=0)
    """Seconds in which a replica must finish a batch; after that it counts as hung and is replaced."""
    max_load_failures: int = Field(default=3, ge=1)
    """Failed loads in succession, after which a replica counts as unable to load. Requests fail while all replicas are;
    tries go on."""
    max_losses: int = Field(default=3, ge=2)
    """Replicas that may be lost with one request before it fails. It has the last of them to itself."""
    quarantine_s: float = Field(default=3600.0, ge=0)
    """Seconds for which a request that failed by ``max_losses`` is refused when it comes again. 0 refuses none."""
    restart_delay_s: float = Field(default=0.5, ge=0)
    """Seconds before the first new try to load a replica or to get a lost result. The delay doubles with each failure,
    up to a minute."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"min_replicas must be at most max_replicas; found {self.smallest} and {self.largest}")
        return self

    @property
    def smallest(self) -> int:
        """Number of replicas that the pool always keeps."""
        if self.min_replicas is not None:
            return self.min_replicas
        return self.replicas if self.max_replicas is None else min(self.replicas, self.max_replicas)

    @property
    def largest(self) -> int:
        """Number of replicas that the pool may have."""
        return max(self.replicas, self.smallest) if self.max_replicas is None else self.max_replicas


class StageConfig(Section):
    """One engine and the pool that holds its replicas."""

    engine: str
    """Name of the engine: a file in its task's folder, or the full name of a module."""
    options: Mapping[str, Any] = {}
    """The engine's own options; it checks them."""
    pool: PoolConfig = PoolConfig()
    """The engine's replicas."""


class TranslationConfig(StageConfig):
    """The translation engine and its pool."""

    num_candidates: int = Field(default=1, ge=1, le=16)
    """Translations requested of each line. A line that is too long for its time takes a shorter one. Engines without
    n-best lists return one."""
    context_lines: int = Field(default=3, ge=0, le=32)
    """Source lines before a line that the engine is shown with it, if it reads context, as language models do."""
    keep_noises: bool = True
    """Leave lines of nothing but interjections and noises, such as "Hmm.", as they sound."""


class SpeechConfig(Section):
    """The speech engines and their pools, by target language."""

    engine: str = "auto"
    """Name of the engine for all target languages. ``auto`` takes the engine in ``by_language``."""
    options: Mapping[str, Any] = {}
    """Options of ``engine``, unless that is ``auto``."""
    voices: Mapping[str, str] = {}
    """Voice of each target language, by language tag. Other languages take the engine's default voice."""
    by_language: Mapping[str, StageConfig] = {}
    """Engine of each target language, by language tag, for ``engine: auto``."""
    lexicon: Mapping[str, Mapping[str, Pronunciation]] = {}
    """Pronunciations of words, by language tag: {pt: {GIF: jif, Nguyen: {ipa: ŋwˈiẽ}}}. A text is an alias,
    spoken instead; IPA is for engines that take phonemes. Words in lower case match in any case."""
    clone: bool = False
    """Let engines that can clone a voice (XTTS) speak in the voice heard in the source. Needs ``consent``."""
    consent: bool = False
    """The speakers of the source agree to have their voices cloned. Without it no voice is."""
    clone_reference_s: float = Field(default=10.0, ge=3, le=60)
    """Seconds of the source's first speech from which a voice is cloned."""
    pool: PoolConfig = PoolConfig()
    """Replicas of ``engine``, unless that is ``auto``."""

    @model_validator(mode="after")
    def _check_consent(self) -> SpeechConfig:
        if self.clone and not self.consent:
            raise ValueError(
                "clone must have the speakers' consent; found none; ask them, then set speech.consent: true"
            )
        return self


class PipelineConfig(Section):
    """Bounds of the work in progress, which limit memory."""

    max_windows: int = Field(default=4, ge=1)
    """Maximum number of audio windows per video that are decoded, waiting or being transcribed."""
    max_utterances: int = Field(default=32, ge=1)
    """Maximum number of utterances per video and language that are being translated or spoken, or wait for the mix."""
    max_videos: int = Field(default=2, ge=1)
    """Maximum number of videos dubbed at a time; others wait."""
    output_wait_s: float = Field(default=0.0, ge=0)
    """Seconds for which a video waits while another run writes to its output folder, before it fails. Batches wait at
    least a minute."""


class DriversConfig(Section):
    """Drivers of a batch that runs on several. Each has its own pools: N drivers hold N times ``replicas``."""

    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that one driver reserves in Ray, besides its replicas."""
    resources: Mapping[str, float] = {}
    """Custom Ray resources that one driver reserves, by name."""
    max_losses: int = Field(default=3, ge=2)
    """Drivers that may be lost with one video before it fails. It has the last of them to itself."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds in which a driver must start, including the time to add a node."""
    max_start_failures: int = Field(default=3, ge=1)
    """Failed starts of a driver in succession, after which the batch goes on without it."""
    restart_delay_s: float = Field(default=1.0, ge=0)
    """Seconds before a driver is started again."""
    silence_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds without an answer from a driver's event loop, after which the driver is replaced."""


class OutputConfig(Section):
    """Media files and the report that are written."""

    audio_bits_per_s: int = Field(default=160_000, ge=32_000, le=512_000)
    """Bit rate of each dubbed audio track."""
    report_audio_bits_per_s: int = Field(default=40_000, ge=16_000, le=256_000)
    """Bit rate of the audio that is embedded in the report."""
    report_max_embed_s: float = Field(default=900.0, ge=0)
    """Maximum seconds of media that the report embeds; longer media are linked."""
    per_language: bool = False
    """Write a media file for each target language, such as talk.pt.mp4, instead of one file with all languages."""


class PriceConfig(Section):
    """Prices of engine time, for the summary of a batch and the metrics."""

    gpu_hour: float = Field(default=0.0, ge=0)
    """Price of one GPU for an hour."""
    cpu_hour: float = Field(default=0.0, ge=0)
    """Price of one CPU for an hour."""
    currency: str = "USD"
    """Currency of the prices; it is printed as it stands here."""

    def cost(self, gpu_s: float, cpu_s: float) -> float:
        """Price of so many seconds of one GPU and of one CPU."""
        return (gpu_s * self.gpu_hour + cpu_s * self.cpu_hour) / 3600


class Config(Section):
    """The whole configuration of a run."""

    profile: str | None = None
    """Name of a profile, which trades quality for speed: quality, balanced or speed. None takes the defaults."""
    ray: RayConfig = RayConfig()
    """Connection to Ray."""
    autoscaling: AutoscalingConfig = AutoscalingConfig()
    """Resource budget of all pools."""
    media: MediaConfig = MediaConfig()
    """Limits on input media."""
    windows: WindowConfig = WindowConfig()
    """Division of the source's audio into windows for transcription."""
    grouping: GroupConfig = GroupConfig()
    """Grouping of segments into units for translation."""
    speakers: SpeakersConfig = SpeakersConfig()
    """Telling speakers apart."""
    diarization: StageConfig
    """The engine that tells voices apart, and its pool."""
    transcription: StageConfig
    """The speech recognition engine and its pool."""
    translation: TranslationConfig
    """The translation engine and its pool."""
    embedding: StageConfig
    """The sentence embedding engine and its pool."""
    speech: SpeechConfig
    """The speech synthesis engines and their pools."""
    alignment: AlignConfig = AlignConfig()
    """Distribution of a translation over the source's segments."""
    candidates: RankConfig = RankConfig()
    """Choice among several translations of a line."""
    fitting: FitConfig = FitConfig()
    """Fitting of a spoken line into its time slot."""
    quality: QualityConfig = QualityConfig()
    """Automatic checks of the dubbed lines."""
    mixing: MixConfig = MixConfig()
    """Mix of dubbed speech and original sound."""
    subtitles: SubtitleConfig = SubtitleConfig()
    """Layout of the written subtitles."""
    pipeline: PipelineConfig = PipelineConfig()
    """Bounds of the work in progress."""
    drivers: DriversConfig = DriversConfig()
    """Drivers of a batch that runs on several."""
    output: OutputConfig = OutputConfig()
    """Written media files and report."""
    store: StoreConfig = StoreConfig()
    """Store of results, which saves computing them again."""
    price: PriceConfig = PriceConfig()
    """Prices of engine time."""
    fetch: FetchConfig = FetchConfig()
    """Download of inputs by URL."""
    trace: TraceConfig = TraceConfig()
    """Traces of what ran when."""
    serve: Mapping[str, Any] = Field(default={}, exclude=True)
    """Settings of the service, which checks them (serve/settings.py). They are not saved with outputs, as they may
    contain a database's address."""

    def pool_settings(self, pool_name: str) -> tuple[str, PoolConfig]:
        """Key and value of the settings of a pool by its name, which is task/engine; the defaults if it has none."""
        task, _, engine = pool_name.partition("/")
        if task == "speech":
            for tag, stage in self.speech.by_language.items():
                if stage.engine == engine and self.speech.engine == "auto":
                    return f"speech.by_language.{tag}.pool", stage.pool
            return "speech.pool", self.speech.pool
        found = getattr(self, task, None)
        return f"{task}.pool", found.pool if isinstance(found, StageConfig) else PoolConfig()
