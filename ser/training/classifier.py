"""The network classifier: channel, front end, augment, network, trained with Lightning."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from hydra.utils import instantiate
from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import cross_entropy

from ser.checkpoints import trust
from ser.config.quantities import Seed, Share
from ser.evaluation.metrics import metric_collection
from ser.features.augment import Noise, SpecAugment
from ser.features.channel import RandomChannel
from ser.features.frontend import build_frontend, sizes_of
from ser.models.layers import temper

log = logging.getLogger(__name__)


class EmotionClassifier(LightningModule):
    """Classifies waveforms (batch, samples) into emotions.

    Args:
        classes: Their names, in the order of the logits.
        frontend: Builds the front end, (batch, samples) -> features of the network's layout.
        network: Builds the network, given `classes` and the sizes of its layout. What it learns
            from the training clips, or fetches, before the first step is the task of its method
            `initialize`, if it has one.
        optimizer: Builds the optimiser, given the parameters; a network whose parameters have
            learning rates of their own gives them by its method `groups`.
        scheduler: Builds the schedule of the learning rate, stepped each epoch; None for none.
        augment: Builds what alters the features of training clips, or with `Noise` also their
            waveforms; None for nothing.
        channel: Builds what alters the spectra in dB that the front end analyses of training clips,
            before it finishes; None for nothing.
        label_smoothing: Share of the target spread over all classes.
        class_weights: `balanced` weighs a class by the inverse of its training clips.
        autocast: Whether training steps compute in bfloat16; `auto` where the processor multiplies
            matrices in it, and what it came to is what the checkpoint says.
        seed: Of everything random in training, together with the epoch.

    Attributes:
        temperature: By which `predict_step` divides the logarithms of probabilities, see
            `ser.evaluation.calibration`; None before it is fitted.
    """

    temperature: float | None = None

    def __init__(
        self,
        classes: Sequence[str],
        frontend: Mapping,
        network: Mapping,
        optimizer: Mapping,
        scheduler: Mapping | None = None,
        augment: Mapping | None = None,
        channel: Mapping | None = None,
        label_smoothing: Share = 0.0,
        class_weights: Literal["balanced"] | None = None,
        autocast: bool | Literal["auto"] = "auto",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        recipe = {"_target_": "ser.training.classifier.EmotionClassifier", **self.hparams}
        del recipe["classes"]
        trust.check(recipe, "model", "model")
        torch.manual_seed(seed)
        self.classes = list(classes)
        self.frontend = build_frontend(frontend, network)
        sizes = sizes_of(self.frontend)
        self.network = instantiate(network, classes=len(classes), **sizes)
        self.augment = instantiate(augment) if augment else torch.nn.Identity()
        self.channel = instantiate(channel) if channel else torch.nn.Identity()
        self.noisy = isinstance(self.augment, Noise)
        masks = self.augment.features if self.noisy else self.augment
        if isinstance(masks, SpecAugment) and self.frontend.layout != "planes":
            name = f"{type(masks).__module__}.{type(masks).__qualname__}"
            raise ValueError(
                f"{name} alters planes, but {frontend['_target_']}"
                f" gives features as {self.frontend.layout}: expected "
                + ("augment.features=null" if self.noisy else "augment=none")
            )
        if isinstance(self.channel, RandomChannel) and not self.frontend.in_decibels:
            raise ValueError(
                f"{channel['_target_']} alters spectra in dB, which {frontend['_target_']} does not"
                " analyse: expected channel=none, or frontend=mfcc"
            )
        self.val_metrics = metric_collection(classes, "val/")
        self.class_weights = None
        self.resumed: Mapping | None = None

    def on_load_checkpoint(self, checkpoint: Mapping) -> None:
        """Keep the hyperparameters with which a training that goes on has broken off."""
        self.resumed = checkpoint["hyper_parameters"]

    def on_fit_start(self) -> None:
        """Settle on the precision, and learn what the training clips tell before the first step."""
        # Not in `setup`: there the module is still on the CPU, wherever it will be trained.
        if self.hparams.autocast == "auto":
            self.hparams.autocast = self._multiplies_in_bfloat16()
        log.info("training steps compute in %s", "bfloat16" if self.hparams.autocast else "float32")
        if self.hparams.class_weights == "balanced":
            self.class_weights = self.trainer.datamodule.balanced_weights().to(self.device)
        # A training that is resumed has it from its checkpoint.
        if hasattr(self.network, "initialize") and self.resumed is None:
            data = self.trainer.datamodule
            self.network.initialize(lambda: data.training_features(self.frontend)[0])

    def on_train_start(self) -> None:
        """Set the optimiser of a training that goes on to the numbers of now.

        It has just got those of the checkpoint; the schedule keeps its phase.
        """
        if self.resumed is None:
            return
        before, now = self.resumed["optimizer"], self.hparams.optimizer
        changed = {key: value for key, value in now.items() if before.get(key) != value}
        lr = changed.pop("lr", None)
        for group in self.optimizers().param_groups:
            group.update(changed)
            # Groups may have rates of their own, which are their network's.
            if lr is not None and group.get("initial_lr", before["lr"]) == before["lr"]:
                group.update(lr=group["lr"] * lr / before["lr"], initial_lr=lr)
        if lr is not None and (schedule := self.lr_schedulers()) is not None:
            schedule.base_lrs = [group["initial_lr"] for group in schedule.optimizer.param_groups]

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of waveforms (batch, samples)."""
        return self.probabilities(self.frontend(waveform))

    def probabilities(self, features: Tensor) -> Tensor:
        """Return the probabilities (batch, classes) of features (batch, ...)."""
        return self.network(features).softmax(dim=1)

    def on_train_epoch_start(self) -> None:
        """Make all randomness a function of (seed, epoch): a resumed run repeats it."""
        epoch = 1_000_003 * (self.current_epoch + 1)
        torch.manual_seed(self.hparams.seed + epoch + 7919 * self.global_rank)
        # Published scores are of the numbers behind this one, but in the first epoch.
        if self.current_epoch > 0:
            torch.empty((), dtype=torch.int64).random_()
        self.log("train/lr", self.optimizers().param_groups[0]["lr"], sync_dist=True)

    def training_step(self, batch: Mapping[str, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a batch."""
        features = self.augment(self.frontend.of(self._recorded(batch), self.channel))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.hparams.autocast):
            logits = self.network(features)
        loss = cross_entropy(
            logits.float(),
            batch["label"],
            weight=self.class_weights,
            label_smoothing=self.hparams.label_smoothing,
        )
        options = {"on_epoch": True, "batch_size": len(features), "sync_dist": True}
        self.log("train/loss", loss, on_step=False, **options)
        return loss

    def _recorded(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a batch in which clips that the augmentation plays in noise are heard so."""
        if not self.noisy or not (chosen := self.augment.choose(batch["waveform"])).any():
            return batch
        altered = self.augment.record(batch["waveform"], chosen)
        if "analysed" in batch:  # beside the waveforms: what stays as it is need not be again
            # Two by two: of more, which are no longer in a processor's cache, each takes longer.
            analysed = torch.cat([self.frontend.analyse(part) for part in altered.split(2)])
            return {**batch, "analysed": batch["analysed"].index_put((chosen,), analysed)}
        return {**batch, "waveform": batch["waveform"].index_put((chosen,), altered)}

    def on_train_epoch_end(self) -> None:
        """Stop a training that has left the numbers."""
        # The mean over the epoch and over processes: all of them stop, or none.
        loss = self.trainer.callback_metrics["train/loss"].item()
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} in epoch {self.current_epoch}: expected a"
                " finite one; lower optimizer.lr"
            )

    def validation_step(self, batch: Mapping[str, Tensor], batch_index: int) -> None:
        """Score a validation batch."""
        logits = self.network(self.frontend.of(batch))
        self.val_metrics.update(logits, batch["label"])
        loss = cross_entropy(logits, batch["label"])
        self.log("val/loss", loss, batch_size=len(logits), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the epoch."""
        self.log_dict(self.val_metrics.compute(), sync_dist=True)
        self.val_metrics.reset()

    def predict_step(self, batch: Mapping[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Return each clip's row and probabilities, tempered."""
        probabilities = self.probabilities(self.frontend.of(batch))
        return {"row": batch["row"], "probabilities": temper(probabilities, self.temperature)}

    def configure_optimizers(self) -> tuple[list, list]:
        """Build the optimiser, and its schedule if there is one."""
        trained = [each for each in self.network.parameters() if each.requires_grad]
        groups = self.network.groups() if hasattr(self.network, "groups") else trained
        optimizer = instantiate(self.hparams.optimizer, _partial_=True)(groups)
        for group in optimizer.param_groups:
            # Groups share tuples such as Adam's betas, and a file that does is not read again.
            group.update({key: (*each,) for key, each in group.items() if isinstance(each, tuple)})
        scheduler = self.hparams.scheduler
        return [optimizer], [instantiate(scheduler, optimizer=optimizer)] if scheduler else []

    def _multiplies_in_bfloat16(self) -> bool:
        if self.device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        # AVX512_BF16 alone, without AMX, took 1.2 times as long as float32 on this network.
        return self.device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
