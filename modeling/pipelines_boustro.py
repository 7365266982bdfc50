"""Pipelines for what can be done with latents; `save_pretrained` names them in `config.json`.

rewrite = pipeline("reconstruct", model="user/name", trust_remote_code=True)
rewrite("The list of names", max_new_tokens=40)  # {"text": "…"}
between = pipeline("interpolate", model="user/name", trust_remote_code=True)
between(("The list of names", "A number"), steps=5)  # {"texts": ["…", "…", "…", "…", "…"]}
between([["One text", "The other"], ["A", "B"]], batch_size=2)  # [{"texts": […]}, {"texts": […]}]
vectors = pipeline("feature-extraction", model="user/name", trust_remote_code=True)
vectors(["The list of names", "A number"])  # for each text a list of Z numbers
"""

import torch
from transformers import FeatureExtractionPipeline, Pipeline

CUSTOM_PIPELINES = {
    "feature-extraction": "pipelines_boustro.SentenceVectorPipeline",
    "reconstruct": "pipelines_boustro.ReconstructPipeline",
    "interpolate": "pipelines_boustro.InterpolatePipeline",
}


def custom_pipelines() -> dict[str, dict]:
    """The entry `custom_pipelines` of a config; a new one each time, for `pipeline` puts classes into it."""
    return {
        task: {"impl": impl, "pt": ["AutoModelForCausalLM"], "type": "text"} for task, impl in CUSTOM_PIPELINES.items()
    }


class _LatentPipeline(Pipeline):
    """Hands its input to a method of the model, with the options of the call; a list of inputs with `batch_size`."""

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def _sanitize_parameters(self, **options):
        return {}, options, {}

    def postprocess(self, model_outputs):
        return model_outputs


class ReconstructPipeline(_LatentPipeline):
    """Writes a text anew from its latents alone: `{"text": …}`. Options are those of `model.reconstruct`."""

    def preprocess(self, inputs):
        if not isinstance(inputs, str):
            raise ValueError(f"reconstruct got {inputs!r}, expected a text.")
        return {"texts": inputs}

    def _forward(self, model_inputs, **options):
        texts = model_inputs["texts"]  # one, or those of a batch
        found = self.model.reconstruct(texts, self.tokenizer, **options)
        return {"text": found[0] if isinstance(texts, str) else found}


class InterpolatePipeline(_LatentPipeline):
    """
    Texts on the way from the first to the second text of a pair, a tuple or a list of two: `{"texts": […]}`. Options
    are those of `model.interpolate`.
    """

    def __call__(self, inputs, **options):
        # a list of texts is one pair, not a list of inputs
        if isinstance(inputs, list) and any(isinstance(text, str) for text in inputs):
            inputs = tuple(inputs)
        return super().__call__(inputs, **options)

    def preprocess(self, inputs):
        pair = isinstance(inputs, tuple | list) and len(inputs) == 2 and all(isinstance(text, str) for text in inputs)
        if not pair:
            raise ValueError(f"interpolate got {inputs!r}, expected a pair of texts such as ('one', 'the other').")
        return {"a": inputs[0], "b": inputs[1]}

    def _forward(self, model_inputs, **options):
        return {"texts": self.model.interpolate(**model_inputs, tokenizer=self.tokenizer, **options)}


class SentenceVectorPipeline(FeatureExtractionPipeline):
    r"""
    Sentence vectors: the posterior means of a text's segments, averaged; a list of Z numbers a text, or with
    `return_tensors=True` a tensor (Z,).
    """

    def _forward(self, model_inputs):
        # pads are left out again, and a document gets its end mark
        found = self.model.encode(model_inputs["input_ids"])
        return {"vectors": found.mean.sum(1) / found.segment_count[:, None]}

    def postprocess(self, model_outputs: dict[str, torch.Tensor], return_tensors: bool = False):
        vector = model_outputs["vectors"][0].float()
        return vector if return_tensors else vector.tolist()


__all__ = ["InterpolatePipeline", "ReconstructPipeline", "SentenceVectorPipeline"]
