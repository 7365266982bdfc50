"""`pipeline("feature-extraction")` with boustro models: a vector for every text."""

import torch
from transformers import FeatureExtractionPipeline


class SentenceVectorPipeline(FeatureExtractionPipeline):
    r"""
    Sentence vectors: the posterior means of a text's segments, averaged; a list of Z numbers a text, or with
    `return_tensors=True` a tensor (Z,).

        vectors = pipeline("feature-extraction", model=folder, trust_remote_code=True)
        vectors(["The list", "A number"])

    The folder's `config.json` names this class, so that transformers asks for `trust_remote_code=True`.
    """

    def _forward(self, model_inputs):
        # pads are left out again, and a document gets its end mark
        found = self.model.encode(model_inputs["input_ids"])
        return {"vectors": found.mean.sum(1) / found.segment_count[:, None]}

    def postprocess(self, model_outputs: dict[str, torch.Tensor], return_tensors: bool = False):
        vector = model_outputs["vectors"][0].float()
        return vector if return_tensors else vector.tolist()
