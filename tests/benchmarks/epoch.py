"""Times an epoch of the default CNN beside a bare PyTorch loop and a plain Lightning one.

    uv run python tests/benchmarks/epoch.py data.root=/corpora

All three train the same network with the same optimiser, augmentation and precision on the same
clips, one after the other in one process. The bare loop has its features in memory; the plain one
reads, resamples (soxr), cuts and transforms each clip as an item of a Dataset: in the training
process, as a DataLoader does unless told otherwise, and with two workers.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import lightning
import numpy as np
import soundfile
import soxr
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset

from ser.corpora.scan import CORPORA
from ser.data.datamodule import EmotionDataModule
from ser.training.fit import feed
from ser.training.processes import quiet_lightning

EPOCHS = 4  # the first warms up and does not count
TURNS = 3
PLAIN_CLIPS = 512  # enough for the slow one; times are compared by the clip


class EpochTimer(Callback):
    """Keeps the seconds of each training epoch, validation left out."""

    def __init__(self) -> None:
        self.seconds = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.start)


class OneByOne(Dataset):
    """The clips as a tutorial would read them: one file, one item."""

    def __init__(self, data: EmotionDataModule, frontend: Callable, root: Path) -> None:
        table = data.table[data.table.split == "train"]
        self.table = table.sample(min(PLAIN_CLIPS, len(table)), random_state=0)
        self.data, self.frontend, self.root = data, frontend, root

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        clip = self.table.iloc[index]
        samples, rate = soundfile.read(self.root / clip.path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1)
        if rate != self.data.sample_rate:
            mono = soxr.resample(mono, rate, self.data.sample_rate)
        begin = round(CORPORA[clip.corpus].lead_seconds * self.data.sample_rate)
        padded = np.zeros(self.data.window.samples, np.float32)
        heard = mono[begin : begin + len(padded)]
        padded[: len(heard)] = heard
        features = self.frontend(torch.from_numpy(padded)[None])[0]
        return {
            "features": features,
            "label": torch.tensor(self.data.labels.classes.index(clip.label)),
        }


def time_ours(cfg: object, data: EmotionDataModule) -> float:
    """Seconds a clip of the program as it ships: Lightning, metrics, logger."""
    model, timer = instantiate(cfg.model, classes=data.labels.classes), EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder)
        # Lightning ends an epoch after its validation, which the others do not have.
        options = {"max_epochs": EPOCHS, "enable_checkpointing": False, "logger": logger}
        options |= {"limit_val_batches": 0}
        trainer = instantiate(cfg.trainer, **options, callbacks=[timer], default_root_dir=folder)
        feed(model, data, trainer)
        trainer.fit(model, data)
    return median(timer.seconds[1:]) / len(data.train_dataloader().sampler)


def time_bare(cfg: object, data: EmotionDataModule) -> float:
    """Seconds a clip of a loop over tensors in memory, that of a GPU where it trains."""
    trainer = instantiate(cfg.trainer, logger=False, callbacks=[], default_root_dir=None)
    device = trainer.strategy.root_device
    model = instantiate(cfg.model, classes=data.labels.classes).to(device)
    model.log = lambda *_, **__: None
    model.on_fit_start()
    loader = data.train_dataloader()
    labels = torch.tensor(loader.dataset.labels, device=device)
    ((kind, read),) = data.reader.read_fastest(loader.dataset.rows).items()
    read = read.to(device)
    optimizer = instantiate(cfg.optimizer, params=model.network.parameters())
    model.train()
    seconds, count = [], len(loader.sampler)
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for chosen in torch.randperm(len(read), device=device)[:count].split(data.batch_size):
            optimizer.zero_grad()
            batch = {kind: read[chosen], "label": labels[chosen]}
            model.training_step(batch, 0).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:]) / count


def time_plain(cfg: object, data: EmotionDataModule, root: Path, workers: int) -> float:
    """Seconds a clip of Lightning with a Dataset that reads wav and computes MFCC an item."""
    model, timer = instantiate(cfg.model, classes=data.labels.classes), EpochTimer()
    dataset = OneByOne(data, copy.deepcopy(model.frontend), root)  # it stays where files are read
    loader = DataLoader(dataset, data.batch_size, shuffle=True, num_workers=workers)
    trainer = lightning.Trainer(
        max_epochs=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[timer],
    )
    trainer.fit(model, loader, loader)  # without a second one Lightning warns
    return timer.seconds[-1] / len(dataset)


def main() -> None:
    """Compose the default experiment with the given overrides and print the times."""
    quiet_lightning()
    conf = Path(__file__).parents[2] / "conf"
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose("train", [*sys.argv[1:], "logger=none", "callbacks=progress"])
    data = instantiate(cfg.data)
    data.setup("fit")
    clips, root = len(data.train_dataloader().sampler), Path(data.root)
    # In turns, as a machine's pace wanders by more than the first two differ.
    turns = [(time_ours(cfg, data), time_bare(cfg, data)) for _ in range(TURNS)]
    ours, bare = map(median, zip(*turns, strict=True))
    plain, pooled = (time_plain(cfg, data, root, workers) for workers in (0, 2))
    print(f"{torch.get_num_threads()} threads, {clips} training clips an epoch")
    times = {"ser": ours, "bare loop": bare, "plain": plain, "plain, 2 workers": pooled}
    for name, seconds in times.items():
        print(f"{name:17} {1000 * seconds:7.2f} ms a clip {seconds * clips:8.1f} s an epoch")
    print(f"ser / bare loop          {ours / bare:6.2f}   (aim: at most 1.3)")
    print(f"plain / ser              {plain / ours:6.2f}   (aim: at least 8)")
    print(f"plain, 2 workers / ser   {pooled / ours:6.2f}")


if __name__ == "__main__":
    main()
