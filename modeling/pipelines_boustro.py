"""Pipelines for what can be done with latents; `save_pretrained` names them in `config.json`.

rewrite = pipeline("reconstruct", model="user/name", trust_remote_code=True)
rewrite("The list of names", max_new_tokens=40)  # {"text": "…"}
between = pipeline("interpolate", model="user/name", trust_remote_code=True)
between(("The list of names", "A number"), steps=5)  # {"texts": ["…", "…", "…", "…", "…"]}
"""

from transformers import Pipeline

CUSTOM_PIPELINES = {
    "reconstruct": "pipelines_boustro.ReconstructPipeline",
    "interpolate": "pipelines_boustro.InterpolatePipeline",
}


def custom_pipelines() -> dict[str, dict]:
    """The entry `custom_pipelines` of a config; a new one each time, for `pipeline` puts classes into it."""
    return {
        task: {"impl": impl, "pt": ["AutoModelForCausalLM"], "type": "text"} for task, impl in CUSTOM_PIPELINES.items()
    }


class _LatentPipeline(Pipeline):
    """Hands its input to a method of the model, with the options of the call."""

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def _sanitize_parameters(self, **options):
        return {}, options, {}

    def preprocess(self, inputs):
        return {"inputs": inputs}

    def postprocess(self, model_outputs):
        return model_outputs


class ReconstructPipeline(_LatentPipeline):
    """Writes a text anew from its latents alone: `{"text": …}`. Options are those of `model.reconstruct`."""

    def _forward(self, model_inputs, **options):
        return {"text": self.model.reconstruct(model_inputs["inputs"], self.tokenizer, **options)[0]}


class InterpolatePipeline(_LatentPipeline):
    """
    Texts on the way from the first to the second text of a pair: `{"texts": […]}`. Options are those of
    `model.interpolate`.
    """

    def preprocess(self, inputs):
        if not (isinstance(inputs, tuple) and len(inputs) == 2 and all(isinstance(text, str) for text in inputs)):
            raise ValueError(f"interpolate got {inputs!r}, expected a pair of texts such as ('one', 'the other').")
        return {"inputs": inputs}

    def _forward(self, model_inputs, **options):
        start, end = model_inputs["inputs"]
        return {"texts": self.model.interpolate(start, end, tokenizer=self.tokenizer, **options)}


__all__ = ["InterpolatePipeline", "ReconstructPipeline"]
