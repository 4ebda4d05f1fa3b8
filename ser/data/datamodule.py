"""The data module: clips as batches of waveforms, or of features computed from them before."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from annotated_types import MinLen
from hydra.utils import instantiate
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, default_convert

from ser.audio.clips import ON_ERROR, WHOLE, DecodedClips, open_clips
from ser.audio.window import Window
from ser.cache.eviction import trim
from ser.cache.rows import parted
from ser.cache.store import cache_directory, digest
from ser.config.quantities import Count, Fold, Hertz, Positive, Seed
from ser.config.split_info import SplitInfo
from ser.corpora.clip import CHANNELS, MODALITIES, Clip
from ser.corpora.labels import TARGETS, Labels, in_order, label_emotions
from ser.corpora.manifest import choose, read
from ser.corpora.scan import Scan, scan
from ser.corpora.tess import INSTEAD
from ser.data.loading import BlockShuffle, ClipDataset, ClipReader, Reader
from ser.features.encoders import DOCUMENTED
from ser.features.frontend import FrontEnd, cache_key
from ser.fetch.servers import Servers
from ser.splits.leakage import audit
from ser.splits.protocols import ROLES, VERSION, Given, Holdout, SplitProtocol
from ser.splits.roles import deciding, defaults, groups, resolve
from ser.splits.table import SplitTable

log = logging.getLogger(__name__)

_Name = TypeVar("_Name")
Some = Annotated[Sequence[_Name], MinLen(1)]


@dataclass(eq=False, repr=False)
class EmotionDataModule(LightningDataModule):
    """Clips of the corpora, parted by a protocol.

    Batches hold `waveform` (batch, samples) in -1..1, `label` (batch,) and `row` (batch,), the
    clip's row in `table`. After `cache_features`, training and validation batches hold instead of
    `waveform` what the front end has `analysed`, or its standardised `features`.

    Once set up for fitting, it gives nobody a test clip before `release_test`.

    Args:
        root: Folder that holds the corpora in any layout; None where a manifest lists the clips.
        window: Which seconds of a clip are read.
        protocol: What assigns the clips to train, val and test; None is `Holdout`.
        fold: The protocol's fold that tests, from 0.
        corpora: Some of `ser.corpora.scan.CORPORA`, or of the manifest; None takes all of that, or
            `ser.corpora.scan.DEFAULT`.
        channels: `speech`, `song` or both.
        modality: `audio`, `video` (the sound of mp4 files) or both.
        roles: By corpus, what it is for, where that is not the default of
            `ser.splits.roles.resolve`.
        tess: Replaced by `roles`.
        drop: Emotions to leave out.
        keep: Emotions to keep; None keeps all.
        merge: By emotion, the one whose name and place it takes.
        target: What a class is: `emotion`, or `emotion_gender` for sad_male, sad_female, ...
        classes: `shared` leaves out those that one of the corpora that are split lacks; `all` keeps
            them.
        normalize: `speaker` standardises features by what is known of their speaker's other clips,
            test speakers included; it takes `cache_features` before any reading. None does nothing.
        refit: Whether the validation clips train too, as the model has been chosen on them.
        on_error: What to do about recordings that cannot be read: `raise` lists all of them and
            stops, `skip` leaves them out.
        batch_size: Clips.
        shuffle_block: Training clips that stay together while their order is shuffled, see
            `ser.data.loading.BlockShuffle`: for features that do not fit into memory. None is none.
        sample_rate: Hz.
        seed: Of the order of the training clips, together with the epoch.
        cache: Folder of decoded audio and features; None is the user's cache folder.
        cache_max_gb: GB that it may take, see `ser.cache.eviction.trim`; None is any amount.
        download: Fetch what is missing below `root` before anything is read.
        servers: Where from; None where the corpus is not published.
        manifest: File that lists the clips, see `ser.corpora.manifest.read`.
    """

    root: str | None
    window: Window
    protocol: SplitProtocol | None = None
    fold: Fold = 0
    corpora: Some[str] | None = None
    channels: Some[Literal[CHANNELS]] = CHANNELS
    modality: Some[Literal[MODALITIES]] = ("audio",)
    roles: Mapping[str, Literal[ROLES]] | None = None
    tess: str | None = None
    drop: Sequence[str] | None = ()
    keep: Sequence[str] | None = None
    merge: Mapping[str, str] | None = None
    target: Literal[TARGETS] = "emotion"
    classes: Literal["shared", "all"] = "shared"
    normalize: Literal["speaker"] | None = None
    refit: bool = False
    on_error: Literal[ON_ERROR] = "raise"
    batch_size: Count = 32
    shuffle_block: Count | None = None
    sample_rate: Hertz = 48000
    seed: Seed = 0
    cache: str | None = None
    cache_max_gb: Positive | None = None
    download: bool = False
    servers: Servers | None = None
    manifest: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        if self.download and self.servers is None:
            raise ValueError(
                "data.download=true: expected data=ravdess_tess; of these data there is nothing to"
                " download"
            )
        if (self.root is None) == (self.manifest is None):
            raise ValueError(
                f"data.root={self.root!r} and data.manifest={self.manifest!r}: expected one of"
                " them, as data=manifest data.manifest=clips.csv, or data.root=/corpora"
            )
        if self.tess is not None:
            instead = INSTEAD.get(self.tess, INSTEAD["train"])
            raise ValueError(f"data.tess={self.tess} is no key any more: expected {instead}")
        self.protocol = self.protocol or Holdout()
        self.recorded: Mapping[str, str] | None = None
        self.scores_cached = False
        self.trains_on_waveforms = False
        self.cache = cache_directory(self.cache)
        self.known = choose(self.corpora, self.manifest)
        self.resolved = resolve(self.roles, self.known, self.protocol)
        self.labels = self._labels()

    def _labels(self) -> Labels:
        """Return the classes that the corpora in their roles can be told apart by."""
        held = {emotion for corpus in self.known.values() for emotion in corpus.emotions}
        asked = Labels(label_emotions(self.drop, self.keep, self.merge, held), self.target)
        shared = self.classes == "shared" and not isinstance(self.protocol, Given)
        return asked.shared(groups(self.resolved, self.known, shared))

    def _report_classes(self) -> None:
        """Log what corpora in use lack of the classes that any of them has."""
        used = [corpus for corpus in self.known.values() if self.resolved[corpus.name] != "off"]
        emotions = {emotion for corpus in used for emotion in corpus.emotions}
        asked = Labels(label_emotions(self.drop, self.keep, self.merge, emotions))
        held = {corpus.name: asked.held(corpus.emotions) for corpus in used}
        if unheld := [name for name in self.keep or () if name not in emotions]:
            log.warning("data.keep: no corpus in use has clips of %s", ", ".join(unheld))
        for name, classes in held.items():
            if lacking := in_order(set().union(*held.values()) - classes):
                left = [one for one in lacking if one not in self.labels.emotions.values()]
                line = f"{name} has no clips of {', '.join(lacking)}"
                log.info(line + (f"; left out: {', '.join(left)}" if left else ""))

    @property
    def place(self) -> str:
        """The key that says where the clips are from, for messages."""
        return f"data.root={self.root!r}" if self.root else f"data.manifest={self.manifest!r}"

    @cached_property
    def scanned(self) -> Scan:
        """What lies below the root, once what is missing has been fetched."""
        if self.download:
            corpora = [name for name, role in self.resolved.items() if role != "off"]
            self.servers.fetch(self.root, corpora, self.channels, self.modality)
        found = (
            scan(self.root, self.modality)
            if self.manifest is None
            else read(self.manifest, self.modality)
        )
        log.info(found.describe())
        return found

    @cached_property
    def decoded(self) -> DecodedClips:
        """What lies below the root, decoded."""
        return self._open(self._blocks(), whole=True)

    def _blocks(self) -> list[Sequence[Clip]]:
        """Return the clips that are decoded together: none of two modalities, for a run of one."""
        groups = groupby(self.scanned.clips, attrgetter("modality"))
        return [block for _, clips in groups for block in parted([*clips], attrgetter("path"))]

    def _open(self, blocks: Sequence[Sequence[Clip]], whole: bool) -> DecodedClips:
        pieces = [
            [(clip.path, (clip.start, clip.end) if clip.is_segment else WHOLE) for clip in block]
            for block in blocks
        ]
        root = self.scanned.root
        return open_clips(pieces, root, self.sample_rate, self.cache, self.on_error, whole)

    @cached_property
    def found(self) -> Scan:
        """What there is to part; only where files are to be skipped is audio read for it."""
        if self.on_error != "skip":
            return self.scanned
        clips = tuple(self.scanned.clips[row] for row in self.decoded.readable)
        return replace(self.scanned, clips=clips)

    @cached_property
    def reader(self) -> ClipReader:
        """Reads what was found."""
        return ClipReader(self.decoded.waveforms, self.found.clips, self.window)

    def hear(self, clip: str) -> tuple[np.ndarray, int]:
        """Return what a model hears of a clip, without the padding, and its rate in Hz.

        Args:
            clip: Its identity.

        Raises:
            ValueError: Recordings cannot be read now, or it is a test clip that is withheld.
        """
        return self.reader.hear(self._rows[clip]), self.sample_rate

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {clip.clip: row for row, clip in enumerate(self.found.clips)}

    @cached_property
    def splits(self) -> SplitTable:
        """The protocol's folds of what was found."""
        return SplitTable(self.found, self.protocol, self.resolved, self.channels, self.labels)

    def split_info(self, encoder: str | None = None) -> SplitInfo:
        """Return under which protocol scores are made; what the hash covers must not change.

        Args:
            encoder: `FrontEnd.origin` of the front end; one that has pretrained weights asks for
                clips that are parted.
        """
        # A role is part of the name where it is not the usual one and decides what is tested.
        decided = deciding(self.resolved)
        usual = defaults(self.resolved, self.known, self.protocol)
        named = [f"{name} {role}" for name, role in decided.items() if role != usual[name]]
        settings = {"protocol": type(self.protocol).__name__, **asdict(self.protocol)}
        return SplitInfo(
            protocol=", ".join([self.protocol.name, *named]),
            protocol_version=VERSION,
            protocol_hash=digest(settings, VERSION, decided),
            fold=self.fold,
            folds=self.splits.count(),
            leaky=self.protocol.leaky,
            transductive=self.normalize is not None,
            refit=self.refit,
            unvalidated="val" not in self.splits.assign_clips(self.fold).values(),
            **self._exposure(encoder),
        )

    def _exposure(self, encoder: str | None) -> dict[str, bool]:
        """Return whether an encoder has heard what is tested, or may have."""
        if encoder is None:
            return {}
        tested = self.table.corpus[self.table.split == "test"].unique()
        heard_by = [each.lower() for name in tested for each in self.known[name].heard_by]
        exposed = encoder.lower() in heard_by
        unknown = not exposed and encoder.lower() not in map(str.lower, DOCUMENTED)
        return {"exposed": exposed, "exposure_unknown": unknown}

    def setup(self, stage: str) -> None:
        """Part and decode, once for all stages.

        Training needs every class in every split, and is audited; scoring a checkpoint does with
        what is there.
        """
        if hasattr(self, "table"):
            return
        if stage == "fit":
            self._report_classes()
            self.table = self.splits.table(self.fold)
            self.splits.report_gaps(self.fold)
        else:
            self.table = self.splits.tabulate(self.recorded)
        waveforms = self.decoded.waveforms
        if stage == "fit":
            self.reader.withhold(self.table.index[self.table.split == "test"])
        self.table["sha256"] = [waveforms.notes[row] for row in self.table.index]
        if stage == "fit":
            chosen = [self.found.clips[row] for row in self.table.index]
            self.audit = audit(chosen, self.table.split, self.table.sha256, self.protocol.leaky)
            self.audit["unreadable"] = dict(self.decoded.unreadable)
        if self.protocol.leaky:
            self.table["leaky"] = True

    def release_test(self) -> None:
        """Let the test clips be read: the model is final."""
        self.reader.withhold([])

    def cache_features(
        self,
        frontend: FrontEnd,
        recipe: Mapping,
        device: torch.device | str = "cpu",
        waveforms: bool = False,
    ) -> None:
        """Let training and validation read what is computed once for all runs.

        Args:
            frontend: Of the model.
            recipe: From which it was built: plain containers.
            device: Where it is computed.
            waveforms: Whether batches that train hold the waveforms too.
        """
        self.trains_on_waveforms = waveforms
        self.scores_cached = self.normalize is not None or frontend.exact
        self.reader.cache(*self._cached(frontend, recipe), device)
        if self.normalize == "speaker":
            speakers = self.table.corpus + "/" + self.table.speaker
            self.reader.standardise(speakers, frontend.layout == "planes")
        size = sum(store.values.nbytes for store in self.reader.cached.stores)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if self.shuffle_block is None and size > memory:
            log.warning(
                "features of %.0f GB are read at random with %.0f GB of memory:"
                " data.shuffle_block=1000 reads them block by block",
                size / 1e9,
                memory / 1e9,
            )

    def _cached(self, frontend: FrontEnd, recipe: Mapping) -> tuple[Callable, str, Path, str]:
        """Return what computes cached features, their key, their folder and their name."""
        if self.normalize is None:
            return frontend.analyse, cache_key(frontend, recipe, False), self.cache, "analysed"
        if frontend.layout == "frames":
            raise ValueError(
                f"normalize={self.normalize} would fill the padding of frames: expected"
                " frontend.frames=false, or no normalize"
            )
        return frontend, cache_key(frontend, recipe, True), self.cache, "features"

    def prepare(
        self,
        frontend: FrontEnd | None,
        recipe: Mapping,
        device: torch.device | str = "cpu",
        shard: tuple[int, int] = (0, 1),
    ) -> int:
        """Decode the clips and cache their features, for any run to find; return how many.

        Args:
            frontend: As of `cache_features`, and so are `recipe` and `device`; None decodes alone.
            recipe: As there.
            device: As there.
            shard: Which of how many shares of the blocks that a cache is of.
        """
        share, shares = shard
        blocks = self._blocks()[share::shares]
        decoded, clips = self._open(blocks, shares == 1), [*chain.from_iterable(blocks)]
        if frontend is not None:
            heard = [clips[row] for row in decoded.readable]
            reader = ClipReader(decoded.waveforms, heard, self.window)
            reader.cache(*self._cached(frontend, recipe), device)
        if shares == 1:  # what other shares hold may not be open
            self.trim()
        return len(decoded.readable)

    def trim(self) -> None:
        """Remove what is too much for `cache_max_gb` from the cache; what is open stays."""
        trim(self.cache, self.cache_max_gb)

    def hold_waveforms(self, device: torch.device) -> None:
        """Let training and validation read waveforms that stay on the device."""
        self.reader.hold(self.table.index[self.table.split != "test"].to_numpy(), device)

    def validates(self) -> bool:
        """Return whether there are validation clips that do not train."""
        return not self.refit and "val" in set(self.table.split)

    def trained(self) -> pd.DataFrame:
        """Return the rows of the table whose clips train."""
        return self.table[self.table.split.isin(("train", "val") if self.refit else ("train",))]

    def dataset(self, split: str, read: Reader) -> ClipDataset:
        """Return the clips that train, or those of `val` or `test`, to be read by `read`."""
        chosen = self.trained() if split == "train" else self.table[self.table.split == split]
        labels = chosen.label.map(self.labels.classes.index).to_numpy(np.int64)
        return ClipDataset(chosen.index.to_numpy(), labels, read)

    def training_features(self, frontend: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
        """Return the features (clips, ...) and labels (clips,) of the training clips.

        Args:
            frontend: With which they were cached.
        """
        dataset = self.dataset("train", self.reader.read_fastest)
        return frontend.of(dataset.read(dataset.rows)).numpy(), dataset.labels

    def record(self, fold: int | None = None) -> pd.DataFrame:
        """Return `split`, `sha256` and `label` by clip, for another run to score the same ones.

        Args:
            fold: Of the protocol; None is what was set up.
        """
        table = self.table if fold is None else self.splits.table(fold)
        notes = self.decoded.waveforms.notes
        sha256 = [notes[row] for row in table.index]
        return table.assign(sha256=sha256).set_index("clip")[["split", "sha256", "label"]]

    def balanced_weights(self) -> Tensor:
        """Weigh each class by the inverse of its training clips, 1 on average: (classes,)."""
        counts = self.trained().label.value_counts()[self.labels.classes]
        return torch.tensor((counts.sum() / len(counts) / counts).to_numpy(np.float32))

    def train_dataloader(self) -> DataLoader:
        """Shuffle by (seed, epoch), so that a resumed run repeats an unbroken one.

        Of several processes each gets its share.
        """
        reader = self.reader
        read = reader.read_beside if self.trains_on_waveforms else reader.read_fastest
        dataset = self.dataset("train", read)
        trainer = self.trainer
        count, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        if self.shuffle_block is None:
            sampler = DistributedSampler(dataset, num_replicas=count, rank=rank, seed=self.seed)
        else:
            sampler = BlockShuffle(len(dataset), self.shuffle_block, count, rank, self.seed)
        # Its own, as an iterator over batches draws a number: of the state of the training it would
        # take one more or less, by when Lightning makes it.
        return self._loader(dataset, sampler=sampler, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader:
        """Return the validation clips in order, all of them to each process: none is padded."""
        return self._loader(self.dataset("val", self.reader.read_fastest))

    def scoring_loader(self, split: str) -> DataLoader:
        """Return the clips of a split in order; those of test as waveforms unless caches are exact.

        Each candidate of a selection scores val: what is cached need not be computed again.
        """
        fastest = self.scores_cached or split == "val"
        read = self.reader.read_fastest if fastest else self.reader.read_waveforms
        return self._loader(self.dataset(split, read))

    def _loader(self, dataset: ClipDataset, **options: object) -> DataLoader:
        # No worker processes and nothing to collate: a batch is one read of the memory map.
        return DataLoader(dataset, self.batch_size, collate_fn=default_convert, **options)


def describe(data: Mapping) -> EmotionDataModule:
    """Build the data of a config to ask for corpora and classes; no recording is looked for.

    Args:
        data: The recipe, resolved.
    """
    listed = data.get("manifest") is not None
    root = data["root"] if listed or data["root"] is None else ""
    return instantiate(data | {"root": root, "download": False})
