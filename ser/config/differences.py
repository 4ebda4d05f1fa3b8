"""Differences of two configs: which values decide what a run computes, and are not the same."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from omegaconf import OmegaConf

FREE = (
    "fold", "folder", "group", "jobs", "logger", "cache", "name", "overwrite", "players",
    "resume", "resume_sweep",
    "data.cache", "data.cache_max_gb", "data.download", "data.servers",
)  # fmt: skip
"""Keys in which two starts of one run, or the folds of one cross-validation, may differ."""


def differences(run: Path, config: Mapping) -> list[str]:
    """List what a run's recorded config has otherwise than another: `key: value, not value`.

    Args:
        run: Its folder.
        config: The other config, not resolved, as plain containers.
    """
    recorded = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "config.yaml"))
    return differing(recorded, config)


def differing(config: Mapping, other: Mapping) -> list[str]:
    """List what one config has otherwise than another: `key: value, not value`."""
    one, two = dict(leaves(config)), dict(leaves(other))
    return [
        f"{key}: {one.get(key)}, not {two.get(key)}"
        for key in sorted({*one, *two})
        if not below(key, FREE) and one.get(key) != two.get(key)
    ]


def below(path: str, keys: Iterable[str]) -> bool:
    """Return whether a path such as `optimizer.lr` is one of some keys, or below one."""
    return f"{path}.".startswith(tuple(f"{key}." for key in keys))


def leaves(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Return the values of nested mappings by path, such as `optimizer.lr`; lists are values."""
    if isinstance(node, Mapping) and node:
        for key, child in node.items():
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
