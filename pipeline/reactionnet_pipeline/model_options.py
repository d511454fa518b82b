"""What a model option comes to: weights on this machine, or a stage that is left out with a reason.

Every option takes `auto` (used if the weights lie in a cache or the hub answers within 10 s, else left out, and said
so), `none`, or a model *named* by the user, which has to be there: ValueError before any video is opened. Nothing heavy
is imported here, so that a command with nothing to do stays quick.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from reactionnet_datasets.sample import canonical_json, escape
from reactionnet_datasets.shards import file_sha256, write_atomic
from reactionnet_datasets.stores import Place
from reactionnet_pipeline.weights import DLIB_FACES, weights_file

AUTO, NONE = "auto", "none"
HUB_S = 10.0
BLIP = "Salesforce/blip-image-captioning-base"
BLIP_FILES = ("*.json", "*.txt", "*.safetensors", "pytorch_model.bin")
BLIP_NEEDS = ("config.json",)
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
DEEPFACE_FOLDER = Path(".deepface") / "weights"
DEEPFACE_NETS = (
    "age_model_weights",
    "gender_model_weights",
    "race_model_single_batch",
    "facial_expression_model_weights",
)
DEEPFACE_ENGINES = {"onnx": ".onnx", "pytorch": ".pth"}


# FaceNet on VGGFace2, where facenet-pytorch keeps it
FACENET_FILE = Path("torch") / "checkpoints" / "20180402-114759-vggface2.pt"
EMBEDDING_KINDS = (".dat", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Weights that lie on this machine. `files` are those that decide the output; `engine` is what runs them."""

    stage: str
    option: str
    name: str
    path: str
    files: tuple[str, ...]
    engine: str = "torch"

    def stamp(self) -> list[list]:
        """What tells, without reading them, whether files changed: name, size and time of change."""
        stats = [(name, (Path(self.path) / name).stat()) for name in self.files]
        return [[self.name, self.engine], *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats)]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A stage that does not run, why, and what to do to have it run."""

    stage: str
    reason: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights with the sha256 of their content, as the stages and their fingerprints take them."""

    name: str
    path: str
    digest: str
    engine: str = "torch"
    files: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """Where there is one file only."""
        return Path(self.path) / self.files[0]


def find_blip(option: str, ask_hub: bool = True) -> Found | LeftOut:
    """`--caption-model`: auto, none, a folder, or a name on the hub. ValueError where what is named cannot be had.

    Without `ask_hub`, `auto` makes do with what lies on this machine: enough to see that there is nothing to do.
    """
    remedy = f"--caption-model {BLIP} (1 GB, from the hub) or --caption-model FOLDER"
    if option == NONE:
        return LeftOut(stage="captions", reason="--caption-model none", remedy=remedy)
    if option == AUTO:
        try:
            folder = _cached_snapshot(BLIP) or (_downloaded(BLIP) if ask_hub and hub_answers(BLIP) else None)
        except ValueError:  # its text has numbers of requests, which do not belong into what is published
            return LeftOut(stage="captions", reason=f"{BLIP} cannot be fetched from the hub", remedy=remedy)
        if folder is None:
            reason = f"{BLIP} lies in no cache, and {_no_hub()}"
            return LeftOut(stage="captions", reason=reason, remedy=remedy)
        return _blip_in(folder, option, BLIP)
    if Path(option).is_dir():
        return _blip_in(Path(option), option, Path(option).resolve().name)
    if option.count("/") != 1 or option.startswith((".", "/", "~")):
        raise ValueError(f"--caption-model {option}: no such folder, and no name on the hub such as {BLIP}")
    folder = _cached_snapshot(option) or (_downloaded(option) if hub_answers(option) else None)
    if folder is None:
        raise ValueError(
            f"--caption-model {option}: it lies in no cache, and {_no_hub()}; check the name and the network, name a"
            " folder that holds it, or choose none"
        )
    return _blip_in(folder, option, option)


def _blip_in(folder: Path, option: str, name: str) -> Found:
    files = tuple(sorted(path.name for path in folder.iterdir() if any(path.match(kind) for kind in BLIP_FILES)))
    lacking = [name for name in BLIP_NEEDS if name not in files]
    if not any(file.endswith((".safetensors", ".bin")) for file in files):
        lacking.append(" or ".join(WEIGHT_FILES))
    if lacking:
        raise ValueError(f"--caption-model {option}: {folder} lacks {', '.join(lacking)}")
    return Found(stage="captions", option=option, name=name.rpartition("/")[2], path=str(folder.resolve()), files=files)


def _cached_snapshot(name: str) -> Path | None:
    """The folder in which Hugging Face's cache holds a whole model."""
    from huggingface_hub import try_to_load_from_cache

    for file in WEIGHT_FILES:
        config, weights = (try_to_load_from_cache(name, wanted) for wanted in ("config.json", file))
        if isinstance(config, str) and isinstance(weights, str):
            return Path(config).parent
    return None


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _no_hub() -> str:
    if _offline():
        return "HF_HUB_OFFLINE says not to ask the hub"
    return f"the hub did not offer it within {HUB_S:g} s"


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_answers(name: str, within_s: float = HUB_S) -> bool:
    """Whether the hub has a model and says so in time. HF_HUB_OFFLINE=1 spares the question."""
    if _offline():
        return False
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(f"{_endpoint()}/{name}/resolve/main/config.json", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=within_s) as answer:
                answers.append(answer.status < 400)
        except (OSError, ValueError):  # urllib's errors are OSErrors
            answers.append(False)

    # looking up a name has no time limit of its own, so the question is left behind where it takes too long
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(within_s)
    return bool(answers and answers[0])


def _downloaded(name: str) -> Path:
    """Fetch a model into Hugging Face's cache; a read that stalls for 10 s is an error, and what came so far is kept."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", str(round(HUB_S)))
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        api = HfApi(endpoint=_endpoint())
        offered = [file.rfilename for file in api.model_info(name, timeout=HUB_S).siblings or ()]
        spare = ["pytorch_model.bin"] if "model.safetensors" in offered else []
        return Path(
            snapshot_download(
                name, endpoint=_endpoint(), etag_timeout=HUB_S, allow_patterns=list(BLIP_FILES), ignore_patterns=spare
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{name} cannot be fetched from the hub: {error}; run again to go on, or choose none"
        ) from error


def find_deepface(option: str) -> Found | LeftOut:
    """`--demographics-model`: auto, none, or a folder as $DEEPFACE_HOME is. ValueError where a named one is not whole."""
    home = Path(os.environ.get("DEEPFACE_HOME") or Path.home())
    remedy = (
        "put DeepFace's age, gender, race and expression weights (.onnx or .pth) into"
        f" $DEEPFACE_HOME/{DEEPFACE_FOLDER}, or name such a home with --demographics-model"
    )
    if option == NONE:
        return LeftOut(stage="demographics", reason="--demographics-model none", remedy=remedy)
    folder = (home if option == AUTO else Path(option)) / DEEPFACE_FOLDER
    for engine, ending in DEEPFACE_ENGINES.items():
        files = tuple(f"{net}{ending}" for net in DEEPFACE_NETS)
        if all((folder / file).is_file() for file in files):
            return Found(
                stage="demographics", option=option, name=f"deepface-{engine}", path=str(folder.resolve()), files=files,
                engine=engine,
            )  # fmt: skip
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    lacking = [
        net for net in DEEPFACE_NETS if not any(f"{net}{ending}" in there for ending in DEEPFACE_ENGINES.values())
    ]
    if option == AUTO:
        what = ", ".join(lacking) if lacking else "a set of one kind"
        return LeftOut(stage="demographics", reason=f"DeepFace's weights are not here (no {what})", remedy=remedy)
    wanted = lacking or ["all four of one kind, .onnx or .pth"]
    raise ValueError(f"--demographics-model {option}: {folder} lacks {', '.join(wanted)}")


def find_embedding(option: str) -> Found | LeftOut:
    """`--embedding-model`: auto and dlib (weights come with a package), facenet, a file of either kind, none."""
    remedy = "--embedding-model dlib, facenet, or a file: dlib's .dat, or InceptionResnetV1 as .pt or .safetensors"
    if option == NONE:
        return LeftOut(stage="embeddings", reason="--embedding-model none", remedy=remedy)
    if option in (AUTO, "dlib"):
        try:
            path = weights_file(*DLIB_FACES)
        except FileNotFoundError as error:
            if option == AUTO:
                return LeftOut(stage="embeddings", reason=str(error), remedy=remedy)
            raise ValueError(f"--embedding-model dlib: {error}") from None
    elif option == "facenet":
        path = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch") / Path(*FACENET_FILE.parts[1:])
        if not path.is_file():
            raise ValueError(
                f"--embedding-model facenet: its weights are not at {path}; fetch them with"
                " python -c \"import facenet_pytorch; facenet_pytorch.InceptionResnetV1(pretrained='vggface2')\""
            )
    else:
        path = Path(option)
        if not path.is_file() or path.suffix not in EMBEDDING_KINDS:
            raise ValueError(f"--embedding-model {option}: no such file of weights; {remedy}")
    engine = "dlib" if path.suffix == ".dat" else "facenet"
    return Found(
        stage="embeddings",
        option=option,
        name=path.stem,
        path=str(path.resolve().parent),
        files=(path.name,),
        engine=engine,
    )


def with_digest(found: Found) -> Weights:
    """Read the files once for the sha256 of all of them."""
    digests = {name: file_sha256(Path(found.path) / name) for name in found.files}
    digest = hashlib.sha256(canonical_json(digests)).hexdigest()
    return Weights(name=found.name, path=found.path, digest=digest, engine=found.engine, files=found.files)


def checked(
    found: Sequence[Found], work: Place, devices: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, Weights], list[LeftOut]]:
    """Weights by stage, each tried out once on its device, in a process of its own, and remembered in the work folder.

    What cannot be loaded is a ValueError where the user named it, and left out where `auto` found it.
    """
    usable, left_out = {}, []
    for one in found:
        weights = with_digest(one)
        device = devices.get(one.stage, "cpu")
        marker = work / "models" / f"{one.stage}-{weights.digest[:16]}-{escape(device)}.json"
        if not marker.exists():
            where = weights.file if len(one.files) == 1 else one.path
            command = [sys.executable, "-P", "-m", f"reactionnet_pipeline.{one.stage}", str(where)]
            command += [device] if one.stage in devices else []
            tried = subprocess.run(command, capture_output=True, text=True, check=False)
            if tried.returncode:
                why = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
                if one.option != AUTO:
                    raise ValueError(f"{one.stage}: the weights in {one.path} cannot be used on {device}: {why[:400]}")
                # what is published names no folder of this machine
                reason = f"{one.name} cannot be used on {device}: {why.replace(one.path, one.name)[:400]}"
                left_out.append(
                    LeftOut(stage=one.stage, reason=reason, remedy="delete them, so that they are fetched anew")
                )
                continue
            write_atomic(marker, canonical_json({"name": weights.name, "digest": weights.digest}))
        usable[one.stage] = weights
    return usable, left_out


def stamps(found: Iterable[Found | LeftOut]) -> list:
    """All that a set of options decides, for telling whether there is anything to do; JSON values."""
    return [json.loads(json.dumps(one.stamp())) if isinstance(one, Found) else [one.stage, "none"] for one in found]
