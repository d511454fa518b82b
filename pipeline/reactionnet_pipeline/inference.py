"""Model stages in Beam: `RunInference` with one handler, which loads a model once a process and only when it is needed.

A stage is a small frozen object with `load()`, `run(element, model)` and `num_bytes(element)`. An element is a batch by
itself (one clip, one subject): what a model sees together follows from the data, never from how a runner bundles it.
`run` gets a function that returns the model, so that a rerun which finds all its results on file loads none.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from apache_beam.ml.inference.base import ModelHandler

from reactionnet_pipeline.isolated import one_thread


class Stage(Protocol):
    """What a model stage must know."""

    def load(self) -> Any:
        """The model, ready to run, in this process."""

    def run(self, element: Any, model: Callable[[], Any]) -> Any:
        """The result for one element."""

    def num_bytes(self, element: Any) -> int:
        """Bytes that the model is given for an element, for Beam's metrics."""


class Loaded:
    """A model that is loaded when it is first asked for, once for all threads."""

    def __init__(self, load: Callable[[], Any]):
        self._load, self._lock, self._model = load, threading.Lock(), None

    def __call__(self) -> Any:
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model


class OneByOne(ModelHandler[Any, Any, Loaded]):
    """Runs a stage on one element a call. What `run` raises is a fault of ours and stops the job."""

    def __init__(self, stage: Stage):
        super().__init__()
        self._stage = stage

    def should_skip_batching(self) -> bool:
        return True  # Beam's batches wait for the end of a bundle, which its DaskRunner never tells them of

    def get_preprocess_fns(self) -> Iterable[Callable[[Any], Any]]:
        return [_alone]

    def load_model(self) -> Loaded:
        one_thread()  # not every runner starts the workers with one
        return Loaded(self._stage.load)

    def run_inference(self, batch: Sequence[Any], model: Loaded, inference_args: Any = None) -> Iterable[Any]:
        return [self._stage.run(element, model) for element in batch]

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        return sum(map(self._stage.num_bytes, batch))  # Beam's own pickles every batch to find out


def _alone(element: Any) -> tuple[Any]:
    return (element,)
