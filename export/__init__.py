"""A trained model in the formats of other programs: ONNX, word2vec."""
