"""What of onnx's own test suite is not taken, each with its reason."""

from __future__ import annotations

__all__ = ["OPERATORS", "TESTS"]

_LATER = "no operator of convolutional networks"
_TEXT = "strings"
_SEQUENCE = "sequences and optional values"
_RECURRENT = "recurrent networks"
_LOOP = "repetition whose length depends on data"
_LANGUAGE = "language models"
_SOUND = "signal processing"
_CLASSIC = "classical machine learning (ai.onnx.ml)"
_RANDOM = "random numbers that no definition fixes"

OPERATORS: dict[str, str] = {
    **dict.fromkeys(
        ("Attention", "CausalConvWithState", "FlexAttention", "LinearAttention", "RotaryEmbedding", "SwiGLU"), _LANGUAGE
    ),
    "TensorScatter": _LANGUAGE,
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _RECURRENT),
    **dict.fromkeys(("Loop", "Scan"), _LOOP),
    **dict.fromkeys(
        (
            *("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt"),
            *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"),
            "SplitToSequence",
        ),
        _SEQUENCE,
    ),
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"), _TEXT),
    **dict.fromkeys(
        ("BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"),
        _SOUND,
    ),
    **dict.fromkeys(("ArrayFeatureExtractor", "Binarizer", "LabelEncoder", "TreeEnsemble"), _CLASSIC),
    **dict.fromkeys(("Bernoulli", "RandomUniformLike"), _RANDOM),
    "Det": _LATER,
    "Gradient": "the operator Gradient; networks are trained by nbcnn.Trainer",
    "ImageDecoder": "pictures are decoded before they are fed",
}
"""Operator -> why no test that has it is taken."""

TESTS: dict[str, str] = {
    "test_identity_opt": _SEQUENCE,
    "test_identity_sequence": _SEQUENCE,
    "test_if_opt": _SEQUENCE,
    "test_if_seq": _SEQUENCE,
}
"""Test -> why it is not taken, where others of its operators are."""
