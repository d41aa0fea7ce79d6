"""Captions of pictures, written by a model in a folder (extra ``captions``).

transformers runs it: BLIP (https://arxiv.org/abs/2201.12086), GIT (https://arxiv.org/abs/2205.14100)
or a vision encoder with a text decoder, such as ViT with GPT-2. The folder has to have the files
that ``save_pretrained`` writes, with weights as safetensors. Nothing is downloaded, and no code in
the folder runs.

A caption is greedily decoded: the same pixels give the same words. Pictures are read one at a time:
in batches of eight, a model of the size of BLIP base was no faster on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmsearch.core.derived import EnricherInput, EnricherOptions
from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, Hint, ModelUnavailableError, UsageError
from mmsearch.core.files import expand_user
from mmsearch.core.gpu_memory import has_nvidia_gpu
from mmsearch.core.plugins import require_packages
from mmsearch.core.texts import to_single_line
from mmsearch.core.types import IMAGE_KIND, EncoderSpec, Picture, Pixels, Text, TextSource

READS: Final = EnricherInput.PIXELS
KINDS: Final = frozenset({IMAGE_KIND, "video"})

FAMILIES: Final = ("blip", "git", "vision-encoder-decoder")
"""Types of models that need nothing but a picture, as ``model_type`` in config.json."""

MAX_TOKENS: Final = 40
"""Maximum number of tokens of a caption."""

RUNTIME_MB: Final = 1200
"""Memory of a process beside the weights of its model, in megabytes."""

DEFAULT_EDGE_PX: Final = 512
"""Short side to which a picture may be reduced, if the folder does not say what its model reads."""

_VERSION: Final = 1
_MODEL_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
_CODE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"})
_UNUSED_WEIGHTS: Final = "pooler"
"""Part of the names of weights that the decoder does not read: some checkpoints lack them."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a captioning model.

    Attributes:
        path: Its absolute path.
        family: One of `FAMILIES`.
        files: The files that its captions depend on, in the order of their names.
    """

    path: Path
    family: str
    files: tuple[Path, ...]

    @property
    def weights_mb(self) -> int:
        """Size of the weights in megabytes."""
        sizes = (file.stat().st_size for file in self.files if file.suffix == ".safetensors")
        return sum(sizes) // 1_000_000


def fingerprint(options: EnricherOptions, encoder: EncoderSpec) -> str:
    """Return what the captions depend on: the model's files, and the version of this code.

    The name of the folder is left out, so that it can be renamed and moved. The version of
    transformers is left out, too: captioning a library again takes hours.

    Raises:
        MissingExtraError: transformers is not installed.
        UsageError: No model was named.
        ModelUnavailableError: The folder has no captioning model that can be read.
    """
    require_packages("Captions of pictures", "captions", "transformers")
    model = open_model_folder(options.model_folder)
    _verify_weights(model)
    digest = hashlib.sha256(f"{_VERSION} {MAX_TOKENS}".encode())
    for path in model.files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return f"captions-{model.family}-{model.weights_mb}MB-{digest.hexdigest()[:16]}"


def wants(picture: Picture) -> bool:
    """Return True: what a model sees in a picture says something beside what a person wrote."""
    return True


def memory_mb(options: EnricherOptions) -> int:
    """Return the memory of a process that writes captions, in megabytes."""
    return open_model_folder(options.model_folder).weights_mb + RUNTIME_MB


def uses_gpu(device: str) -> bool:
    """Return True if captions are written on a GPU; see `Settings.device`."""
    return device in ("cuda", "mps") or (device == "auto" and has_nvidia_gpu())


def build(options: EnricherOptions) -> Captioner:
    """Return the writer of captions; it loads its model at once. On a CPU, it uses one thread.

    Called in the process in which it works: libraries of the hub are told to stay offline there.

    Raises:
        MissingExtraError: transformers is not installed.
        UsageError: No model was named, or torch cannot use the device.
        ModelUnavailableError: The folder has no captioning model that can be read.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    require_packages("Captions of pictures", "captions", "transformers")
    return Captioner(open_model_folder(options.model_folder), options.device)


def open_model_folder(folder: Path | None) -> ModelFolder:
    """Return the model in a folder.

    Raises:
        UsageError: No folder was named.
        ModelUnavailableError: It is not a folder with a captioning model.
    """
    if folder is None:
        raise UsageError(
            "No captioning model was named.",
            Hint(
                "Name the folder of one: {}",
                'index.describe("captions", caption_model=FOLDER)',
                "--captions FOLDER with 'mmsearch describe', "
                "--caption-model FOLDER with 'mmsearch index'",
            ),
        )
    path = expand_user(folder).absolute()
    if not path.is_dir():
        raise ModelUnavailableError(
            f"There is no folder {display_path(path)} with a captioning model.",
            "Captioning models are never downloaded: save one into a folder, and name the folder.",
        )
    config = _read_json(path / "config.json")
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise ModelUnavailableError(
            f"The folder {display_path(path)} has no captioning model: its config.json says"
            f" {family[:40]!r}.",
            f"Known: {', '.join(FAMILIES)}.",
        )
    files = sorted(file for file in path.iterdir() if file.suffix in _MODEL_SUFFIXES)
    if not any(file.suffix == ".safetensors" for file in files):
        raise _no_weights_error(path)
    return ModelFolder(path, family, tuple(files))


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailableError(
            f"The folder {display_path(path.parent)} has no captioning model: its {path.name} is"
            f" {'missing' if isinstance(error, FileNotFoundError) else 'not readable'}.",
            "Use a folder that save_pretrained of transformers wrote.",
        ) from error
    return value if isinstance(value, dict) else {}


def _no_weights_error(folder: Path) -> ModelUnavailableError:
    unsafe = sorted(file.name for file in folder.iterdir() if file.suffix in _CODE_SUFFIXES)
    if not unsafe:
        return ModelUnavailableError(
            f"The folder {display_path(folder)} has no weights (*.safetensors).",
            "Copy all files of the model into it.",
        )
    return ModelUnavailableError(
        f"The weights {unsafe[0]} in {display_path(folder)} are in a format that can carry code.",
        "Use a copy of the model with weights as safetensors: save_pretrained of transformers"
        " writes one.",
    )


def _verify_weights(model: ModelFolder) -> None:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only descriptions need it

    for path in model.files:
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, "np"):
                    pass
            except (SafetensorError, OSError) as error:
                raise ModelUnavailableError(
                    f"The weights {display_path(path)} are damaged or incomplete.",
                    "Copy the files of the model again.",
                ) from error


class Captioner:
    """Enricher that writes captions; see `mmsearch.core.enrichers.PixelEnricher`.

    Args:
        model: The model.
        device: ``auto`` (cuda, then cpu), ``cuda``, ``mps`` or ``cpu``.

    Raises:
        UsageError: torch cannot use the device.
        ModelUnavailableError: The files of the model cannot be read, or weights are missing.
    """

    def __init__(self, model: ModelFolder, device: str = "cpu") -> None:
        import torch  # noqa: PLC0415 - slow to import

        self._torch = torch
        self._device = _choose_device(device)
        if self._device == "cpu":
            torch.set_num_threads(1)
        try:
            self._load(model)
        except (MemoryError, ModelUnavailableError):
            raise
        # Its parts raise what they like.
        except Exception as error:
            raise ModelUnavailableError(
                f"The captioning model in {display_path(model.path)} cannot be loaded:"
                f" {_last_line(error)}",
                "Use a folder that save_pretrained of transformers wrote, with the files of its"
                " tokenizer and of its image processor.",
            ) from error

    def _load(self, model: ModelFolder) -> None:
        import transformers  # noqa: PLC0415 - an extra

        library: Any = transformers
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
        offline: Any = {"local_files_only": True, "trust_remote_code": False}
        self._processor: Any = library.AutoImageProcessor.from_pretrained(model.path, **offline)
        self._tokenizer: Any = library.AutoTokenizer.from_pretrained(model.path, **offline)
        loaded, report = library.AutoModelForImageTextToText.from_pretrained(
            model.path,
            use_safetensors=True,
            dtype=self._torch.float32,
            output_loading_info=True,
            **offline,
        )
        # Without its files, a tokenizer has no words but special ones.
        if len(self._tokenizer) < loaded.config.get_text_config(decoder=True).vocab_size // 2:
            raise ModelUnavailableError(
                f"The captioning model in {display_path(model.path)} lacks its tokenizer.",
                "Copy all files of the model.",
            )
        # They would be random numbers.
        missing = [name for name in report["missing_keys"] if _UNUSED_WEIGHTS not in name]
        if missing:
            raise ModelUnavailableError(
                f"The captioning model in {display_path(model.path)} lacks {len(missing)} of its"
                f" weights, such as {min(missing)}.",
                "Copy all files of the model, or use one that was trained to write captions.",
            )
        self._model: Any = loaded.eval().to(self._device)

    @property
    def edge_px(self) -> int:
        """Minimum short side in pixels to which a decoder may reduce a picture."""
        size = dict(getattr(self._processor, "size", None) or {})
        edges = [value for value in size.values() if isinstance(value, int)]
        return max(edges, default=DEFAULT_EDGE_PX)

    def read(self, pixels: Pixels) -> tuple[Text, ...]:
        """Return the caption of a picture; none if all of it has one colour.

        Its confidence is the geometric mean of the probabilities of its tokens.

        Raises:
            DecodeError: The picture cannot be read; the message is the reason.
        """
        if (pixels == pixels[0, 0]).all():
            return ()
        try:
            words, confidence = self._write(pixels)
        except MemoryError:
            raise
        # Its parts raise what they like.
        except Exception as error:
            raise DecodeError(f"no caption can be made of it: {_last_line(error)}") from error
        if not words or not confidence:
            return ()
        return (Text("caption", words, None, TextSource.CAPTIONS, None, confidence),)

    def _write(self, pixels: Pixels) -> tuple[str, float]:
        inputs = self._processor(
            images=np.array(pixels),  # torch warns about arrays that are not writable
            input_data_format="channels_last",
            return_tensors="pt",
        )
        with self._torch.inference_mode():
            written = self._model.generate(
                pixel_values=inputs["pixel_values"].to(self._device),
                do_sample=False,
                num_beams=1,
                max_new_tokens=MAX_TOKENS,
                return_dict_in_generate=True,
                output_logits=True,
            )
        tokens = written.sequences[0, -len(written.logits) :]
        logits = self._torch.stack([logits[0] for logits in written.logits]).float()
        chosen = logits.log_softmax(-1).gather(1, tokens[:, None])
        words = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return to_single_line(words), round(float(chosen.mean().exp()), 3)


def _choose_device(requested: str) -> str:
    import torch  # noqa: PLC0415 - loaded by now

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if requested == "auto":
        return "cuda" if usable["cuda"] else "cpu"
    if not usable.get(requested, True):
        raise UsageError(
            f"torch finds no {requested} device on this machine.", "Usable here: cpu, auto."
        )
    return requested


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
