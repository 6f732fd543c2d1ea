"""What the web UI's clients send. They know no strict types, send every field there is, and null for nothing.

Source: AUTOMATIC1111/stable-diffusion-webui 1.10, modules/api/models.py; webuiapi 0.9.17.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Real = Annotated[float, Field(allow_inf_nan=False)]
TaskId = Annotated[str, Field(min_length=1, max_length=200)]
Picture = Annotated[
    str, Field(description="A PNG, JPEG or WebP in base64, with or without `data:` before it.")
]


def nulls_are_fine(schema: dict[str, Any]) -> None:
    """For ``json_schema_extra``: says of every field that need not be sent that null may stand there."""
    for name, field in schema["properties"].items():
        if name in schema.get("required", ()):
            continue
        told = {word: field.pop(word) for word in ("title", "description", "default") if word in field}
        form = dict(field)
        field.clear()
        field.update({"anyOf": [*form.get("anyOf", [form]), {"type": "null"}], **told})


class Lax(BaseModel):
    """Deaf to names it does not know; null is a field that was not sent."""

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra=nulls_are_fine)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: each for name, each in value.items() if each is not None}
        return value


class GenerateRequest(Lax):
    """What both ways to draw have in common. The defaults are the web UI's, but for size and steps: what is
    not sent there is the model's own."""

    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] = []
    seed: Annotated[Whole, Field(description="-1: any; the one that was taken is told.")] = -1
    subseed: Whole = -1
    subseed_strength: Real = 0.0
    seed_resize_from_h: Whole = -1
    seed_resize_from_w: Whole = -1
    sampler_name: str = ""
    sampler_index: str = ""
    scheduler: str = ""
    batch_size: Annotated[int, Field(ge=1)] = 1
    n_iter: Annotated[int, Field(ge=1)] = 1
    steps: Annotated[int, Field(ge=1, le=150)] | None = None
    cfg_scale: Annotated[Real, Field(ge=0)] = 7.0
    width: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    height: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    restore_faces: bool = False
    tiling: bool = False
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: Real | None = None
    s_churn: Real = 0.0
    s_tmin: Real = 0.0
    s_tmax: Real = 0.0
    s_noise: Real = 1.0
    s_min_uncond: Real = 0.0
    override_settings: dict[str, Any] = {}
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str = ""
    refiner_switch_at: Real | None = None
    disable_extra_networks: bool = False
    firstpass_image: str = ""
    comments: dict[str, Any] = {}
    script_name: str = ""
    script_args: list[Any] = []
    alwayson_scripts: dict[str, Any] = {}
    controlnet_units: list[Any] = []
    send_images: bool = True
    save_images: bool = False
    force_task_id: TaskId | None = None
    infotext: str = ""

    @property
    def sampler(self) -> str:
        """The newer of its two names goes first."""
        return self.sampler_name or self.sampler_index


class Txt2ImgRequest(GenerateRequest):
    enable_hr: bool = False
    denoising_strength: Real | None = None
    firstphase_width: int = 0
    firstphase_height: int = 0
    hr_scale: Real = 2.0
    hr_upscaler: str = ""
    hr_second_pass_steps: int = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_checkpoint_name: str = ""
    hr_sampler_name: str = ""
    hr_scheduler: str = ""
    hr_prompt: str = ""
    hr_negative_prompt: str = ""


class Img2ImgRequest(GenerateRequest):
    init_images: list[Picture] = []
    resize_mode: Annotated[int, Field(ge=0, le=3, description="0 stretches, 1 crops, 2 fills.")] = 0
    denoising_strength: Annotated[Real, Field(ge=0, le=1)] = 0.75
    image_cfg_scale: Real | None = None
    mask: Picture = ""
    mask_blur: int | None = None
    mask_blur_x: int = 4
    mask_blur_y: int = 4
    mask_round: bool = True
    inpainting_fill: int = 0
    inpaint_full_res: bool | int = True
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = 0
    initial_noise_multiplier: Real | None = None
    latent_mask: str = ""
    include_init_images: bool = False


class GenerateAnswer(BaseModel):
    images: Annotated[list[str], Field(description="Files in base64; none with `send_images: false`.")]
    parameters: Annotated[dict[str, Any], Field(description="The request, with the values really used.")]
    info: Annotated[str, Field(description="JSON: seeds, steps, model, the text in each file, `job_ids`.")]


class ProgressState(BaseModel):
    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str
    job_count: Annotated[int, Field(description="Pictures of the request; 0: nothing waits or runs.")]
    job_timestamp: str
    job_no: Annotated[int, Field(description="Pictures that have ended.")]
    sampling_step: int
    sampling_steps: int


class ProgressAnswer(BaseModel):
    progress: Annotated[float, Field(description="0 to 1; 0: nothing waits or runs.")]
    eta_relative: Annotated[float, Field(description="Seconds left.")]
    state: ProgressState
    current_image: Annotated[str | None, Field(description="The newest preview, in base64.")]
    textinfo: str | None


class TaskProgress(BaseModel):
    """How far one request is; ``live_preview`` stands there when it is another than the client's."""

    active: bool
    queued: bool
    paused: bool
    completed: bool
    progress: float | None
    eta: float | None
    live_preview: str | None
    id_live_preview: int
    textinfo: str


class PendingTasks(BaseModel):
    size: int
    tasks: list[str]


class Checkpoint(BaseModel):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class MemoryOut(BaseModel):
    """``error`` stands in the place of figures that are not known."""

    ram: dict[str, int | str]
    cuda: dict[str, dict[str, int] | str]


class PngInfo(BaseModel):
    info: str
    items: dict[str, str]
    parameters: dict[str, str]


class ProgressRequest(Lax):
    id_task: TaskId
    id_live_preview: Whole = -1
    live_preview: bool = True


class PngInfoRequest(Lax):
    image: Picture
