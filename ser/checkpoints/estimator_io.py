"""Serialisation of fitted estimators by skops; bytes of others are checked before they are read."""

import io
import json
import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np
import skops.io
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.svm import SVC

from ser.checkpoints.renames import rename_estimator

TRUSTED = (
    "ser.models.gender_split.GenderSplit",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.isotonic.IsotonicRegression",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.preprocessing._label.LabelEncoder",
    "sklearn.utils._bunch.Bunch",
)
"""What fitting adds to what a recipe names, or skops does not know; it runs no code of the file."""

COMPILED = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "sklearn.neighbors._classification.KNeighborsClassifier",
    "sklearn.tree._tree.Tree",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)
"""What compiled code reads as it is, unchecked: from files of one's own alone."""

LOADERS = {
    "DictNode": {"builtins.dict", "sklearn.utils._bunch.Bunch"},
    "JsonNode": {"builtins.str"},
    "ListNode": {"builtins.list"},
    "NdArrayNode": {
        "numpy.ndarray", "numpy.bool", "numpy.float32", "numpy.float64", "numpy.int32",
        "numpy.int64",
    },
    "ObjectNode": None,
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": {"builtins.str", "numpy.float32", "numpy.float64", "numpy.int64"},
}  # fmt: skip
"""What skops writes these estimators as, and the types that each makes; types of objects are those
of the recipe and of `TRUSTED`."""

MATRICES = frozenset(
    ("_best_coefs", "_dual_coef_", "_fit_X", "coef_", "coefs_", "components_", "dual_coef_", "ms",
     "support_vectors_", "vs")
)  # fmt: skip
"""Attributes that hold matrices. Of all others an array of two axes, added to a vector, is one of
the size of their product."""

FEWEST_REPEATS = 2**26
"""Bytes that may be read besides those of the file, where parts of it are named twice."""


def dump(estimator: BaseEstimator) -> bytes:
    """Return the bytes of a fitted estimator, as skops writes them."""
    return skops.io.dumps(estimator)


def load(
    content: bytes, recipe: BaseEstimator, features: int, classes: int, compiled: bool
) -> BaseEstimator:
    """Return the fitted estimator that the bytes hold.

    Args:
        content: Its bytes.
        recipe: The same estimator, not fitted: nothing that it lacks may be in the bytes.
        features: How many it takes.
        classes: How many it tells apart.
        compiled: Whether `COMPILED` types may be in it.

    Raises:
        ValueError: It holds other types, or was altered.
    """
    named = {_name(part) for part in parts(recipe)}
    try:
        if not compiled:
            _check_archive(content)
        content = rename_estimator(content)
        types = {*skops.io.get_untrusted_types(data=content), *named.intersection(COMPILED)}
    except _CompiledError:
        raise
    except Exception as error:  # planted bytes can make skops raise anything
        raise ValueError(
            "the checkpoint's estimator is not what skops writes"
            f" ({str(error).partition(chr(10))[0] or type(error).__name__}): expected an untouched"
            " file; no code of it was run"
        ) from error
    trusted = {*TRUSTED, *COMPILED} if compiled else set(TRUSTED)
    if unknown := sorted(types - trusted):
        raise ValueError(
            f"the checkpoint's estimator holds the types {unknown}: expected only those"
            " of scikit-learn and NumPy that skops trusts; do not load it unless you made it"
        )
    try:
        with warnings.catch_warnings():  # its words are those of the file
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            estimator = skops.io.loads(content, trusted=sorted(types))
        _check_parts(estimator, recipe, named | trusted)
        if not compiled:
            _check_axes(estimator)
        answer = estimator.predict_proba(np.zeros((1, features), np.float32))
        if answer.shape != (1, classes) or not np.array_equal(estimator.classes_, range(classes)):
            raise ValueError(f"it tells {answer.shape[1]} classes apart, not {classes}")
    except Exception as error:  # so can whatever was altered
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"the checkpoint's estimator is not as its recipe makes it ({reason}): expected an"
            " untouched file; no code of it was run"
        ) from error
    return estimator


class _CompiledError(ValueError):
    """What the user may have meant to load."""


def _check_archive(content: bytes) -> None:
    """Refuse an archive that takes more memory than disk, or is read by other code.

    Raises:
        ValueError: Members are packed, claim more than they hold, are named too often, or hold one
            another.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = archive.infolist()
        sizes = {record.filename: record.file_size for record in records}
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if packed or sum(record.file_size for record in records) > len(content):
            raise ValueError("its records are packed or overlap")
        nodes = list(_nodes(json.loads(archive.read("schema.json"))))
        named = {f"{node['__module__']}.{node['__class__']}" for node in nodes}
        if found := sorted(named.intersection(COMPILED)):
            raise _CompiledError(
                f"the checkpoint's estimator holds {', '.join(found)}, which compiled code reads"
                " unchecked: if the file is your own, add compiled=true"
            )
        known, read = {}, 0
        for node in nodes:
            loader, name = node["__loader__"], f"{node['__module__']}.{node['__class__']}"
            if loader not in LOADERS or name not in (LOADERS[loader] or [name]):
                raise ValueError(f"{name} is read by {loader}")
            # What stands in several places is written in each: a short reference to much is not.
            number = node.get("__id__")
            if number in known and _written(known[number]) != _written(node):
                raise ValueError("two parts of it have one identity")
            known[number] = node
            if loader == "NdArrayNode":
                if node["type"] != "numpy":
                    raise ValueError("an array of it holds other than numbers")
                read += sizes[node["file"]]
                with archive.open(node["file"]) as member:
                    _check_array(member, sizes[node["file"]], name != "numpy.ndarray")
    if read > len(content) + FEWEST_REPEATS:
        raise ValueError("its records are read too often")


def _written(node: object) -> object:
    """Return a node without identities: what is made while it is written has one each time."""
    if isinstance(node, dict):
        return {key: _written(value) for key, value in node.items() if key != "__id__"}
    return [_written(value) for value in node] if isinstance(node, list) else node


def _check_array(member: io.BufferedIOBase, size: int, scalar: bool) -> None:
    """Refuse an array whose header promises more than its record holds: it is allocated first."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.kind not in "biufU" or (scalar and shape) or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array of {shape} is in a record of {size} bytes")


def _nodes(schema: object) -> Iterator[Mapping]:
    """Yield what skops builds; a mapping with an identity is always built."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if not {"__loader__", "__id__", "__class__", "__module__"}.isdisjoint(part):
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_parts(estimator: object, recipe: BaseEstimator, known: set[str]) -> None:
    found = parts(estimator)
    strange = {_name(part) for part in found if isinstance(part, BaseEstimator)} - known
    if strange or type(estimator) is not type(recipe):
        raise ValueError(f"it holds {', '.join(sorted(strange)) or _name(estimator)}")
    # A parameter that is not fitted has no arrays, and is never asked.
    machines = (part for part in found if isinstance(part, SVC) and hasattr(part, "_n_support"))
    if not all(map(_is_whole, machines)):
        raise ValueError("the arrays of an SVC do not fit together")


def _name(part: object) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _check_axes(estimator: BaseEstimator) -> None:
    """Refuse arrays of more axes than theirs: with others they would make one of any size."""
    for part in parts(estimator):
        for name, value in getattr(part, "__dict__", {}).items():
            most = 2 if name in MATRICES else 1
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(each, np.ndarray) and each.ndim > most for each in values):
                raise ValueError(
                    f"{name} of {_name(part)} is no {'vector' if most < 2 else 'matrix'}"
                )


def parts(whole: object) -> list[object]:
    """List an estimator and all that it holds, at any depth."""
    found, waiting = {}, [whole]
    while waiting:
        part = waiting.pop()
        if id(part) in found:
            continue
        found[id(part)] = part
        waiting += getattr(part, "__dict__", {}).values()
        if isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list | tuple | set):
            waiting += part
        elif isinstance(part, np.ndarray) and part.dtype == object:
            waiting += np.asarray(part).flat
    return list(found.values())


def _is_whole(svc: SVC) -> bool:
    """Return whether libsvm, which takes the sizes of these arrays on trust, stays inside them."""
    counts, coefficients, offsets = svc._n_support, svc._dual_coef_, svc._intercept_
    vectors, slopes, shifts = svc.support_vectors_, svc._probA, svc._probB
    arrays = (counts, coefficients, offsets, vectors, slopes, shifts, svc.support_)
    pairs = len(counts) * (len(counts) - 1) // 2
    return bool(
        all(type(array) is np.ndarray for array in arrays)
        # Each of these would have libsvm read the arrays in another way.
        and "_impl" not in vars(svc)
        and not svc._sparse
        and svc.kernel in ("linear", "poly", "rbf", "sigmoid")
        and (counts >= 0).all()
        and counts.sum() == len(vectors) == len(svc.support_)
        and coefficients.shape == (len(counts) - 1, len(vectors))
        and offsets.shape == (pairs,)
        and slopes.size == shifts.size
        and slopes.size in (0, pairs)
    )
