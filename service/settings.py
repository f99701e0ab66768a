"""One frozen settings object, from `WHYSERVE_*` and from the options of `whyserve serve`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import WhyserveError

PREFIX = "WHYSERVE_"

# Kubernetes sets these for every Service in the namespace, so a Service named `whyserve` must not stop a container.
_SERVICE_LINK = re.compile(
    r"WHYSERVE(_[A-Z0-9_]+?)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_LINK_PORT = re.compile(r"WHYSERVE(_[A-Z0-9_]+)?_PORT")


class BadSetting(WhyserveError):
    """A setting is unknown or malformed; the message names it."""

    code = "bad_setting"


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or "@" in value or "?" in value or "#" in value:
        raise ValueError("expected http://HOST[:PORT] or https://HOST[:PORT]")
    return value.rstrip("/")


def _optional_url(value: str | None) -> str | None:
    return None if value is None else _url(value)


Keys = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything that can be set; every field is also `WHYSERVE_<FIELD>` and `whyserve serve --<field>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    models: Path = Field(default=Path("models"), description="model repository, or the folder of one bundle")
    model_name: str | None = Field(default=None, description="name for a single bundle (KServe mounts one at /mnt/models)")
    device: Annotated[str, AfterValidator(_device)] = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(default=0, ge=0, description="ONNX Runtime threads of one run; 0: what the CPU limit allows")
    model_memory_mib: int = Field(default=2048, ge=64, description="memory of runs on the CPU, all models together, without their weights")
    gpu_memory_mib: int = Field(default=0, ge=0, description="memory of one model's runs on the GPU, without its weights; 0: no bound")
    gpu_tf32: bool = Field(default=False, description="TF32 on the GPU: faster, answers differ from the CPU's in the third digit")
    role: Literal["all", "predictor", "explainer"] = Field(
        default="all", description="all; predictor: explanations are asked of another server; explainer: explains for predictors"
    )
    explainer_url: Annotated[str | None, AfterValidator(_optional_url)] = Field(
        default=None, description="where a predictor's explanations are computed, http://HOST:PORT of a server with --role explainer"
    )
    explainer_key: str | None = Field(default=None, description="key that a predictor sends to its explainer")
    explainer_key_file: Path | None = Field(default=None, description="file with that key")
    explainers: int = Field(default=1, ge=0, le=64, description="explainer processes; 0 turns explanations off")
    explainer_memory_mib: int = Field(default=2048, ge=512, description="memory budget of one explainer process")
    explainer_gpu_memory_mib: int = Field(
        default=4096,
        ge=512,
        description="share of one explainer process on the GPU: half for PyTorch, a quarter for a session's runs",
    )
    explainer_stall: float = Field(
        default=30.0, gt=0, description="seconds without progress after which an explainer process is replaced; waiting for a CPU is none"
    )
    key_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="part that one API key may hold at most: of the line of explanations, and of the asynchronous ones",
    )
    explainer_queue: int = Field(default=64, ge=1, description="explanations waiting or running at most")
    explanation_cache_mib: int = Field(default=64, ge=0, description="explanations kept to answer repeats; 0 keeps none")
    stored_explanations: int = Field(
        default=256, ge=0, description="asynchronous explanations waiting, running or kept at most; 0 turns them off"
    )
    stored_explanations_mib: int = Field(default=256, gt=0, description="memory of all asynchronous explanations")
    stored_explanations_seconds: float = Field(default=600.0, gt=0, description="seconds that an asynchronous explanation is kept")
    async_timeout: float = Field(default=600.0, gt=0, description="seconds an asynchronous explanation may take at most, waiting included")
    data: Path = Field(default=Path("data"), description="dataset cache (training only)")

    api_keys: Keys = Field(default=(), description="keys that may predict and explain, comma-separated; none: everyone may")
    api_keys_file: Path | None = Field(default=None, description="file with such keys, one a line")
    admin_keys: Keys = Field(default=(), description="keys that may change the repository, comma-separated; none: nobody may")
    admin_keys_file: Path | None = Field(default=None, description="file with such keys, one a line")

    max_body_mib: int = Field(default=64, gt=0, description="largest request body, also after decompression")
    max_pixels: int = Field(default=24_000_000, gt=0, description="largest picture, width x height")
    max_sound_samples: int = Field(default=24_000_000, gt=0, description="longest sound, samples x channels")
    max_decoding_mib: int = Field(default=512, gt=0, description="memory for all the pictures and sounds that are being decoded at once")
    max_instances: int = Field(default=256, gt=0, description="most instances of one request")
    max_characters: int = Field(default=100_000, gt=0, description="longest text")
    max_steps: int = Field(default=1000, gt=0, description="most steps a request may ask for")
    max_samples: int = Field(default=10_000, gt=0, description="most samples a request may ask for")
    timeout: float = Field(default=60.0, gt=0, description="seconds that a request may take at most")
    grace: float = Field(default=5.0, ge=0, description="seconds between SIGTERM (ready turns 503) and the end of listening")
    strict_ready: bool = Field(default=False, description="one refused bundle keeps the server not ready")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")

    @field_validator("api_keys", "admin_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @property
    def max_body_bytes(self) -> int:
        return self.max_body_mib * 2**20

    def require_role(self) -> None:
        """Raises BadSetting where the settings contradict the role."""
        to_others = self.explainer_url is not None
        keyed = self.explainer_key is not None or self.explainer_key_file is not None
        if self.role != "predictor" and to_others:
            raise BadSetting(f"setting {PREFIX}EXPLAINER_URL is a predictor's ({PREFIX}ROLE=predictor), the role is {self.role}")
        if self.role == "predictor" and not to_others and self.explainers:
            raise BadSetting(
                f"a predictor needs {PREFIX}EXPLAINER_URL, where its explanations are computed, "
                f"or {PREFIX}EXPLAINERS=0, which turns them off"
            )
        if self.role == "predictor" and to_others and not self.explainers:
            raise BadSetting(f"{PREFIX}EXPLAINERS=0 turns explanations off, {PREFIX}EXPLAINER_URL asks for them")
        if keyed and not to_others:
            raise BadSetting(f"setting {PREFIX}EXPLAINER_KEY goes with {PREFIX}EXPLAINER_URL")
        if self.role == "explainer" and not self.explainers:
            raise BadSetting(f"{PREFIX}EXPLAINERS=0 turns explanations off, {PREFIX}ROLE=explainer does nothing else")

    def key_of_explainer(self) -> str | None:
        """The key that a predictor sends. Raises BadSetting where the file can't be read or there are several."""
        found = _read_keys(self.explainer_key_file, "explainer_key_file") | ({self.explainer_key} if self.explainer_key else set())
        if len(found) > 1:
            raise BadSetting(f"setting {PREFIX}EXPLAINER_KEY: expected one key, got {len(found)} from it and its file")
        return next(iter(found), None)

    def keys(self) -> frozenset[str]:
        """Keys that may predict and explain. Raises BadSetting where the file can't be read."""
        return frozenset(self.api_keys) | _read_keys(self.api_keys_file, "api_keys_file")

    def administrators(self) -> frozenset[str]:
        """Keys that may change the repository. Raises BadSetting where the file can't be read."""
        return frozenset(self.admin_keys) | _read_keys(self.admin_keys_file, "admin_keys_file")


def load_settings(environment: Mapping[str, str] = os.environ, **options: Any) -> Settings:
    """Settings from the environment, overridden by options. Raises BadSetting naming what is unknown or malformed."""
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    values: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or _is_service_link(variable, value) or not value:
            continue
        if variable not in known:
            raise BadSetting(f"unknown setting {variable}; there are: {', '.join(sorted(known))}")
        values[known[variable]] = value
    try:
        return Settings(**values | options)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else "?"
        raise BadSetting(
            f"setting {PREFIX}{name.upper()} (or --{name.replace('_', '-')}): {problem['msg']}, got {problem['input']!r}"
        ) from None


def _is_service_link(variable: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(variable):
        return True
    return bool(_SERVICE_LINK_PORT.fullmatch(variable)) and re.match(r"(tcp|udp|sctp)://", value) is not None


def _read_keys(file: Path | None, setting: str) -> frozenset[str]:
    if file is None:
        return frozenset()
    try:
        lines = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"setting {PREFIX}{setting.upper()}: {type(error).__name__} when reading {file}") from None
    return frozenset(lines)
