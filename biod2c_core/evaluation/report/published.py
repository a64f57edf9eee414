"""The numbers that the paper prints in its Tables 1 and 2, to lay results beside them."""

from __future__ import annotations

# Row of the paper's Table 1 -> column of the profile ``multimedeval``, under the names that every output
# uses. The paper prints "opened ACC" and "ROUGE-1"; the latter is MultiMedEval's token recall, as its
# baselines are MultiMedEval's numbers.
TABLE_1_METRICS = {
    "closed ACC": "closed_accuracy",
    "open ACC": "open_accuracy",
    "BLEU-1": "bleu_1",
    "token recall": "token_recall",
}

# Data set of the paper -> ``source`` of its records here, and questions in its test split.
TABLE_1_DATA = {
    "SLAKE": ("slake", 1061),
    "RAD-VQA": ("vqa-rad", 451),
    "Path-VQA": ("path-vqa", 6719),
}

# Model -> data set -> values in the order of TABLE_1_METRICS.
TABLE_1: dict[str, dict[str, tuple[float, ...]]] = {
    "BioMedGPT": {
        "SLAKE": (0.248, 0.259, 0.175, 0.26),
        "RAD-VQA": (0.545, 0.14, 0.033, 0.372),
        "Path-VQA": (0.512, 0.053, 0.021, 0.287),
    },
    "LLaVA-Med-1.5": {
        "SLAKE": (0.536, 0.334, 0.002, 0.413),
        "RAD-VQA": (0.547, 0.276, 0.021, 0.342),
        "Path-VQA": (0.621, 0.036, 0.011, 0.116),
    },
    "MedVInT-TD": {
        "SLAKE": (0.498, 0.338, 0.213, 0.351),
        "RAD-VQA": (0.475, 0.195, 0.125, 0.235),
        "Path-VQA": (0.454, 0.022, 0.013, 0.034),
    },
    "RadFM": {
        "SLAKE": (0.752, 0.725, 0.746, 0.695),
        "RAD-VQA": (0.577, 0.335, 0.475, 0.438),
        "Path-VQA": (0.505, 0.005, 0.257, 0.221),
    },
    "BiMediX2-8B": {
        "SLAKE": (0.831, 0.729, 0.778, 0.786),
        "RAD-VQA": (0.725, 0.305, 0.552, 0.565),
        "Path-VQA": (0.872, 0.282, 0.587, 0.593),
    },
    "BioD2C": {
        "SLAKE": (0.763, 0.742, 0.766, 0.810),
        "RAD-VQA": (0.734, 0.310, 0.520, 0.588),
        "Path-VQA": (0.918, 0.291, 0.620, 0.628),
    },
}
TABLE_1_PRINTED_AVERAGES = {
    "BioMedGPT": 0.242,
    "LLaVA-Med-1.5": 0.271,
    "MedVInT-TD": 0.246,
    "RadFM": 0.453,
    "BiMediX2-8B": 0.616,
    "BioD2C": 0.641,
}

# Variant -> BLEU-1, token recall, GPT score / 10 on the BioVGQ test set.
TABLE_2_SOURCE = "biovgq"
TABLE_2: dict[str, tuple[float, float, float]] = {
    "BioD2C w/o L_sem": (0.408, 0.443, 0.623),
    "BioD2C w/o fm": (0.371, 0.428, 0.591),
    "BioD2C w/o BioVGQ": (0.324, 0.332, 0.483),
    "BioD2C": (0.427, 0.494, 0.649),
}
